"""The one line as a function, which says clearly when it comes too late."""

from typing import Any, Unpack

from auditlog.core.errors import ConfigurationError
from auditlog.models.identity import Model
from auditlog.options import Options
from auditlog.web.middleware import AuditMiddleware
from auditlog.web.models import ModelSource
from auditlog.web.subjects import SubjectSource

__all__ = ["install"]


def install(
    app: Any,
    *,
    model: str | Model | ModelSource | None = None,
    subject: SubjectSource | None = None,
    **options: Unpack[Options],
) -> None:
    """Put `AuditMiddleware` into an application of FastAPI, Starlette or Quart.

    Call it where the application is made, not in its start-up. Wrong options are
    refused here rather than at the start.

    Args:
        app: the application, which is changed in place.
        model: as for `AuditMiddleware`.
        subject: likewise.
        options: fields of `auditlog.config.Config`, by name.

    Raises:
        ConfigurationError: an option does not fit, the application has started, or it
            is of another kind and has to be wrapped.
    """
    # Starlette would say it when it starts; and what is refused changes nothing.
    AuditMiddleware(_nothing, model=model, subject=subject, **options)
    if hasattr(app, "add_middleware") and hasattr(app, "middleware_stack"):
        if app.middleware_stack is not None:
            raise ConfigurationError(
                "expected to be installed before the application starts, but it has "
                "started: call auditlog.install(app) where the application is made"
            )
        app.add_middleware(AuditMiddleware, model=model, subject=subject, **options)
    elif hasattr(app, "asgi_app"):
        inner = app.asgi_app
        app.asgi_app = AuditMiddleware(inner, model=model, subject=subject, **options)
    else:
        raise ConfigurationError(
            "expected an application of FastAPI, Starlette or Quart, got "
            f"{type(app).__name__}: wrap it, app = auditlog.AuditMiddleware(app)"
        )


async def _nothing(*_: object) -> None:
    """Stand in for an application while options are checked."""
