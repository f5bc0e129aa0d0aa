"""MLflow's ``/invocations``: rows for a model that scores, a chat for one that talks.

    {"dataframe_split": {"columns", "data": [row, …]}}, {"dataframe_records": [row, …]},
    {"instances": …}, {"inputs": …}, CSV with a header   →  {"predictions": …}
    {"messages": […]}, {"prompt": …}, {"input": …}       →  what the model returns, bare

The scoring server never streams. The server for agents does if asked to: events without
names whose data is JSON, then ``[DONE]``, also after ``{"error": "<message>"}``. What
they hold is the agent's business: chunks of OpenAI's chats or events of its responses
are read as such, and so are MLflow's own chunks of an agent's chat. SageMaker serves at
the same path whatever a container likes: what has no known shape is not read.
"""

import csv
import io
import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import msgspec

from auditlog.capture.events import is_events, read_events
from auditlog.capture.protocols.mlflow_agent import read_agent
from auditlog.capture.protocols.openai_completions import ChatCompletions
from auditlog.capture.protocols.openai_responses import Responses
from auditlog.capture.protocols.scoring import (
    Members,
    body_of,
    count,
    ending,
    essence,
    has_failed,
    is_json_text,
    is_readable,
    members,
)
from auditlog.capture.protocols.values import Shape, Struct, code_of, is_several
from auditlog.capture.reading import Reading, Traffic

__all__ = ["MLflow"]

_PATH = re.compile(
    r"(?:/(?:serving-)?endpoints/([^/]{1,256})(?:/[^/]{1,256}){0,2})?/invocations/?\Z"
)
_DATA = ("dataframe_split", "dataframe_records", "instances", "inputs")
_TALK = {"messages": "chat", "prompt": "text_completion", "input": "embeddings"}
"""Operations by what is asked with; an answer that is known says it better."""
_TABLES = frozenset({"text/csv", "application/x-parquet"})
_ASKS = re.compile(
    rb'"(?:dataframe_split|dataframe_records|instances|inputs|messages|prompt|input)"'
)
_ANSWERS = re.compile(rb'\s{0,8}\{\s{0,8}"(?:predictions|error_code)"')
_HEAD = 1 << 16
_DONE = "[DONE]"


class _Failure(Struct):
    error_code: Any = None
    error: Any = None


_FAILURE = Shape(_Failure)
_Talker = Callable[[Traffic], Reading | None]
_TALKERS: tuple[tuple[re.Pattern[bytes], _Talker], ...] = (
    (re.compile(rb'"type"\s{0,8}:\s{0,8}"response\.|"output"'), Responses().read),
    (re.compile(rb'"choices"'), ChatCompletions().read),
    (re.compile(rb'"delta"|"messages"'), read_agent),
)
"""Who reads the answer of a model that talks, by what stands in its beginning."""


class MLflow:
    """Reads calls of ``/invocations``, also those of Databricks' endpoints."""

    name = "mlflow"

    def claims(self, traffic: Traffic) -> bool:
        """Return whether the path says so, and request or answer has a known shape."""
        if not _PATH.search(traffic.path):
            return False
        asks = _ASKS.search(traffic.request, 0, _HEAD) or _is_table(traffic)
        return bool(asks or _ANSWERS.match(traffic.response))

    def read(self, traffic: Traffic) -> Reading | None:
        """Return rows or the answer put together; None if it is something else."""
        request = members(traffic.request) or {}
        if is_events(traffic):
            reading = _streamed(traffic)
        elif not any(name in request for name in _DATA):
            reading = _talked(traffic) or _scored(traffic)
        else:
            reading = _scored(traffic)
        if reading is None:
            return None
        reading.protocol = self.name
        reading.operation = reading.operation or _operation(request)
        reading.items = _rows(traffic, request)
        asked = _PATH.search(traffic.path)
        if reading.requested_model is None and asked is not None and asked[1]:
            reading.requested_model = unquote(asked[1])
        return reading


def _operation(request: Members) -> str:
    return next((_TALK[name] for name in _TALK if name in request), "predict")


def _scored(traffic: Traffic) -> Reading | None:
    """Read an answer of one JSON value."""
    if not is_readable(traffic):
        return None
    body = body_of(traffic)
    whole = is_json_text(body)
    if not (whole or has_failed(traffic) or traffic.capped) and is_several(body):
        return None
    failure = _FAILURE.read(body) or _Failure()
    answer = members(body) or {}
    return Reading(
        protocol="",
        operation="",
        completeness=ending(
            traffic,
            whole=whole,
            failed=_is_error(failure) and "predictions" not in answer,
        ),
        error_type=_code(failure),
        partial=traffic.capped,
    )


def _talked(traffic: Traffic) -> Reading | None:
    """Read what a model that talks answered, where its shape is known."""
    talker = _talker(traffic)
    if has_failed(traffic) or talker is None:
        return None
    reading = talker(traffic)
    return reading if reading is not None and reading.answers else None


def _talker(traffic: Traffic) -> _Talker | None:
    begun = traffic.response[:_HEAD]
    return next((one for mark, one in _TALKERS if mark.search(begun)), None)


def _streamed(traffic: Traffic) -> Reading | None:
    """Read a stream of an agent; None while nothing shows that it is one."""
    talker = _talker(traffic)
    talked = None if talker is None else talker(traffic)
    reading = talked or Reading(protocol="", operation="", streamed=True)
    stream = read_events(traffic)
    said = [data for _, data in (*stream.events, *filter(None, [stream.rest]))]
    # Only what the stream broke off in may be half of one, and that is then no JSON.
    failures = [_FAILURE.read(data) for data in said if data.startswith('{"error')]
    failed = next((one for one in failures if one and _is_error(one)), None)
    if failed is not None or has_failed(traffic):
        reading.completeness = "error_frame"
        reading.error_type = reading.error_type or _code(failed or _Failure())
    elif any(data.startswith(_DONE) for data in said):
        reading.completeness = "complete"
    elif talked is None:
        return None
    reading.partial |= stream.partial
    return reading


def _is_error(failure: _Failure) -> bool:
    # A number by that name is what a model may give beside its score.
    says = bool(failure.error) and isinstance(failure.error, str | dict)
    return says or failure.error_code is not None


def _code(failure: _Failure) -> str | None:
    return code_of({"code": failure.error_code}) or code_of(failure.error)


def _is_table(traffic: Traffic) -> bool:
    return essence(traffic.request_type) in _TABLES


def _rows(traffic: Traffic, request: Members) -> int | None:
    if _is_table(traffic):
        return _table_rows(traffic.request)
    split = request.get("dataframe_split")
    if split is not None:
        return count((members(bytes(split)) or {}).get("data"))
    for name in ("dataframe_records", "instances", "inputs"):
        if name in request:
            return _length(request[name])
    return None


def _length(value: msgspec.Raw) -> int | None:
    rows = count(value)
    if rows is not None:
        return rows
    # By column: a list of values for each name.
    columns = (members(bytes(value)) or {}).values()
    return next(map(count, columns), None)


def _table_rows(table: bytes) -> int | None:
    # Of one that was not kept whole, the last line is most likely cut.
    if not table.endswith(b"\n"):
        return None
    try:
        lines = csv.reader(io.StringIO(table.decode(), newline=""))
        return max(sum(1 for line in lines if line) - 1, 0)
    except (csv.Error, UnicodeDecodeError):
        return None
