"""What callers of the service send: real rows, singly, in batches, and streamed."""

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

from demo_service.client import http
from demo_service.processes import DemoError

__all__ = ["KINDS", "Call", "Decision", "make_calls", "send"]

KINDS = ("json", "batch", "stream")
_PATHS = {"json": "/predict", "batch": "/predict/batch", "stream": "/predict/stream"}
_CALLERS = 4
_ROWS = 5
"""Rows in a batch or a stream."""
_PATIENTS = 97
_NAMES = (
    *("Ada", "Blaise", "Carl", "Dana", "Emmy"),
    *("Florence", "Grace", "Hedy", "Ida", "Joan"),
)


class Call(NamedTuple):
    """One call to the service."""

    kind: str
    """One of `KINDS`."""
    version: str
    body: dict[str, Any]


class Decision(NamedTuple):
    """One answered call, as its caller remembers it."""

    id: str
    """From the ``decision-id`` header."""
    call: Call
    answer: bytes
    """The response body."""

    @property
    def patient(self) -> str:
        """Number of the patient whom it is about."""
        return str(self.call.body["patient"]["number"])


def make_calls(rows: Sequence[dict[str, float]], count: int) -> list[Call]:
    """Return `count` calls over both versions: mostly single rows, taken in turn."""
    return [_call(rows, number) for number in range(count)]


def _call(rows: Sequence[dict[str, float]], number: int) -> Call:
    version = "12"[(number + number // 16) % 2]
    some = [rows[(number + offset) % len(rows)] for offset in range(_ROWS)]
    if number % 16 == 7:
        return Call("batch", version, {"instances": some})
    if number % 16 == 15:
        return Call("stream", version, {"instances": some})
    return Call("json", version, {"features": some[0], "patient": _patient(number)})


def _patient(number: int) -> dict[str, str]:
    """Return one of some patients, each of whom comes several times."""
    patient = number % _PATIENTS
    name = f"{_NAMES[patient % len(_NAMES)]} {_NAMES[patient // len(_NAMES)]}"
    return {"number": f"P-{patient:04}", "name": name}


def send(url: str, calls: Sequence[Call]) -> list[Decision]:
    """Make all `calls`, a few at a time; return what came back, in order.

    Raises:
        DemoError: an answer was not 200, not about the rows, or carried no id.
    """
    with ThreadPoolExecutor(_CALLERS) as callers:
        return list(callers.map(lambda call: _send(url, call), calls))


def _send(url: str, call: Call) -> Decision:
    reply = http(f"{url}{_PATHS[call.kind]}?version={call.version}", call.body)
    reply.expect(200)
    labels = list(_labels(call, reply.body))
    if len(labels) != len(call.body.get("instances", [0])):
        msg = f"a {call.kind} call was answered with {len(labels)} labels"
        raise DemoError(msg)
    if "decision-id" not in reply.headers:
        msg = f"the answer to a {call.kind} call has no decision-id header"
        raise DemoError(msg)
    return Decision(reply.headers["decision-id"], call, reply.body)


def _labels(call: Call, answer: bytes) -> Iterator[str]:
    if call.kind == "json":
        yield json.loads(answer)["label"]
    elif call.kind == "batch":
        yield from (found["label"] for found in json.loads(answer)["predictions"])
    else:
        for line in answer.decode().splitlines():
            if line.startswith("data: ") and "label" in line:
                yield json.loads(line.removeprefix("data: "))["label"]
