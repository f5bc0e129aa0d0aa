"""Finished exchanges of each model protocol, of a usual size and shape."""

import json
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from auditlog.capture.reading import Traffic

__all__ = ["EVENTS", "SAMPLES", "Sample"]

EVENTS = 500
"""Of a streamed answer."""
_WORDS = ["the ", "amount ", "is ", "above ", "what ", "was ", "asked ", "for "]
_DELTA = "response.output_text.delta"
_JSON, _SSE, _LINES = "application/json", "text/event-stream", "application/x-ndjson"


class Sample(NamedTuple):
    """One exchange, and how many pieces its answer came in."""

    name: str
    traffic: Traffic
    pieces: int


def _words() -> list[str]:
    return [_WORDS[number % len(_WORDS)] for number in range(EVENTS)]


def _text(value: Any) -> bytes:
    return json.dumps(value, separators=(",", ":")).encode()


def _sse(events: Iterable[Any], names: Callable[[Any], str] | None = None) -> bytes:
    parts = []
    for event in events:
        name = "" if names is None else f"event: {names(event)}\n"
        data = event if isinstance(event, bytes) else _text(event)
        parts.append(name.encode() + b"data: " + data + b"\n\n")
    return b"".join(parts)


def _chat_chunk(**choice: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-8f14e45fceea167a5a36dedd4bea2543",
        "object": "chat.completion.chunk",
        "created": 1_790_000_000,
        "model": "credit-explainer-1",
        "system_fingerprint": "fp_44709d6fcb",
        "choices": [{"index": 0, "logprobs": None, "finish_reason": None, **choice}],
    }


_ASKED = {
    "model": "credit-explainer-1",
    "stream": True,
    "temperature": 0.2,
    "max_tokens": 512,
    "messages": [{"role": "user", "content": "Why was it refused? " * 40}],
}
_USAGE = {"prompt_tokens": 210, "completion_tokens": EVENTS, "total_tokens": 710}


def _openai_chat() -> bytes:
    chunks = [_chat_chunk(delta={"content": word}) for word in _words()]
    end = _chat_chunk(delta={}, finish_reason="stop")
    usage = {**_chat_chunk(), "choices": [], "usage": _USAGE}
    return _sse([*chunks, end, usage, b"[DONE]"])


def _openai_answer() -> bytes:
    message = {"role": "assistant", "content": "".join(_words())}
    choice = {"index": 0, "message": message, "finish_reason": "stop"}
    answer = {"object": "chat.completion", "choices": [choice], "usage": _USAGE}
    return _text({"id": "chatcmpl-1", "model": "credit-explainer-1", **answer})


def _openai_responses() -> bytes:
    of = {"item_id": "msg_1", "output_index": 0, "content_index": 0}
    deltas = [
        {
            "type": _DELTA,
            "sequence_number": at,
            **of,
            "delta": word,
        }
        for at, word in enumerate(_words())
    ]
    usage = {"input_tokens": 210, "output_tokens": EVENTS, "total_tokens": 710}
    part = {"type": "output_text", "text": "".join(_words()), "annotations": []}
    item = {"type": "message", "id": "msg_1", "role": "assistant", "content": [part]}
    response = {"id": "resp_1", "object": "response", "model": "m", "usage": usage}
    end = {**response, "status": "completed", "output": [item]}
    events = [*deltas, {"type": "response.completed", "response": end}]
    return _sse(events, lambda event: str(event["type"]))


def _anthropic() -> bytes:
    start: dict[str, Any] = {"id": "msg_1", "type": "message", "role": "assistant"}
    start |= {"content": [], "model": "m"}
    start |= {"usage": {"input_tokens": 210, "output_tokens": 1}}
    deltas = [
        {
            "type": "content_block_delta",
            "index": 0,
            "delta": {"type": "text_delta", "text": word},
        }
        for word in _words()
    ]
    block = {"type": "text", "text": ""}
    events = [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": block},
        *deltas,
        {"type": "content_block_stop", "index": 0},
        {
            "type": "message_delta",
            "delta": {"stop_reason": "end_turn", "stop_sequence": None},
            "usage": {"output_tokens": EVENTS},
        },
        {"type": "message_stop"},
    ]
    return _sse(events, lambda event: str(event["type"]))


def _ollama() -> bytes:
    def line(word: str) -> dict[str, Any]:
        message = {"role": "assistant", "content": word}
        return {"model": "m", "created_at": "2026-11-26T08:00:00Z", "message": message}

    lines = [line(word) | {"done": False} for word in _words()]
    counts = {"prompt_eval_count": 210, "eval_count": EVENTS}
    end = line("") | {"done": True, "done_reason": "stop"} | counts
    return b"".join(_text(one) + b"\n" for one in [*lines, end])


_ROWS = [[number / 7 for number in range(24)] for _ in range(4)]
_ANTHROPIC_ASKED = _ASKED | {"max_tokens": 512}
_V2_INPUT = {"name": "x", "shape": [4, 24], "datatype": "FP32", "data": _ROWS}
_V2_OUTPUT = {"name": "y", "shape": [4], "datatype": "FP32", "data": [0.1, 0.2, 0.3, 1]}


def _sample(
    name: str,
    path: str,
    asked: Any,
    response: bytes,
    response_type: str = _JSON,
    pieces: int = 1,
) -> Sample:
    traffic = Traffic(
        path=path,
        status=200,
        request=_text(asked),
        request_type=_JSON,
        response=response,
        response_type=response_type,
    )
    return Sample(name, traffic, pieces)


SAMPLES: list[Callable[[], Sample]] = [
    lambda: _sample(
        "of no protocol, 1 KiB", "/echo", {"note": "x" * 1000}, _text({"y": "x" * 1000})
    ),
    lambda: _sample(
        "openai.chat", "/v1/chat/completions", _ASKED, _openai_answer(), _JSON
    ),
    lambda: _sample(
        "openai.chat, streamed",
        "/v1/chat/completions",
        _ASKED,
        _openai_chat(),
        _SSE,
        EVENTS,
    ),
    lambda: _sample(
        "openai.responses, streamed",
        "/v1/responses",
        {"model": "m", "input": "Why?", "stream": True},
        _openai_responses(),
        _SSE,
        EVENTS,
    ),
    lambda: _sample(
        "anthropic.messages, streamed",
        "/v1/messages",
        _ANTHROPIC_ASKED,
        _anthropic(),
        _SSE,
        EVENTS,
    ),
    lambda: _sample(
        "ollama.chat, streamed", "/api/chat", _ASKED, _ollama(), _LINES, EVENTS
    ),
    lambda: _sample(
        "kserve.v1",
        "/v1/models/credit:predict",
        {"instances": _ROWS},
        _text({"predictions": [0.1, 0.2, 0.3, 0.4]}),
    ),
    lambda: _sample(
        "kserve.v2",
        "/v2/models/credit/infer",
        {"inputs": [_V2_INPUT]},
        _text({"model_name": "credit", "outputs": [_V2_OUTPUT]}),
    ),
    lambda: _sample(
        "mlflow",
        "/invocations",
        {"dataframe_split": {"columns": list("abcd"), "data": _ROWS}},
        _text({"predictions": [0.1, 0.2, 0.3, 0.4]}),
    ),
    lambda: _sample(
        "sklearn",
        "/predict",
        {"instances": _ROWS},
        _text({"predictions": [0.1, 0.2, 0.3, 0.4]}),
    ),
]
