"""JSON as services write it that put a scikit-learn model behind a route of their own.

    {"features": {…} | [1.5, …]}          →  {"prediction": …}
    {"features": {…}}                     →  {"label": …, "score": …}
    {"instances": [{…}, …]}               →  {"predictions": […, …]}

Nobody has specified this, so only what is whole and fits on both sides is read, and
nothing that is read says anything but ``complete``: how the call ended is left to HTTP.
"""

import re

from auditlog.capture.protocols.scoring import (
    Members,
    body_of,
    count,
    members,
    named,
    text,
)
from auditlog.capture.reading import Reading, Traffic
from auditlog.core.commitment import is_json

__all__ = ["SklearnJson"]

_ASKS = ("instances", "features", "inputs", "data")
_QUOTED = re.compile(rb'"(?:instances|features|inputs|data)"')
_SCORES = ("score", "scores", "probability", "probabilities", "proba")
_PREDICTION, _LABEL = b'"prediction', b'"label"'
_HEAD = 256
"""Where the name of what was predicted has to begin: every answer is looked at."""


class SklearnJson:
    """Reads a prediction and its inputs where both have a shape that is well known."""

    name = "sklearn"

    def claims(self, traffic: Traffic) -> bool:
        """Return whether both bodies may be what is read here."""
        if traffic.status is None or not 200 <= traffic.status < 300 or traffic.capped:
            return False
        find = traffic.response.find
        if find(_PREDICTION, 0, _HEAD) < 0 and find(_LABEL, 0, _HEAD) < 0:
            return False
        asks = _QUOTED.search(traffic.request) is not None
        return asks and is_json(traffic.response_type or "")

    def read(self, traffic: Traffic) -> Reading | None:
        """Return how many inputs were scored; None if the two sides do not fit."""
        request, answer = members(traffic.request), members(body_of(traffic))
        if not self.claims(traffic) or request is None or answer is None:
            return None
        asked = [name for name in _ASKS if name in request]
        if len(asked) != 1 or not _is_scored(answer):
            return None
        rows, scores = _rows(request, asked[0]), count(answer.get("predictions"))
        if (rows or 1) != (scores or 1):
            return None
        return Reading(
            protocol=self.name,
            operation="predict",
            answered_model=_model(answer),
            items=scores if rows is None else rows,
        )


def _is_scored(answer: Members) -> bool:
    if "predictions" in answer:
        return count(answer["predictions"]) is not None
    if "prediction" in answer:
        return True
    return "label" in answer and any(name in answer for name in _SCORES)


def _rows(request: Members, name: str) -> int | None:
    """Return the number of rows; None where the values are those of one row."""
    values = request[name]
    if name == "instances":
        return count(values)
    first = bytes(values)[1:].lstrip()[:1]
    return count(values) if first in {b"[", b"{"} else None


def _model(answer: Members) -> str | None:
    name = _first(answer, "model", "model_name")
    return named(name, _first(answer, "model_version", "version"))


def _first(answer: Members, *names: str) -> str | None:
    found = [text(answer.get(name)) for name in names]
    return next((said for said in found if said is not None), None)
