"""The demo's text model, whose clock stands still and random numbers do not change.

So two services answer alike, byte for byte. ``LOGGED`` says whether the audit log is
around it: ``logged`` or ``plain``. The demo's other models take seconds to load, and
are left out.
"""

import os

from fastapi import FastAPI

from auditlog import AuditMiddleware
from demo_service.text.answer import Clerk
from demo_service.text.model import train_text_model
from demo_service.text.routes import add_text_model

app = FastAPI()
add_text_model(
    app, Clerk(train_text_model(), lambda: 1_800_000_000, lambda size: "5a" * size)
)
if os.environ["LOGGED"] == "logged":
    app.add_middleware(AuditMiddleware)
