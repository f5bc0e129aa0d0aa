"""To which trace a decision belongs."""

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.trace import get_tracer_provider

from auditlog.web.asgi import App, Receive, Scope, Send
from auditlog.web.middleware import AuditMiddleware
from auditlog.web.tracing import parse_traceparent
from tests.web import websocket_driver
from tests.web.asgi_driver import START, body, call, http_scope, script
from tests.web.fake_runtime import FakeRuntime

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01".encode()
TRACER = TracerProvider().get_tracer("tests")


@pytest.fixture
def runtime() -> Iterator[FakeRuntime]:
    made = FakeRuntime()
    yield made
    made.check()


def trace(runtime: FakeRuntime) -> Any:
    found = runtime.only().exchange.context.get("trace")
    return None if found is None else json.loads(found)


def scope(*parents: bytes) -> Scope:
    return http_scope(headers=[(b"traceparent", parent) for parent in parents])


def test_the_traceparent_of_the_client_is_recorded(runtime: FakeRuntime) -> None:
    call(AuditMiddleware(script(START, body()), runtime=runtime), scope=scope(PARENT))
    assert trace(runtime) == {
        "flags": "01",
        "source": "traceparent",
        "spanId": SPAN,
        "traceId": TRACE,
    }


@pytest.mark.parametrize(
    "parents",
    [
        (),
        (b"",),
        (PARENT, PARENT),
        (PARENT.upper(),),
        (PARENT + b" ",),
        (PARENT[:-1],),
        (PARENT + b"-x",),
        (b"ff" + PARENT[2:],),
        (f"00-{'0' * 32}-{SPAN}-01".encode(),),
        (f"00-{TRACE}-{'0' * 16}-01".encode(),),
        (b"\xff" * 55,),
        (b"00-" + b"a" * 100_000,),
        (b"01" + PARENT[2:] + b"-" + b"x" * 300,),
    ],
    ids=range(13),
)
def test_a_malformed_traceparent_is_none(
    runtime: FakeRuntime, parents: tuple[bytes, ...]
) -> None:
    app = AuditMiddleware(script(START, body()), runtime=runtime)
    call(app, scope=scope(*parents))
    assert trace(runtime) is None


def test_a_later_version_of_the_header_may_go_on() -> None:
    assert parse_traceparent(b"cc" + PARENT[2:] + b"-what-comes-later") is not None
    assert parse_traceparent(b"cc" + PARENT[2:]) is not None


def within_a_span(app: App) -> App:
    """Return an application behind a foreign middleware that makes a span."""

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        with TRACER.start_as_current_span("server"):
            await app(scope, receive, send)

    return wrapped


@pytest.mark.parametrize("outside", [True, False])
def test_an_active_span_is_recorded_wherever_it_begins(
    runtime: FakeRuntime, outside: bool
) -> None:
    app = script(START, body())
    if outside:
        wrapped = within_a_span(AuditMiddleware(app, runtime=runtime))
    else:
        wrapped = AuditMiddleware(within_a_span(app), runtime=runtime)
    call(wrapped)
    found = trace(runtime)
    assert found["source"] == "opentelemetry"
    assert len(found["traceId"]) == 32
    assert len(found["spanId"]) == 16


@pytest.mark.parametrize("outside", [True, False])
def test_the_span_of_a_websocket_is_recorded_wherever_it_begins(
    runtime: FakeRuntime, outside: bool
) -> None:
    app = script(websocket_driver.ACCEPT, websocket_driver.close())
    if outside:
        wrapped = within_a_span(AuditMiddleware(app, runtime=runtime))
    else:
        wrapped = AuditMiddleware(within_a_span(app), runtime=runtime)
    websocket_driver.session(wrapped, websocket_driver.client())
    assert "websocket.close" in runtime.only().exchange.context
    assert trace(runtime)["source"] == "opentelemetry"


def test_a_span_of_ours_says_more_than_the_client(runtime: FakeRuntime) -> None:
    app = within_a_span(AuditMiddleware(script(START, body()), runtime=runtime))
    call(app, scope=scope(PARENT))
    assert trace(runtime)["source"] == "opentelemetry"
    assert trace(runtime)["traceId"] != TRACE


def test_a_tracer_that_fails_harms_nobody(
    runtime: FakeRuntime, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise LookupError("foreign")

    assert get_tracer_provider() is not None
    monkeypatch.setattr("opentelemetry.trace.get_current_span", broken)
    app = AuditMiddleware(script(START, body(b"x")), runtime=runtime)
    assert call(app, scope=scope(PARENT)).body() == b"x"
    assert trace(runtime)["source"] == "traceparent"


def test_opentelemetry_is_never_imported_by_us() -> None:
    program = (
        "import sys, asyncio, auditlog\n"
        "from tests.web.asgi_driver import START, body, call, script\n"
        "from tests.web.fake_runtime import FakeRuntime\n"
        "runtime = FakeRuntime()\n"
        "call(auditlog.AuditMiddleware(script(START, body()), runtime=runtime))\n"
        "runtime.only()\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])\n"
    )
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
