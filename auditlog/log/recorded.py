"""A fitted estimator whose every prediction is a decision of the log.

::

    model = auditlog.recorded(estimator, "credit", version="3")
    model.predict(rows)            # what the estimator returns, recorded

Works wherever the estimator does: in a notebook, a job, behind an API. One call is one
decision, whose operation is the method. Its input is ``{"instances": […]}``, one for
each row, a frame's rows by the names of their columns; its output ``{"predictions":
[…]}``. Each row opens by itself (`FORMATS.md` §3). The model is
`Model.from_estimator`: digest, versions of libraries and parameters stand once in the
log.

What is recorded is said in JSON and never gets in the way: a missing value is null,
other values that JSON does not have are their text. Rows of a large sparse matrix,
which in full might fill the memory, are objects of the values that they hold, by
column.
"""

import math
from collections.abc import Callable, Mapping
from typing import Any, Unpack

from auditlog.log.direct import decision
from auditlog.log.operation import About
from auditlog.models.identity import Model

__all__ = ["RecordedEstimator", "recorded"]

_RECORDED = ("predict", "predict_proba", "decision_function", "score_samples")
_CHANGING = ("fit", "partial_fit", "set_params")
_PLAIN = frozenset({bool, int, type(None)})
_MAX_DEPTH = 8
_MAX_FULL = 1 << 20
"""Values of a sparse matrix, zeros included, that is told in full."""


def recorded(
    estimator: Any, name: str, *, version: str | None = None, **about: Unpack[About]
) -> "RecordedEstimator":
    """Return a stand-in for a fitted estimator that records what it predicts.

    Calls of ``predict``, ``predict_proba``, ``decision_function`` and ``score_samples``
    are decisions; everything else is the estimator's. Its digest is computed here, and
    again after ``fit``, ``partial_fit`` or ``set_params`` through this object; change
    the estimator itself in no other way.

    Args:
        estimator: fitted, such as scikit-learn's.
        name: of the model.
        version: likewise.
        about: as for `auditlog.decision`: what else is said, and options of the log.

    Raises:
        ConfigurationError: the estimator has no canonical form; what has not is named.
    """
    return RecordedEstimator(estimator, name, version, about)


class RecordedEstimator:
    """Made by `recorded`."""

    def __init__(
        self, estimator: Any, name: str, version: str | None, about: About
    ) -> None:
        """Take a fitted estimator, its name and version, and what is said of calls."""
        self._estimator = estimator
        self._named = (name, version)
        self._about = about
        self._model = self._identify()

    @property
    def model(self) -> Model:
        """The identity under which predictions are recorded now."""
        return self._model

    @property
    def estimator(self) -> Any:
        """The estimator itself, whose calls are not recorded."""
        return self._estimator

    def __getattr__(self, name: str) -> Any:
        """Return what the estimator has, recorded where it decides."""
        # Not before it is known: copies are made without __init__.
        found = getattr(object.__getattribute__(self, "_estimator"), name)
        if name in _RECORDED:
            return self._recording(name, found)
        return self._changing(found) if name in _CHANGING else found

    def __sklearn_is_fitted__(self) -> bool:
        """Answer scikit-learn, which cannot see through a stand-in."""
        from sklearn.exceptions import NotFittedError  # noqa: PLC0415 - it asks
        from sklearn.utils.validation import check_is_fitted  # noqa: PLC0415

        try:
            check_is_fitted(self._estimator)
        except NotFittedError:
            return False
        return True

    def __repr__(self) -> str:
        return f"recorded({self._estimator!r}, {self._named[0]!r})"

    def _identify(self) -> Model:
        name, version = self._named
        return Model.from_estimator(self._estimator, name=name, version=version)

    def _recording(self, name: str, method: Callable[..., Any]) -> Callable[..., Any]:
        # Named as scikit-learn names it, for callers do so by keyword.
        def call(X: Any, *rest: Any, **named: Any) -> Any:  # noqa: N803
            asked: dict[str, Any] = {"instances": _rows(X)}
            if rest or named:
                asked["parameters"] = _plain({**dict(enumerate(rest)), **named})
            with decision(name, input=asked, model=self._model, **self._about) as made:
                answer = method(X, *rest, **named)
                made.set_output({"predictions": _rows(answer)})
            return answer

        return call

    def _changing(self, method: Callable[..., Any]) -> Callable[..., Any]:
        def call(*given: Any, **named: Any) -> Any:
            result = method(*given, **named)
            self._model = self._identify()
            return self if result is self._estimator else result

        return call


def _rows(values: Any) -> Any:
    """Return rows as JSON, those of frames by column."""
    if hasattr(values, "to_dicts"):
        return _plain(values.to_dicts())
    if hasattr(values, "columns") and hasattr(values, "to_dict"):
        return _plain(values.to_dict("records"))
    if hasattr(values, "toarray"):
        return _plain(_sparse_rows(values))
    return _plain(values)


def _sparse_rows(matrix: Any) -> Any:
    if math.prod(matrix.shape) <= _MAX_FULL or len(matrix.shape) != 2:
        return matrix.toarray()
    held = matrix.tocsr(copy=True)
    held.sum_duplicates()
    bounds = zip(held.indptr[:-1].tolist(), held.indptr[1:].tolist(), strict=True)
    return [
        dict(zip(held.indices[a:b].tolist(), held.data[a:b].tolist(), strict=True))
        for a, b in bounds
    ]


def _plain(value: Any, depth: int = _MAX_DEPTH) -> Any:
    """Return a value of any kind as JSON; a text where it has no other form there."""
    if type(value) in _PLAIN:
        return value
    if isinstance(value, float):
        return _number(float(value))
    if depth and isinstance(value, Mapping):
        return {_text(key): _plain(item, depth - 1) for key, item in value.items()}
    if depth and isinstance(value, list | tuple | set | frozenset):
        return [_plain(item, depth - 1) for item in value]
    if depth and hasattr(value, "tolist"):
        return _plain(value.tolist(), depth - 1)
    return _text(value)


def _number(value: float) -> float | str | None:
    if math.isnan(value):
        return None
    return value if math.isfinite(value) else str(value)


def _text(value: object) -> str:
    return str(value).encode("utf-8", "replace").decode()
