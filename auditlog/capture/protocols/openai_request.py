"""What a request to an OpenAI-compatible API asks for: its model and parameters."""

import math
import re
from typing import Any
from urllib.parse import unquote

from auditlog.capture.protocols.values import Struct, short_text
from auditlog.capture.reading import Reading, Traffic

__all__ = ["Request", "batch_size", "begin"]

_EXACT = (1 << 53) - 1
_MAX_STOPS = 16
_PARAMETERS = (
    "gen_ai.request.stream",
    "gen_ai.request.temperature",
    "gen_ai.request.top_p",
    "gen_ai.request.top_k",
    "gen_ai.request.seed",
    "gen_ai.request.max_tokens",
    "gen_ai.request.choice.count",
    "gen_ai.request.frequency_penalty",
    "gen_ai.request.presence_penalty",
    "gen_ai.request.stop_sequences",
    "gen_ai.request.encoding_formats",
    "openai.request.service_tier",
)
# Azure names a deployment in the path, and no model in the body.
_DEPLOYMENT = re.compile(r"/deployments/([^/?#]+)/")


class Request(Struct):
    """The fields of all these APIs that say how, not what, was asked."""

    model: str | None = None
    stream: bool | None = None
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    max_tokens: int | None = None
    max_completion_tokens: int | None = None
    max_output_tokens: int | None = None
    n: int | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    stop: Any = None
    encoding_format: str | None = None
    service_tier: str | None = None


def begin(
    protocol: str, operation: str, traffic: Traffic, request: Request | None
) -> Reading:
    """Return what an exchange says by its request alone.

    Args:
        protocol: its name.
        operation: ``gen_ai.operation.name``.
        traffic: the exchange.
        request: what was asked; None if the request is no whole JSON object.
    """
    return Reading(
        protocol=protocol,
        operation=operation,
        requested_model=_model(request, traffic),
        parameters={} if request is None else _parameters(request),
        partial=request is None and bool(traffic.request),
    )


def batch_size(sent: object) -> int | None:
    """Return how many inputs a list holds: texts, or lists of tokens.

    None for a single text or a single list of tokens, which are no batch.
    """
    if not isinstance(sent, list) or not sent:
        return None
    return None if isinstance(sent[0], int) else len(sent)


def _model(request: Request | None, traffic: Traffic) -> str | None:
    if request is not None and request.model:
        return short_text(request.model)
    found = _DEPLOYMENT.search(traffic.path)
    return short_text(unquote(found[1])) if found else None


def _parameters(request: Request) -> dict[str, Any]:
    sent = (
        request.stream,
        _finite(request.temperature),
        _finite(request.top_p),
        _number(request.top_k),
        _number(request.seed),
        _number(_limit(request)),
        _number(request.n),
        _finite(request.frequency_penalty),
        _finite(request.presence_penalty),
        _texts(request.stop),
        _texts(request.encoding_format),
        short_text(request.service_tier),
    )
    named = zip(_PARAMETERS, sent, strict=True)
    return {name: value for name, value in named if value is not None}


def _limit(request: Request) -> int | None:
    # Of one meaning, by three names: chat's own, the one it had before, and responses'.
    limits = request.max_completion_tokens, request.max_tokens
    known = (limit for limit in limits if limit is not None)
    return next(known, request.max_output_tokens)


def _texts(sent: object) -> list[str] | None:
    if sent is None:
        return None
    texts = sent if isinstance(sent, list) else [sent]
    kept = [text for one in texts[:_MAX_STOPS] if (text := short_text(one)) is not None]
    return kept or None


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _number(value: int | None) -> int | str | None:
    if value is None or -_EXACT <= value <= _EXACT:
        return value
    return short_text(str(value))
