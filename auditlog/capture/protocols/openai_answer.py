"""What answers of all OpenAI-compatible APIs share: usage, errors, who answered."""

import re
from typing import Any, TypeVar

from auditlog.capture.protocols.values import (
    Shape,
    Struct,
    code_of,
    count_of,
    is_several,
    short_text,
)
from auditlog.capture.reading import Reading, Traffic
from auditlog.core.commitment import is_json

__all__ = [
    "Source",
    "Usage",
    "fail",
    "is_asked",
    "read_body",
    "read_failure",
    "says_object",
    "tell_source",
    "usage_of",
]

_SHAPE_BYTES = 4096
_FAILED = 400
_USAGE = (
    "gen_ai.usage.input_tokens",
    "gen_ai.usage.output_tokens",
    "gen_ai.usage.cache_read.input_tokens",
    "gen_ai.usage.cache_creation.input_tokens",
    "gen_ai.usage.reasoning.output_tokens",
)
_SOURCE = ("openai.response.system_fingerprint", "openai.response.service_tier")


class _Details(Struct):
    cached_tokens: int | None = None
    cache_write_tokens: int | None = None
    reasoning_tokens: int | None = None


_NO_DETAILS = _Details()


class Usage(Struct):
    """Tokens: completions and responses name them differently."""

    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    prompt_tokens_details: _Details | None = None
    completion_tokens_details: _Details | None = None
    input_tokens: int | None = None
    output_tokens: int | None = None
    input_tokens_details: _Details | None = None
    output_tokens_details: _Details | None = None


class Source(Struct):
    """Who answered: fields that each answer and each chunk of one has."""

    id: str | None = None
    object: str | None = None
    model: str | None = None
    system_fingerprint: str | None = None
    service_tier: str | None = None

    def add(self, part: "Source") -> None:
        """Take what a later part says where nothing, or an empty name, was said."""
        self.id = self.id or part.id
        self.model = self.model or part.model
        self.system_fingerprint = self.system_fingerprint or part.system_fingerprint
        self.service_tier = self.service_tier or part.service_tier


class _Failure(Struct):
    error: Any = None
    object: str | None = None
    code: Any = None
    type: Any = None
    status: Any = None


class _Tail(Struct):
    usage: Usage | None = None


_FAILURE = Shape(_Failure)
_TAIL = Shape(_Tail)
_Kind = TypeVar("_Kind", bound=Struct)


def says_object(traffic: Traffic, names: re.Pattern[bytes]) -> bool:
    """Return whether a response says near its beginning that it is one of `names`."""
    return names.search(traffic.response, 0, _SHAPE_BYTES) is not None


def usage_of(usage: Usage | None) -> dict[str, int]:
    """Return ``gen_ai.usage.*``, without what the answer does not say."""
    if usage is None:
        return {}
    read = usage.prompt_tokens_details or usage.input_tokens_details or _NO_DETAILS
    wrote = usage.completion_tokens_details or usage.output_tokens_details
    sent = (
        _one(usage.prompt_tokens, usage.input_tokens),
        _one(usage.completion_tokens, usage.output_tokens),
        read.cached_tokens,
        read.cache_write_tokens,
        (wrote or _NO_DETAILS).reasoning_tokens,
    )
    named = zip(_USAGE, sent, strict=True)
    return {name: n for name, count in named if (n := count_of(count)) is not None}


def tell_source(reading: Reading, source: Source) -> None:
    """Note who answered."""
    reading.response_id = short_text(source.id)
    reading.answered_model = short_text(source.model)
    sent = (short_text(source.system_fingerprint), short_text(source.service_tier))
    named = zip(_SOURCE, sent, strict=True)
    reading.attributes = {name: text for name, text in named if text is not None}


def fail(reading: Reading, error: object) -> None:
    """Note an error that stands in the answer, by its code or type alone."""
    reading.completeness = "error_frame"
    reading.error_type = code_of(error)


def read_body(shape: Shape[_Kind], traffic: Traffic) -> _Kind | None:
    """Return a whole answer; None if not all of it is there, or it is no object."""
    return None if traffic.capped else shape.read(traffic.response + traffic.tail)


def is_asked(traffic: Traffic, reading: Reading) -> bool:
    """Return whether a request is one of these APIs, where its path alone may mislead.

    It names a model; or it is JSON of which only the beginning is there.
    """
    if reading.requested_model is not None:
        return True
    return reading.partial and is_json(traffic.request_type or "")


def read_failure(traffic: Traffic, reading: Reading) -> Reading | None:
    """Finish the reading of a body that is no answer: an error, or one cut off.

    None where it is neither, or answers a request of another kind.
    """
    asked = is_asked(traffic, reading)
    if traffic.capped:
        return _capped(traffic, reading) if asked else None
    failure = _FAILURE.read(traffic.response + traffic.tail)
    if failure is None:
        return _cut(traffic, reading) if asked else None
    return _failed(failure, reading, told=(traffic.status or 0) >= _FAILED, asked=asked)


def _failed(
    failure: _Failure, reading: Reading, *, told: bool, asked: bool
) -> Reading | None:
    # At 200 a field of that name may be any application's.
    if isinstance(failure.error, dict) and (told or (asked and failure.error)):
        fail(reading, failure.error)
    elif asked and (failure.error or failure.object == "error" or told):
        own = {"code": failure.code, "type": failure.type, "status": failure.status}
        fail(reading, own)
    else:
        return None
    return reading


def _cut(traffic: Traffic, reading: Reading) -> Reading | None:
    # What begins like an object, or not at all, was to be one; a page of HTML was not,
    # nor are lines of objects.
    if traffic.response.lstrip()[:1] not in (b"", b"{"):
        return None
    if not is_json(traffic.response_type or "application/json"):
        return None
    if not traffic.capped and is_several(traffic.response + traffic.tail):
        return None
    reading.completeness = "no_terminator"
    reading.partial = True
    return reading


def _capped(traffic: Traffic, reading: Reading) -> Reading | None:
    # Mostly vectors of a large batch: usage comes after them, and the end can be seen.
    cut = _cut(traffic, reading)
    if cut is not None and traffic.tail.rstrip().endswith(b"}"):
        cut.completeness = "complete"
        _, name, rest = traffic.tail.rpartition(b'"usage"')
        told = _TAIL.read(b"{" + name + rest) if name else None
        cut.usage = usage_of(told.usage if told else None)
    return cut


def _one(first: int | None, second: int | None) -> int | None:
    return second if first is None else first
