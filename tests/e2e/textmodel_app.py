"""The demo's service, whose clock stands still and whose random numbers do not change.

So two of them answer alike, byte for byte. ``LOGGED`` says whether the audit log is
around it: ``logged`` or ``plain``.
"""

import os

from demo_service.app import audited, create_service
from demo_service.text.answer import Clerk
from demo_service.text.model import train_text_model

_clerk = Clerk(train_text_model(), lambda: 1_800_000_000, lambda size: "5a" * size)
_service = create_service(_clerk)
app = audited(_service) if os.environ["LOGGED"] == "logged" else _service
