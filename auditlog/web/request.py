"""A decision that is one HTTP request and its answer."""

import time

from auditlog.capture.exchange import Body
from auditlog.capture.tap import Tap
from auditlog.log.decision import Decision
from auditlog.web.asgi import Receive, Send, entity_headers, settle_extensions
from auditlog.web.opened import Arrival, Opened, draw, open_exchange
from auditlog.web.responder import Responder

__all__ = ["open_request"]


def open_request(call: Arrival, receive: Receive, send: Send) -> Responder:
    """Open a decision; after this, `Responder.run` must be called.

    Args:
        call: the request.
        receive: the server's channel.
        send: the server's channel.

    Raises:
        Exception: whatever the runtime raises; nothing is open then.
    """
    started = time.perf_counter_ns()
    rules, runtime, scope, _, now = call
    id_, secret = draw(now)
    media_type, coding = entity_headers(scope)
    request = Body(
        secret,
        0,
        rules.limit,
        media_type=media_type,
        coding=coding,
        spills=rules.spills,
    )
    response = Body(
        secret, 1, rules.limit, before=request, depth=rules.depth, spills=rules.spills
    )
    # Mounts and other middleware change a scope in place: it is read here.
    method = scope["method"]
    tap = Tap(
        request=request,
        response=response,
        head=method == "HEAD",
        trailers=settle_extensions(scope),
    )
    exchange = open_exchange(call, method, id_, request, response)
    decision = Decision(id_, runtime.open, rules.closed)
    opened = Opened(rules, runtime, scope, decision, tap, exchange, started)
    return Responder(opened, scope, receive, send, tap)
