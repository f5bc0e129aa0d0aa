"""What is said of a decision beyond HTTP: its name, its input and output, and the rest.

An *operation* is what code calls the work that decides, such as ``nightly-scoring``. It
stands in clear in the log where a route would.
"""

from collections.abc import Mapping
from typing import Any

from auditlog.core.errors import ConfigurationError, MalformedError
from auditlog.core.record import parse_id
from auditlog.log.batch import Numbering
from auditlog.log.decision import Decision
from auditlog.log.said import words
from auditlog.log.values import Written, written
from auditlog.options import Options

__all__ = ["CAUSED_BY", "About", "Operation", "check_operation"]

CAUSED_BY = "auditlog.caused_by"
"""Name of the annotation that says which decision led to this one."""

_MAX_OPERATION = 256
_WITH_OURS = 1 << 17


class About(Options, total=False):
    """What else may be said of a decision, and the options of its log."""

    input_type: str | None
    """Media type of the input, where it is bytes or text."""
    user: str | None
    """Who asked for it, as `Decision.set_user`."""
    session: str | None
    """As `Decision.set_session`."""
    annotations: Mapping[str, Any] | None
    """As `Decision.annotate`."""
    caused_by: str | None
    """Id of the decision that led to it, such as that of the request which put a job
    into a queue. Inside another decision it is that one."""


class Operation(Decision):
    """The decision of a block: all that a `Decision` can, and its input and output."""

    _input: Written | None = None
    _output: Written | None = None

    @property
    def input(self) -> Written | None:
        """What the model was given, as bytes; None if nothing was said."""
        return self._input

    @property
    def output(self) -> Written | None:
        """What the model gave, as bytes; None if nothing was said."""
        return self._output

    def set_input(self, value: Any, *, media_type: str | None = None) -> None:
        """Say what the model is given; the last call wins.

        Args:
            value: bytes, text or JSON (`auditlog.log.values`), taken as it is now.
            media_type: of bytes or text that are not ``application/octet-stream`` or
                ``text/plain``.

        Raises:
            ConfigurationError: JSON cannot say it, or the media type is no such thing.
        """
        self._input = written("the input", value, media_type)

    def set_output(self, value: Any, *, media_type: str | None = None) -> None:
        """Say what the model gave, likewise.

        Raises:
            ConfigurationError: JSON cannot say it, or the media type is no such thing.
        """
        self._output = written("the output", value, media_type)

    @property
    def has_cause(self) -> bool:
        """Whether it was said which decision led to this one."""
        return self._known().has("annotations", CAUSED_BY)

    def caused_by(self, decision: str) -> None:
        """Say which decision led to this one, such as that of a request, by its id.

        Raises:
            ConfigurationError: it is no id of a decision.
        """
        said = {CAUSED_BY: {"decision": _id(decision)}}
        self._facts = self._known().plus("annotations", said, limit=_WITH_OURS)

    def opened(self, id_: bytes, number: Numbering, *, strict: bool) -> None:
        """Take the id under which it is recorded; for whoever opened it.

        Args:
            id_: UUIDv7, 16 bytes.
            number: gives further decisions of a batch their numbers.
            strict: whether one that gets no number must not be made.
        """
        self._raw, self._number, self._strict = id_, number, strict


def check_operation(name: str) -> str:
    """Return the name of an operation.

    Raises:
        ConfigurationError: it is not 1 to 256 printable characters.
    """
    text = words("the name of an operation", name, _MAX_OPERATION)
    if not text.isprintable():
        raise ConfigurationError(
            "expected the name of an operation in printable characters, got others"
        )
    return text


def _id(text: str) -> str:
    try:
        parse_id(words("the id of a decision", text, _MAX_OPERATION))
    except MalformedError:
        raise ConfigurationError(
            "expected the id of a decision, a UUIDv7 in lower case, got other text"
        ) from None
    return text
