"""Small logs and exchanges for the tests of the log."""

import os
import time
from pathlib import Path

from auditlog.capture.exchange import Body, Exchange
from auditlog.config import Config
from auditlog.core.record import Entry
from auditlog.log.identity import new_id
from auditlog.log.preparation import plain_item
from auditlog.storage import SpoolItem

__all__ = ["config_of", "exchange", "gap_items", "now_us"]

ORIGIN = "log.example/tests"


def now_us() -> int:
    """Return the time in microseconds."""
    return time.time_ns() // 1000


def config_of(directory: Path, **options: object) -> Config:
    """Return a configuration with short intervals."""
    values: dict[str, object] = {
        "dir": directory,
        "origin": ORIGIN,
        "checkpoint_interval": 0.05,
        **options,
    }
    return Config(**values)  # type: ignore[arg-type]


def exchange(
    sequence: int,
    request: bytes | Body = b'{"age": 41, "name": "Ada"}',
    response: bytes | Body = b'{"decision":"approve","score":0.87}',
    **fields: object,
) -> Exchange:
    """Return a finished exchange of two JSON bodies."""
    secret = os.urandom(32)
    bodies: list[Body] = []
    for data in (request, response):
        before = bodies[0] if bodies else None
        one = _body(secret, data, before) if isinstance(data, bytes) else data
        bodies.append(one)
    for body, side in zip(bodies, ("request", "response"), strict=True):
        given = fields.pop(f"{side}_type", "application/json")
        body.media_type = given  # type: ignore[assignment]
    time_us = now_us()
    values: dict[str, object] = {
        "id": new_id(time_us),
        "secret": secret,
        "sequence": sequence,
        "time": time_us,
        "method": "POST",
        "route": "/score",
        "target": b"/score?lang=en",
        "request": bodies[0],
        "response": bodies[1],
        "status": 200,
        "duration": 1234,
        **fields,
    }
    return Exchange(**values)  # type: ignore[arg-type]


def _body(secret: bytes, data: bytes, before: Body | None) -> Body:
    body = Body(secret, int(before is not None), 1 << 20, before=before)
    body.feed(data)
    body.state = "complete"
    return body


def gap_items(count: int, first: int = 0, origin: str = ORIGIN) -> list[SpoolItem]:
    """Return items of entries that carry no content."""
    time_us = now_us()
    items = []
    for number in range(first, first + count):
        entry = Entry(
            new_id(time_us), "auditlog.gap.v1", origin, time_us, {"from": number}
        )
        items.append(plain_item(entry))
    return items
