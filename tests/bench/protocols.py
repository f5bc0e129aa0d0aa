"""Group g: what reading a model protocol costs, off the event loop, once an exchange.

*Read* is the protocol alone. *Described* is the whole step from finished exchange to
entry and content, of the same exchange: the peer is the same step with
``protocol="none"``, so that the ratio is what reading adds to it.
"""

import os
import time
from collections.abc import Callable, Iterator

from auditlog.capture.body import Body
from auditlog.capture.exchange import Exchange
from auditlog.capture.protocols.registry import Protocols
from auditlog.capture.reading import Traffic
from auditlog.log.description import Describer
from tests.bench.context import Context
from tests.bench.model_traffic import SAMPLES, Sample
from tests.bench.report import Row, compare
from tests.bench.timing import interleave, median
from tests.log.builders import ORIGIN, exchange

__all__ = ["run"]

_MICRO = 1e6
_AUTO, _NONE = Protocols(), Protocols("none")


def run(context: Context) -> Iterator[Row]:
    """Measure each protocol that is built in."""
    context.say("model protocols")
    for make in SAMPLES:
        yield from _rows(make(), context)


def _rows(sample: Sample, context: Context) -> Iterator[Row]:
    count = max(3, context.scale.requests // (20 * sample.pieces))
    describer = Describer(ORIGIN, bytes(16), depth=1)
    rounds = interleave(
        {
            "read": lambda: _each(lambda: _AUTO.read(sample.traffic, None), count),
            "with": lambda: _described(describer, sample.traffic, _AUTO, count),
            "without": lambda: _described(describer, sample.traffic, _NONE, count),
        },
        context.scale.rounds,
    )
    spent = {name: median(found) * _MICRO for name, found in rounds.items()}
    yield compare(f"g {sample.name}: read", spent["read"], "µs")
    if sample.pieces > 1:
        a_piece = spent["read"] / sample.pieces
        yield compare(f"g {sample.name}: read, a piece", a_piece, "µs")
    name = f"g {sample.name}: described, with and without"
    yield compare(name, spent["with"], "µs", spent["without"])


def _each(run: Callable[[], object], count: int) -> float:
    start = time.thread_time()
    for _ in range(count):
        run()
    return (time.thread_time() - start) / count


def _described(
    describer: Describer, traffic: Traffic, protocols: Protocols, count: int
) -> float:
    finished = [_exchange(traffic, protocols) for _ in range(count)]
    start = time.thread_time()
    for one in finished:
        describer.describe(one)
    return (time.thread_time() - start) / count


def _exchange(traffic: Traffic, protocols: Protocols) -> Exchange:
    secret = os.urandom(32)
    request = _body(secret, 0, traffic.request, None)
    return exchange(
        0,
        request,
        _body(secret, 1, traffic.response, request),
        secret=secret,
        request_type=traffic.request_type,
        response_type=traffic.response_type,
        target=traffic.path.encode(),
        protocols=protocols,
    )


def _body(secret: bytes, leaf: int, data: bytes, before: Body | None) -> Body:
    body = Body(secret, leaf, 1 << 20, before=before)
    body.feed(data)
    body.state = "complete"
    return body
