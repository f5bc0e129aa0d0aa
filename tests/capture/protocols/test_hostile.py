"""What is sent to be slow: the time grows with the bytes, whatever they are.

No limit of time is tested. Sixteen times the bytes may take 64 times as long, which is
generous for work that is linear, and would take 256 times if it were quadratic.
"""

import subprocess
import sys
import time
from collections.abc import Callable

import pytest

from auditlog.capture.events import EventParser
from auditlog.capture.protocols.openai_batches import Embeddings
from auditlog.capture.protocols.openai_completions import ChatCompletions
from auditlog.capture.protocols.openai_responses import Responses
from auditlog.capture.protocols.registry import Protocols
from auditlog.capture.reading import ModelProtocol, Traffic
from tests.capture.protocols.openai_traffic import answer, events

SMALL, TIMES = 1 << 14, 16
PROTOCOLS: list[ModelProtocol] = [ChatCompletions(), Responses(), Embeddings()]
HEAD = b'data: {"id":"a","choices":['
TAIL = b"]}\n\n"


def filled(
    unit: bytes, before: bytes = b"", after: bytes = b""
) -> Callable[[int], bytes]:
    return lambda size: before + unit * (size // len(unit)) + after


STREAMS = {
    "empty lines": filled(b"\n"),
    "carriage returns": filled(b"\r"),
    "comments": filled(b":\n\n"),
    "lines of one event": filled(b"data:\n"),
    "one endless line": filled(b"x", b"data: "),
    "nothing but marks": filled(b"\xef\xbb\xbf"),
    "cut characters": filled(b"\xf0\x9f"),
    "events that say nothing": filled(b"data: {}\n\n"),
    "events that are no JSON": filled(b"data: {\n\n"),
    "deep JSON": filled(b"[", b"data: "),
    "choices without end": filled(b"{},", HEAD, b"{}" + TAIL),
    "calls without end": filled(
        b"{},", HEAD + b'{"delta":{"tool_calls":[', b"{}]}}" + TAIL
    ),
    "odd calls without end": filled(
        b'{"index":"x"},', HEAD + b'{"delta":{"tool_calls":[', b"{}]}}" + TAIL
    ),
    "one text in parts": filled(b'data: {"choices":[{"delta":{"content":"x"}}]}\n\n'),
    "parts of responses": filled(
        b'data: {"type":"response.output_text.delta","delta":"x"}\n\n'
    ),
}
BODIES = {
    "white space": filled(b" "),
    "quotes": filled(b'"'),
    "escapes": filled(b"\\u0041", b'{"choices":[{"message":{"content":"', b'"}}]}'),
    "half pairs": filled(b"\\ud800", b'{"choices":[{"message":{"content":"', b'"}}]}'),
    "names": filled(b'"object" ', b""),
    "usage": filled(b'"usage"', b'{"choices":'),
    "keys": filled(b'"choices":[],', b"{", b'"a":0}'),
    "errors": filled(b'{"error":', b""),
}


def cpu(work: Callable[[], object]) -> float:
    def once() -> float:
        begun = time.process_time()
        work()
        return time.process_time() - begun

    return min(once(), once())


def read_all(traffic: Traffic) -> None:
    for protocol in PROTOCOLS:
        protocol.read(traffic)
    Protocols().read(traffic, None)


@pytest.mark.parametrize("make", STREAMS.values(), ids=STREAMS)
def test_a_stream_takes_time_by_its_length(make: Callable[[int], bytes]) -> None:
    small, large = events(make(SMALL), "/x"), events(make(SMALL * TIMES), "/x")
    allowed = 4 * TIMES * max(cpu(lambda: read_all(small)), 0.001)
    assert cpu(lambda: read_all(large)) < allowed


@pytest.mark.parametrize("make", BODIES.values(), ids=BODIES)
def test_a_body_takes_time_by_its_length(make: Callable[[int], bytes]) -> None:
    small, large = answer(make(SMALL), "/x"), answer(make(SMALL * TIMES), "/x")
    allowed = 4 * TIMES * max(cpu(lambda: read_all(small)), 0.001)
    assert cpu(lambda: read_all(large)) < allowed


DEEP = """
import sys
from auditlog.capture.protocols.registry import Protocols
from auditlog.capture.reading import Traffic

sys.setrecursionlimit(10**9)  # as some libraries do that an application may import
HEADS = b"[", b'data: {"choices":', b'{"binary_data":1,"inputs":'
for head, opening in zip(HEADS, (b"[", b'{"choices":', b"["), strict=True):
    deep = head + opening * 100_000
    for name in sorted(Protocols.BUILT_IN):
        for kind in ("application/json", "text/event-stream"):
            for asked, answered in ((deep, b"{}"), (b"{}", deep)):
                traffic = Traffic(
                    path="/", request=asked, response=answered, response_type=kind
                )
                assert Protocols(name).read(traffic, None).fault is None
print("alive")
"""


def test_deep_json_ends_no_process_whose_recursion_limit_was_raised() -> None:
    command = [sys.executable, "-c", DEEP]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    assert (done.stdout, done.returncode) == ("alive\n", 0), done.stderr[-2000:]


def test_a_stream_fed_byte_by_byte_takes_time_by_its_length() -> None:
    def feed(length: int) -> None:
        parser = EventParser()
        for _ in range(length):
            parser.feed(b"x")

    allowed = 4 * TIMES * max(cpu(lambda: feed(SMALL // 4)), 0.001)
    assert cpu(lambda: feed(SMALL // 4 * TIMES)) < allowed
