"""OpenAI embeddings and moderations: many inputs, and nothing written in answer."""

import re
from typing import Any

from auditlog.capture.protocols.openai_answer import (
    Source,
    Usage,
    read_body,
    read_failure,
    says_object,
    tell_source,
    usage_of,
)
from auditlog.capture.protocols.openai_request import Request, batch_size, begin
from auditlog.capture.protocols.values import Shape, Struct
from auditlog.capture.reading import Reading, Traffic

__all__ = ["Embeddings", "Moderations"]

_EMBEDDING = re.compile(rb'"object"\s*:\s*"embedding"')


class _Input(Request):
    input: Any = None


class _Result(Struct):
    """One vector or verdict; only that it is there is of interest."""


class _Answer(Source):
    data: list[_Result] | None = None
    results: list[_Result] | None = None
    usage: Usage | None = None
    error: Any = None


_INPUT = Shape(_Input)
_ANSWER = Shape(_Answer)


class Embeddings:
    """``POST …/embeddings``, or an answer that says it is a list of them."""

    name = "openai.embeddings"

    def claims(self, traffic: Traffic) -> bool:
        """Return whether the path or the answer is of this protocol."""
        at_path = traffic.path.rstrip("/").endswith("/embeddings")
        return at_path or says_object(traffic, _EMBEDDING)

    def read(self, traffic: Traffic) -> Reading | None:
        """Return what the exchange says; None if the answer is of another kind."""
        return _read(self.name, "embeddings", traffic)


class Moderations:
    """``POST …/moderations``."""

    name = "openai.moderations"

    def claims(self, traffic: Traffic) -> bool:
        """Return whether the path is of this protocol."""
        return traffic.path.rstrip("/").endswith("/moderations")

    def read(self, traffic: Traffic) -> Reading | None:
        """Return what the exchange says; None if the answer is of another kind."""
        return _read(self.name, "moderation", traffic)


def _read(protocol: str, operation: str, traffic: Traffic) -> Reading | None:
    request = _INPUT.read(traffic.request)
    reading = begin(protocol, operation, traffic, request)
    reading.items = batch_size(request.input) if request else None
    answer = read_body(_ANSWER, traffic)
    sent = answer and (answer.data if operation == "embeddings" else answer.results)
    if answer is None or sent is None or answer.error:
        return read_failure(traffic, reading)
    tell_source(reading, answer)
    reading.usage = usage_of(answer.usage)
    return reading
