"""To which trace a request belongs: W3C Trace Context, or an OpenTelemetry span.

The leaf ``context/trace`` holds `flags`, `spanId` and `traceId` in hex, and `source`,
which is ``opentelemetry`` or ``traceparent``. A span of this service says more than
what the client claims, so it wins. OpenTelemetry is never imported here: where nobody
has imported it, no span is active.
"""

import re
import sys
from collections.abc import Mapping
from typing import Any

from auditlog.core.record import canonical_json

__all__ = [
    "OPENTELEMETRY",
    "active_span",
    "parse_traceparent",
    "trace_leaf",
    "traceparent",
]

# W3C Trace Context §3.2.2: a later version may go on after the flags.
_PARENT = re.compile(
    rb"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-([0-9a-f]{2})"
    rb"(-[\x21-\x7e]{0,256})?"
)
OPENTELEMETRY = "opentelemetry.trace"
"""The module without which no span is active."""


def traceparent(scope: Mapping[str, Any]) -> bytes | None:
    """Return the header of that name as sent; None without one.

    More than one is as good as none (W3C Trace Context §3.2.1).
    """
    parent = None
    # Servers give names in lower case (ASGI specification).
    for name, value in scope.get("headers", ()):
        if name == b"traceparent":
            parent = b"" if parent is not None else bytes(value)
    return parent


def trace_leaf(parent: bytes | None) -> bytes | None:
    """Return the leaf for a request that begins now; None if it belongs to no trace."""
    return active_span() or (None if parent is None else parse_traceparent(parent))


def parse_traceparent(value: bytes) -> bytes | None:
    """Return the leaf of a traceparent header; None if it is malformed.

    Strict, as W3C Trace Context asks: a header that is malformed is ignored whole.
    """
    match = _PARENT.fullmatch(value)
    if match is None or (match[1] == b"00" and match[5] is not None):
        return None
    trace, span, flags = match[2], match[3], match[4]
    return _leaf("traceparent", trace.decode(), span.decode(), flags.decode())


def active_span() -> bytes | None:
    """Return the leaf of the OpenTelemetry span that is active; None without one."""
    api = sys.modules.get(OPENTELEMETRY)
    if api is None:
        return None
    try:
        context = api.get_current_span().get_span_context()
        if not context.is_valid:
            return None
        trace, span = f"{context.trace_id:032x}", f"{context.span_id:016x}"
        return _leaf("opentelemetry", trace, span, f"{int(context.trace_flags):02x}")
    except Exception:  # noqa: BLE001 - whatever a foreign tracer does
        return None


def _leaf(source: str, trace: str, span: str, flags: str) -> bytes:
    return canonical_json(
        {"flags": flags, "source": source, "spanId": span, "traceId": trace}
    )
