"""What is recorded: a decision with 1 KiB of JSON each way, four members in each."""

import json
import os
from collections.abc import Callable
from typing import Any, NamedTuple

from fastapi import FastAPI, Request, Response

from auditlog.capture.exchange import Exchange
from auditlog.log.identity import new_id
from auditlog.storage import IndexRow, SpoolItem
from auditlog.web.asgi import App
from tests.log.builders import exchange, now_us

__all__ = ["ENDPOINTS", "KIB", "Endpoint", "entry_items", "exchanges", "kib_of_json"]

KIB = 1024


def kib_of_json() -> bytes:
    """Return 1 KiB of JSON: a request, or an answer, with four members."""
    body: dict[str, Any] = {
        "applicant": {f"feature_{number:02}": number / 7 for number in range(24)},
        "product": "loan",
        "currency": "EUR",
        "note": "",
    }
    text = json.dumps(body, separators=(",", ":"))
    body["note"] = "x" * (KIB - len(text))
    return json.dumps(body, separators=(",", ":")).encode()


BODY = kib_of_json()


class Endpoint(NamedTuple):
    """An application to put behind a middleware, and a request to it."""

    name: str
    make: Callable[[], App]
    target: str
    body: bytes


def _echo_app() -> App:
    app = FastAPI()

    @app.post("/echo")
    async def echo(request: Request) -> Response:
        return Response(await request.body(), media_type="application/json")

    return app


def _demo_app() -> App:
    # Trains two models; whoever measures only the echo need not wait for it.
    from demo_service.app import create_service  # noqa: PLC0415

    return create_service()


def _demo_body() -> bytes:
    # As above.
    from demo_service.models import load_data  # noqa: PLC0415

    return json.dumps({"features": load_data().test_rows()[0]}).encode()


ENDPOINTS: dict[str, Callable[[], Endpoint]] = {
    "echo": lambda: Endpoint("echo", _echo_app, "/echo", BODY),
    "demo": lambda: Endpoint("demo model", _demo_app, "/predict", _demo_body()),
}


def exchanges(count: int) -> list[Exchange]:
    """Return finished exchanges, 1 KiB each way; their numbers are to be given."""
    return [exchange(0, BODY, BODY) for _ in range(count)]


def entry_items(count: int, size: int = KIB) -> list[SpoolItem]:
    """Return prepared entries of `size` bytes, without content to seal."""
    time_us = now_us()
    return [_entry_item(time_us, size) for _ in range(count)]


def _entry_item(time_us: int, size: int) -> SpoolItem:
    id_ = new_id(time_us)
    entry = id_.hex().encode() + os.urandom(size - 2 * len(id_))
    return SpoolItem(entry, IndexRow(None, id_, "auditlog.gap.v1", time_us))
