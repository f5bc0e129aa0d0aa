"""Traffic of OpenAI-compatible servers, in the shapes that their documents give.

OpenAI: its API reference, and the types of its Python client. The others by what is
told of them: vLLM (its `protocol.py`, issues 27572, 36944, 52852), Azure (its page on
content filters), Gemini (parallel calls under one index), Mistral (thoughts among the
content), LiteLLM (issues 5118 and 14340). Written by hand, with invented content.
"""

import json
from typing import Any

from auditlog.capture.reading import Traffic

CHAT = "/v1/chat/completions"
REQUEST = {
    "messages": [{"role": "user", "content": "Why was my loan refused?"}],
    "model": "gpt-4o-mini",
    "stream": True,
    "temperature": 0.2,
    "top_p": 1,
    "seed": 7,
    "max_completion_tokens": 300,
    "n": 1,
    "stop": ["END"],
    "presence_penalty": 0.5,
    "stream_options": {"include_usage": True},
}
USAGE = {
    "prompt_tokens": 19,
    "completion_tokens": 10,
    "total_tokens": 29,
    "prompt_tokens_details": {"cached_tokens": 16, "audio_tokens": 0},
    "completion_tokens_details": {"reasoning_tokens": 4, "audio_tokens": 0},
}
COUNTED = {
    "gen_ai.usage.input_tokens": 19,
    "gen_ai.usage.output_tokens": 10,
    "gen_ai.usage.cache_read.input_tokens": 16,
    "gen_ai.usage.reasoning.output_tokens": 4,
}


def chunk(*choices: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {
        "id": "chatcmpl-B9MBs8",
        "object": "chat.completion.chunk",
        "created": 1741570283,
        "model": "gpt-4o-mini-2024-07-18",
        "service_tier": "default",
        "system_fingerprint": "fp_44709d6fcb",
        "choices": list(choices),
        "usage": None,
        "obfuscation": "x7",
        **more,
    }


def delta(index: int = 0, finish: str | None = None, **said: Any) -> dict[str, Any]:
    return {"index": index, "delta": said, "logprobs": None, "finish_reason": finish}


def tool(index: int | None = 0, **said: Any) -> dict[str, Any]:
    call: dict[str, Any] = {} if index is None else {"index": index}
    if "id" in said:
        call |= {"id": said.pop("id"), "type": "function"}
    return call | {"function": said}


def said(*texts: str, finish: str | None = "stop") -> list[dict[str, Any]]:
    """Return the chunks of one answer by text."""
    return [
        chunk(delta(role="assistant", content="", refusal=None)),
        *(chunk(delta(content=text)) for text in texts),
        chunk(delta(finish=finish)),
    ]


def blocks(chunks: list[dict[str, Any]], newline: str = "\n") -> list[bytes]:
    return [f"data: {json.dumps(one)}{newline * 2}".encode() for one in chunks]


def stream(*chunks: dict[str, Any], done: bool = True, newline: str = "\n") -> Traffic:
    end = f"data: [DONE]{newline * 2}".encode() if done else b""
    return events(b"".join(blocks(list(chunks), newline)) + end)


def events(body: bytes, path: str = CHAT, request: Any = REQUEST) -> Traffic:
    return Traffic(
        path=path,
        status=200,
        request=json.dumps(request).encode(),
        request_type="application/json",
        response=body,
        response_type="text/event-stream; charset=utf-8",
    )


def answer(
    body: Any, path: str = CHAT, status: int = 200, request: Any = REQUEST
) -> Traffic:
    sent = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Traffic(
        path=path,
        status=status,
        request=json.dumps(request).encode(),
        request_type="application/json",
        response=sent,
        response_type="application/json",
    )


OPENAI = [
    *said("Because", " your income", " is too low. ", "é\U0001f600"),
    chunk(usage=USAGE),
]
VLLM = [
    chunk(delta(role="assistant", content="", reasoning=None), prompt_token_ids=None),
    chunk(delta(reasoning="The income", reasoning_content="The income", tool_calls=[])),
    chunk(delta(reasoning=" is low.", tool_calls=[])),
    chunk(delta(content="Refused", tool_calls=[]), usage=USAGE | {"total_tokens": 1}),
    chunk(delta(finish="length", content=".", tool_calls=[]) | {"stop_reason": None}),
    {**chunk(usage=USAGE), "service_tier": None},
]
AZURE: list[dict[str, Any]] = [
    {
        "choices": [],
        "created": 0,
        "id": "",
        "model": "",
        "object": "",
        "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": {}}],
    },
    *said("No", "."),
    {
        "id": "",
        "object": "",
        "created": 0,
        "model": "",
        "choices": [
            {
                "index": 0,
                "finish_reason": None,
                "content_filter_offsets": {"check_offset": 4, "start_offset": 4},
            }
        ],
    },
]
TOOLS = [
    chunk(delta(role="assistant", content=None)),
    chunk(delta(tool_calls=[tool(id="call_a", name="score", arguments="")])),
    # Several parts of one call in one chunk; the id only in the first.
    chunk(delta(tool_calls=[tool(arguments='{"inc'), tool(arguments='ome"')])),
    chunk(delta(tool_calls=[tool(arguments=": 7}")])),
    chunk(delta(tool_calls=[tool(1, id="call_b", name="explain", arguments="{}")])),
    chunk(delta(finish="tool_calls")),
]
SEVERAL = [
    chunk(delta(0, role="assistant", content="A"), delta(1, content="x")),
    chunk(delta(1, content="y")),
    chunk(delta(0, content="B"), delta(1, finish="length")),
    chunk(delta(0, finish="stop")),
]
REFUSED = [
    chunk(delta(role="assistant", refusal="")),
    chunk(delta(refusal="I can")),
    chunk(delta(refusal="not say.")),
    chunk(delta(finish="stop")),
]
SPOKEN = [
    chunk(delta(role="assistant", audio={"id": "audio_1", "transcript": "He"})),
    chunk(delta(audio={"data": "AAAA"})),
    chunk(delta(audio={"transcript": "llo"})),
    chunk(delta(audio={"expires_at": 1741573883}) | {"finish_reason": None}),
    chunk(delta(finish="stop")),
]
WHOLE: dict[str, Any] = {
    "id": "chatcmpl-B9MBs8",
    "object": "chat.completion",
    "created": 1741569952,
    "model": "gpt-4o-mini-2024-07-18",
    "choices": [
        {
            "index": 0,
            "message": {
                "role": "assistant",
                "content": "Because your income is too low.",
                "refusal": None,
                "annotations": [],
            },
            "logprobs": None,
            "finish_reason": "stop",
        }
    ],
    "usage": USAGE,
    "service_tier": "default",
    "system_fingerprint": "fp_44709d6fcb",
}


def whole(message: dict[str, Any], finish: str = "stop") -> dict[str, Any]:
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return WHOLE | {"choices": [choice]}
