"""KServe v1, which is what TensorFlow Serving speaks, and v2, Open Inference.

    POST /v1/models/<name>[/versions/<v>|/labels/<l>]:predict|:explain
        {"instances": [row, …]}  →  {"predictions": [row, …]}
    POST /v2/models/<name>[/versions/<v>]/infer
        {"id": …, "inputs": [{"name", "shape": [rows, …], "datatype", "data"}, …]}
            →  {"id", "model_name", "model_version", "outputs": [tensor, …]}

An error is ``{"error": "<message>"}``. A v2 body may be followed by the tensors in
binary, in the order in which they stand and of the sizes that they state; where the
JSON ends is said by a header that is not seen here, and found by reading it.
"""

import re
from urllib.parse import unquote

import msgspec

from auditlog.capture.protocols.scoring import (
    Members,
    body_of,
    count,
    ending,
    is_readable,
    members,
    named,
    text,
)
from auditlog.capture.reading import Completeness, Reading, Traffic
from auditlog.core.record import MAX_DEPTH

__all__ = ["KServeV1", "KServeV2"]

_V1 = re.compile(
    r"/v1/models/(?P<name>[^/:]{1,256})"
    r"(?:/(?:versions|labels)/(?P<version>[^/:]{1,256}))?:(?P<verb>predict|explain)/?\Z"
)
_V2 = re.compile(
    r"/v2/models/(?P<name>[^/]{1,256})(?:/versions/(?P<version>[^/]{1,256}))?/infer/?\Z"
)
_BINARY = "application/octet-stream"
_MAX_ROWS = (1 << 53) - 1
# Strings, whose closing quote is optional so that no text costs quadratic time; and
# what opens or closes a container.
_MARKS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+"?+|[][{}]', re.DOTALL)
_RESULTS = frozenset({"predictions", "explanations", "outputs"})
_NO_ERROR = frozenset({b"null", b'""', b"{}", b"[]", b"false", b"0"})


class _Parameters(msgspec.Struct):
    binary_data_size: int = 0


class _Tensor(msgspec.Struct):
    shape: list[int] = []
    parameters: _Parameters | None = None


_TENSORS = msgspec.json.Decoder(list[_Tensor])


class KServeV1:
    """Reads calls of the v1 protocol, and of TensorFlow Serving's REST interface."""

    name = "kserve.v1"

    def claims(self, traffic: Traffic) -> bool:
        """Return whether the path says so."""
        return _V1.search(traffic.path) is not None

    def read(self, traffic: Traffic) -> Reading | None:
        """Return model, number of rows, and ending; None if the answer is no JSON."""
        if not is_readable(traffic):
            return None
        asked = _V1.search(traffic.path)
        request = members(traffic.request) or {}
        answer = members(body_of(traffic))
        rows = count(request.get("instances"))
        return Reading(
            protocol=self.name,
            operation="predict" if asked is None else asked["verb"],
            completeness=_ending(traffic, answer),
            requested_model=_asked_model(asked),
            items=_columns(request.get("inputs")) if rows is None else rows,
            partial=traffic.capped,
        )


class KServeV2:
    """Reads inferences of the v2 protocol, also with tensors in binary."""

    name = "kserve.v2"

    def claims(self, traffic: Traffic) -> bool:
        """Return whether the path says so."""
        return _V2.search(traffic.path) is not None

    def read(self, traffic: Traffic) -> Reading | None:
        """Return models, number of rows, and ending; None if it is another answer."""
        if not is_readable(traffic, _BINARY):
            return None
        request, _ = _split(traffic.request)
        answer, rest = _split(body_of(traffic))
        said = answer or {}
        return Reading(
            protocol=self.name,
            operation="predict",
            completeness=_ending(traffic, answer, rest),
            requested_model=_asked_model(_V2.search(traffic.path)),
            answered_model=named(
                text(said.get("model_name")), text(said.get("model_version"))
            ),
            response_id=text(said.get("id")),
            items=_rows((request or {}).get("inputs")),
            partial=traffic.capped,
        )


def _asked_model(asked: re.Match[str] | None) -> str | None:
    if asked is None:
        return None
    version = asked["version"]
    return named(unquote(asked["name"]), unquote(version) if version else None)


def _columns(inputs: msgspec.Raw | None) -> int | None:
    # TensorFlow Serving also takes columns: one list of values for each input.
    if inputs is None:
        return None
    rows = count(inputs)
    columns = {} if rows is not None else members(bytes(inputs)) or {}
    return next(map(count, columns.values()), rows)


def _rows(inputs: msgspec.Raw | None) -> int | None:
    """Return the first dimension of the first tensor that has one."""
    shapes = [tensor.shape for tensor in _tensors(inputs) if tensor.shape]
    return shapes[0][0] if shapes and 0 <= shapes[0][0] <= _MAX_ROWS else None


def _tensors(value: msgspec.Raw | None) -> list[_Tensor]:
    try:
        return [] if value is None else _TENSORS.decode(value)
    except msgspec.DecodeError:
        return []


def _split(body: bytes) -> tuple[Members | None, int]:
    """Return the members of the JSON that a body begins with, and how much follows."""
    whole = members(body)
    if whole is not None or b'"binary_data' not in body:
        return whole, 0
    end = _end_of_container(body)
    return members(body[:end]), len(body) - end


def _end_of_container(body: bytes) -> int:
    """Return where the first object or array of a body ends; 0 if it does not."""
    depth = 0
    for match in _MARKS.finditer(body):
        mark = match.group()
        depth += (mark in b"[{") - (mark in b"]}")
        if mark in b"]}" and depth <= 0:
            return match.end()
        if depth > MAX_DEPTH:
            break
    return 0


def _ending(traffic: Traffic, answer: Members | None, rest: int = 0) -> Completeness:
    if answer is None or traffic.capped:
        return ending(traffic, whole=answer is not None)
    tensors = _tensors(answer.get("outputs"))
    sizes = [one.parameters.binary_data_size for one in tensors if one.parameters]
    return ending(traffic, whole=sum(sizes) <= rest, failed=_says_error(answer))


def _says_error(answer: Members) -> bool:
    # Beside results it is one of them, or a field for errors that there were none of.
    error = answer.get("error")
    if error is None or not _RESULTS.isdisjoint(answer):
        return False
    return bytes(error) not in _NO_ERROR
