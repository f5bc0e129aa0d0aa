"""A service in the framework that ``FRAMEWORK`` names, behind the one line."""

import os

import auditlog
from tests.web.framework_apps import make

app = auditlog.AuditMiddleware(make(os.environ["FRAMEWORK"]))
