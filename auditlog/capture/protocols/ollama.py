"""Ollama's own interface: lines of JSON, the last of which says that it is done.

    POST /api/chat      {"model", "messages"}   →  {"model", "message": {"content"}, …}
    POST /api/generate  {"model", "prompt"}     →  {"model", "response", "done", …}
    POST /api/embed     {"model", "input"}      →  {"model", "embeddings", …}

The first two are streamed unless the request has ``"stream": false``; then there is one
object that is done. An error is ``{"error": "<message>"}``, also as a line of a stream
whose status was 200 long ago. A line that the stream ends with needs no line end.
"""

import re

from auditlog.capture.events import read_lines
from auditlog.capture.protocols.ollama_answer import LINE, AnswerDraft, Line, usage_of
from auditlog.capture.protocols.openai_answer import read_body
from auditlog.capture.protocols.openai_request import Request, begin
from auditlog.capture.protocols.scoring import (
    body_of,
    count,
    ending,
    essence,
    has_failed,
    members,
)
from auditlog.capture.protocols.values import Shape, code_of, short_text
from auditlog.capture.reading import Reading, Traffic

__all__ = ["OllamaChat", "OllamaEmbed", "OllamaGenerate"]

_LINES = "application/x-ndjson"
_DONE = re.compile(rb'"done"\s{0,8}:\s{0,8}true')
_HEAD = 4096


class _Options(Request):
    num_predict: int | None = None


class _Asked(Request):
    options: _Options | None = None


_ASKED = Shape(_Asked)


class OllamaChat:
    """Reads calls of ``/api/chat``."""

    name = "ollama.chat"

    def claims(self, traffic: Traffic) -> bool:
        """Return whether the path says so, and the answer has lines that get done."""
        return traffic.path.rstrip("/").endswith("/api/chat") and _answers(traffic)

    def read(self, traffic: Traffic) -> Reading | None:
        """Return the message put together; None if the answer is something else."""
        return _read(traffic, _begin(self.name, "chat", traffic))


class OllamaGenerate:
    """Reads calls of ``/api/generate``."""

    name = "ollama.generate"

    def claims(self, traffic: Traffic) -> bool:
        """Return whether the path says so, and the answer has lines that get done."""
        return traffic.path.rstrip("/").endswith("/api/generate") and _answers(traffic)

    def read(self, traffic: Traffic) -> Reading | None:
        """Return the text put together; None if the answer is something else."""
        return _read(traffic, _begin(self.name, "text_completion", traffic))


class OllamaEmbed:
    """Reads calls of ``/api/embed``, and of ``/api/embeddings`` before it."""

    name = "ollama.embed"

    def claims(self, traffic: Traffic) -> bool:
        """Return whether the path says so, and the answer has embeddings."""
        if not traffic.path.rstrip("/").endswith(("/api/embed", "/api/embeddings")):
            return False
        return b'"embedding' in traffic.response[:_HEAD] or _fails(traffic)

    def read(self, traffic: Traffic) -> Reading | None:
        """Return how many texts were embedded; None if the answer is something else."""
        answer = members(body_of(traffic))
        said = LINE.read(body_of(traffic)) or Line()
        completeness = ending(
            traffic, whole=answer is not None, failed=bool(said.error)
        )
        known = not answer or "embeddings" in answer or "embedding" in answer
        if completeness == "complete" and not known:
            return None
        request = members(traffic.request) or {}
        reading = _begin(self.name, "embeddings", traffic)
        reading.completeness, reading.error_type = completeness, code_of(said.error)
        reading.answered_model = short_text(said.model)
        reading.usage = usage_of(said)
        reading.items = count(request.get("input"))
        reading.partial |= traffic.capped
        return reading


def _answers(traffic: Traffic) -> bool:
    if b'"model"' in traffic.response[:_HEAD]:
        return b'"done"' in traffic.response or b'"done"' in traffic.tail
    return _fails(traffic)


def _fails(traffic: Traffic) -> bool:
    return traffic.response.startswith(b'{"error"') and b'"model"' in traffic.request


def _read(traffic: Traffic, reading: Reading) -> Reading | None:
    reading.streamed = essence(traffic.response_type) == _LINES
    draft = _drafted(traffic, streamed=reading.streamed)
    failed = has_failed(traffic)
    if not (failed or _is_known(draft, traffic)):
        return None
    reading.completeness = "error_frame" if failed else draft.completeness
    reading.error_type = draft.error_type
    reading.answered_model = short_text(draft.model)
    reading.usage = draft.usage
    reading.answers = draft.answers()
    reading.partial |= draft.partial
    return reading


def _drafted(traffic: Traffic, *, streamed: bool) -> AnswerDraft:
    draft = AnswerDraft()
    whole = None if streamed else read_body(LINE, traffic)
    if whole is None:
        _take_lines(draft, traffic)
    else:
        draft.take(whole)
    if traffic.capped and not streamed and _DONE.search(traffic.tail):
        draft.completeness = "complete"
    return draft


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


def _begin(protocol: str, operation: str, traffic: Traffic) -> Reading:
    asked = _ASKED.read(traffic.request)
    options = None
    if asked is not None:
        options = asked.options or _Options()
        options.model, options.stream = asked.model, asked.stream
        options.max_tokens = options.num_predict
    return begin(protocol, operation, traffic, options)
