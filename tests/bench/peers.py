"""Other people's software, loaded late and only if it is there."""

import importlib
import io
import json
import logging
import sys
import time
from collections.abc import Callable, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from starlette.middleware.base import BaseHTTPMiddleware, RequestResponseEndpoint
from starlette.requests import Request
from starlette.responses import Response

from auditlog.web.asgi import App

__all__ = ["MIDDLEWARE", "NOT_INSTALLED", "Peer", "add_directory", "has", "load"]

NOT_INSTALLED = "not inst."
"""Short enough for the table; the note under it says how to install peers."""


class Peer(NamedTuple):
    """A middleware that somebody else wrote."""

    name: str
    distribution: str | None
    """None for what is written here, after a common recipe."""
    wrap: Callable[[App], App]

    @property
    def title(self) -> str:
        """Its name with its version."""
        if self.distribution is None or not has(self.distribution):
            return self.name
        return f"{self.name} {metadata.version(self.distribution)}"

    @property
    def installed(self) -> bool:
        """Whether it can be measured."""
        return self.distribution is None or has(self.distribution)


def add_directory(directory: Path) -> None:
    """Let peers be found there; what the project has itself comes first."""
    if directory.is_dir() and str(directory) not in sys.path:
        sys.path.append(str(directory))


def has(distribution: str) -> bool:
    """Return whether a distribution is installed."""
    try:
        metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return False
    return True


def load(module: str) -> Any:
    """Import a module of a peer, about whose types nothing is known."""
    return importlib.import_module(module)


def _opentelemetry(app: App) -> App:
    export = load("opentelemetry.sdk.trace.export")

    class Discard(export.SpanExporter):  # type: ignore[misc, name-defined]
        def export(self, spans: Sequence[object]) -> Any:
            return export.SpanExportResult.SUCCESS

    provider = load("opentelemetry.sdk.trace").TracerProvider()
    provider.add_span_processor(export.BatchSpanProcessor(Discard()))
    asgi = load("opentelemetry.instrumentation.asgi")
    wrapped: App = asgi.OpenTelemetryMiddleware(app, tracer_provider=provider)
    return wrapped


class _BodyLogger(BaseHTTPMiddleware):
    """The recipe found everywhere: read both bodies, log them as a line of JSON."""

    def __init__(self, app: App) -> None:
        super().__init__(app)
        self._log = logging.getLogger(f"{__name__}.bodies")
        self._log.handlers = [logging.StreamHandler(_Nowhere())]
        self._log.propagate = False
        self._log.setLevel(logging.INFO)

    async def dispatch(
        self, request: Request, call_next: RequestResponseEndpoint
    ) -> Response:
        start = time.perf_counter()
        asked = await request.body()
        response = await call_next(request)
        chunks = response.body_iterator  # type: ignore[attr-defined]
        answer = b"".join([chunk async for chunk in chunks])
        line = {
            "method": request.method,
            "path": request.url.path,
            "status": response.status_code,
            "request": asked.decode(),
            "response": answer.decode(),
            "seconds": time.perf_counter() - start,
        }
        self._log.info(json.dumps(line))
        return Response(answer, response.status_code, dict(response.headers))


class _Nowhere(io.StringIO):
    """A stream that forgets."""

    def write(self, text: str) -> int:
        return len(text)


def _auditry(app: App) -> App:
    auditry, cids = load("auditry.fastapi"), load("asgi_correlation_id")
    models, logs = load("auditry.models"), load("auditry.logging_config")
    root = logging.getLogger()
    before = root.handlers[:], root.level
    stdout, sys.stdout = sys.stdout, _Nowhere()
    try:
        logs.configure_logging(service="bench", environment="production")
    finally:
        sys.stdout = stdout
    # Its lines alone go nowhere; the rest of this process logs as before.
    own = logging.getLogger("auditry")
    own.handlers, own.propagate = root.handlers[:], False
    own.setLevel(root.level)
    root.handlers[:], level = before
    root.setLevel(level)
    config = models.ObservabilityConfig(
        service_name="bench", log_request_body=True, log_response_body=True
    )
    inner = auditry.FastAPIMiddleware(app, config=config)
    wrapped: App = cids.CorrelationIdMiddleware(inner)
    return wrapped


def _bh_fastapi_audit(app: App) -> App:
    bh = load("bh_fastapi_audit")

    class Discard:
        def emit(self, event: object) -> None:
            """Take an event."""

    config = bh.AuditConfig(service_name="bench")  # it has telemetry: off by default
    wrapped: App = bh.AuditMiddleware(app, Discard(), config)
    return wrapped


MIDDLEWARE = (
    Peer("OpenTelemetry ASGI", "opentelemetry-instrumentation-asgi", _opentelemetry),
    Peer("body-logging BaseHTTPMiddleware", None, _BodyLogger),
    Peer("auditry", "auditry", _auditry),
    Peer("bh-fastapi-audit", "bh-fastapi-audit", _bh_fastapi_audit),
)
