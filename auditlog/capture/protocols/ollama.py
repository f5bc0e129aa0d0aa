"""Ollama's own interface: lines of JSON, the last of which says that it is done.

    POST /api/chat      {"model", "messages"}   →  {"model", "message": {"content"}, …}
    POST /api/generate  {"model", "prompt"}     →  {"model", "response", "done", …}
    POST /api/embed     {"model", "input"}      →  {"model", "embeddings", …}

The first two are streamed unless the request has ``"stream": false``; then there is one
object that is done. An error is ``{"error": "<message>"}``, also as a line of a stream
whose status was 200 long ago. A line that the stream ends with needs no line end.
"""

import re

import msgspec

from auditlog.capture.events import read_lines
from auditlog.capture.protocols.ollama_answer import LINE, AnswerDraft, Line, usage_of
from auditlog.capture.protocols.scoring import count, ending, members
from auditlog.capture.protocols.values import Shape, Struct, code_of, short_text
from auditlog.capture.reading import Reading, Traffic

__all__ = ["OllamaChat", "OllamaEmbed", "OllamaGenerate"]

_LINES = "application/x-ndjson"
_DONE = re.compile(rb'"done"\s{0,8}:\s{0,8}true')
_HEAD = 4096
_FAILED = 400


class _Options(Struct):
    frequency_penalty: float | int | None = None
    num_predict: int | None = None
    presence_penalty: float | int | None = None
    seed: int | None = None
    stop: list[str] | None = None
    temperature: float | int | None = None
    top_k: int | None = None
    top_p: float | int | None = None


class _Asked(Struct):
    model: str | None = None
    stream: bool | None = None
    options: _Options | None = None


_ASKED = Shape(_Asked)
_PARAMETERS = {"num_predict": "max_tokens", "stop": "stop_sequences"}
"""What the conventions call otherwise."""


class OllamaChat:
    """Reads calls of ``/api/chat``."""

    name = "ollama.chat"

    def claims(self, traffic: Traffic) -> bool:
        """Return whether the path says so, and the answer has lines that get done."""
        return traffic.path.endswith("/api/chat") and _answers(traffic)

    def read(self, traffic: Traffic) -> Reading | None:
        """Return the message put together; None if the answer is something else."""
        return _read(traffic, Reading(protocol=self.name, operation="chat"))


class OllamaGenerate:
    """Reads calls of ``/api/generate``."""

    name = "ollama.generate"

    def claims(self, traffic: Traffic) -> bool:
        """Return whether the path says so, and the answer has lines that get done."""
        return traffic.path.endswith("/api/generate") and _answers(traffic)

    def read(self, traffic: Traffic) -> Reading | None:
        """Return the text put together; None if the answer is something else."""
        return _read(traffic, Reading(protocol=self.name, operation="text_completion"))


class OllamaEmbed:
    """Reads calls of ``/api/embed``, and of ``/api/embeddings`` before it."""

    name = "ollama.embed"

    def claims(self, traffic: Traffic) -> bool:
        """Return whether the path says so, and the answer has embeddings."""
        if not traffic.path.endswith(("/api/embed", "/api/embeddings")):
            return False
        return b'"embedding' in traffic.response[:_HEAD] or _fails(traffic)

    def read(self, traffic: Traffic) -> Reading | None:
        """Return how many texts were embedded; None if the answer is something else."""
        answer, request = members(traffic.response), members(traffic.request) or {}
        completeness = ending(traffic, answer)
        known = not answer or "embeddings" in answer or "embedding" in answer
        if completeness == "complete" and not known:
            return None
        said = LINE.read(traffic.response) or Line()
        reading = Reading(
            protocol=self.name,
            operation="embeddings",
            completeness=completeness,
            error_type=code_of(said.error),
            answered_model=short_text(said.model),
            usage=usage_of(said),
            items=count(request.get("input")),
            partial=traffic.capped,
        )
        return _asked(traffic, reading)


def _answers(traffic: Traffic) -> bool:
    if b'"model"' in traffic.response[:_HEAD]:
        return b'"done"' in traffic.response or b'"done"' in traffic.tail
    return _fails(traffic)


def _fails(traffic: Traffic) -> bool:
    return traffic.response.startswith(b'{"error"') and b'"model"' in traffic.request


def _read(traffic: Traffic, reading: Reading) -> Reading | None:
    said = (traffic.response_type or "").partition(";")[0].strip(" \t").lower()
    draft = AnswerDraft()
    whole = None if said == _LINES else LINE.read(traffic.response)
    if whole is None:
        reading.streamed = said == _LINES
        _take_lines(draft, traffic)
    else:
        draft.take(whole)
    if traffic.capped and not reading.streamed and _DONE.search(traffic.tail):
        draft.completeness = "complete"
    failed = (traffic.status or 0) >= _FAILED
    if not (failed or _is_known(draft, traffic)):
        return None
    reading.completeness = "error_frame" if failed else draft.completeness
    reading.error_type = draft.error_type
    reading.answered_model = short_text(draft.model)
    reading.usage = draft.usage
    reading.answers = draft.answers()
    reading.partial = draft.partial
    return _asked(traffic, reading)


def _take_lines(draft: AnswerDraft, traffic: Traffic) -> None:
    lines = read_lines(traffic)
    draft.left_out = lines.partial
    # An object that is closed is whole, with the end of its line or without.
    for data in (*lines.whole, lines.rest):
        line = LINE.read(data)
        if line is not None:
            draft.take(line)
        elif data is not lines.rest:
            draft.left_out = True


def _is_known(draft: AnswerDraft, traffic: Traffic) -> bool:
    if draft.read:
        return draft.known
    # Cut before there was anything to read.
    return traffic.response.lstrip()[:1] in {b"", b"{"}


def _asked(traffic: Traffic, reading: Reading) -> Reading:
    asked = _ASKED.read(traffic.request) or _Asked()
    reading.requested_model = short_text(asked.model)
    said = msgspec.structs.asdict(asked.options or _Options())
    said = {_PARAMETERS.get(name, name): value for name, value in said.items()}
    said["stream"] = asked.stream
    given = {name: value for name, value in said.items() if value is not None}
    reading.parameters = {f"gen_ai.request.{name}": it for name, it in given.items()}
    return reading
