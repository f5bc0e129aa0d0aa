"""For the tests of an application: what would it have recorded?

::

    def test_the_model_is_named() -> None:
        with auditlog.testing.capture() as decisions:
            TestClient(app).post("/score", json={"income": 52000})
        assert decisions[0].model == "credit"
        assert decisions[0].json("response") == {"label": "approved"}

Every middleware of this process, and whatever calls `auditlog.record` and its like,
records into a log of its own in a temporary directory for as long as the block lasts: a
real one, with everything sealed and signed. Then it is removed, and what was captured
stays in memory: where there are rules of redaction, what they left of it. The options
of the application apply, but for the directory, the name, and the witnesses, who are
not asked.
"""

import json
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, overload

from auditlog.config import Config
from auditlog.core.errors import NotFoundError, StorageError
from auditlog.core.record import DECISION, Entry, format_id, parse_entry
from auditlog.log.directory import open_log
from auditlog.log.parts import STORED, Content
from auditlog.log.reader import Reader
from auditlog.log.runtime import Runtime, runtime_for
from auditlog.log.transcript import transcript
from auditlog.web.process import stand_in

__all__ = ["CapturedAmendment", "CapturedDecision", "Decisions", "capture"]

_ORIGIN = "auditlog.invalid/testing"
_FLUSH_SECONDS = 10.0
_CHUNK = 1024


@dataclass(frozen=True, slots=True)
class CapturedAmendment:
    """What was said later about a decision, with its content opened."""

    id: str
    kind: str
    """Such as ``human_review``, or what the middleware says: ``answer_withheld``."""
    context: dict[str, bytes] = field(repr=False)
    """What goes under ``context/``, by name; nothing where the middleware says it."""

    def json(self, name: str) -> Any:
        """Return a context as JSON, such as ``user`` or ``outcome``.

        Raises:
            KeyError: nothing of this name was said.
        """
        return json.loads(self.context[name])


@dataclass(frozen=True, slots=True)
class CapturedDecision:
    """One decision, as it stands in the log, with its content opened."""

    id: str
    """As in the response header ``decision-id``."""
    outcome: str
    """How the call ended."""
    method: str | None
    """None beyond HTTP, and so are route and status."""
    route: str | None
    """Template, such as ``/score/{id}``."""
    status: int | None
    model: str | None
    version: str | None
    request: bytes = field(repr=False)
    """What is kept of the body, as it crossed the wire."""
    response: bytes = field(repr=False)
    context: dict[str, bytes] = field(repr=False)
    """What goes under ``context/``, by name."""
    entry: dict[str, Any] = field(repr=False)
    """What stands in clear: `data` of the entry."""
    operation: str | None = None
    """Name that code gave, beyond HTTP."""
    amendments: tuple[CapturedAmendment, ...] = ()
    """What was said later, in order."""

    @property
    def messages(self) -> list[tuple[str, str | bytes]]:
        """What was said on a WebSocket: ``client`` or ``application``, and what.

        Empty for a request.
        """
        lines = transcript(self.entry, self.request, self.response)
        return [(line.by, line.payload) for line in lines]

    def json(self, part: str) -> Any:
        """Return a part as JSON: ``request``, ``response``, or the name of a context.

        Raises:
            ValueError: it is no JSON.
            KeyError: nothing of this name was captured.
        """
        known = {**self.context, "request": self.request, "response": self.response}
        return json.loads(known[part])


class Decisions(Sequence[CapturedDecision]):
    """What was recorded so far, in the order of the log; grows inside the block."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._runtimes: list[Runtime] = []
        self._logs: dict[Path, Path] = {}
        self._final: list[CapturedDecision] | None = None

    @overload
    def __getitem__(self, index: int) -> CapturedDecision: ...
    @overload
    def __getitem__(self, index: slice) -> list[CapturedDecision]: ...
    def __getitem__(
        self, index: int | slice
    ) -> CapturedDecision | list[CapturedDecision]:
        """Return one of them, or several."""
        return self._read()[index]

    def __len__(self) -> int:
        """Return how many there are."""
        return len(self._read())

    def __repr__(self) -> str:
        """Show them all: it is what a failing assertion prints."""
        return repr(self._read())

    def _runtime(self, config: Config) -> Runtime:
        """Return the runtime that stands in for the one of `config`."""
        original = config.dir.resolve()
        log = self._directory / str(len(self._logs))
        log = self._logs.setdefault(original, log)
        runtime = runtime_for(replace(config, dir=log, origin=_ORIGIN, policy=None))
        if runtime not in self._runtimes:
            self._runtimes.append(runtime)
        return runtime

    def _read(self) -> list[CapturedDecision]:
        if self._final is not None:
            return self._final
        for runtime in self._runtimes:
            if not runtime.flush(_FLUSH_SECONDS):
                raise StorageError("some decisions did not reach the temporary log")
        return [one for log in self._logs.values() for one in _decisions(log)]

    def _end(self) -> None:
        for runtime in self._runtimes:
            runtime.stop()
        self._final = self._read()


@contextmanager
def capture() -> Iterator[Decisions]:
    """Record what the applications of this process decide, and nowhere else.

    Works with any test client that calls the application in this process, with or
    without its lifespan, in synchronous and asynchronous tests, however many event
    loops come and go. The list can be read inside the block and after it.
    """
    with tempfile.TemporaryDirectory(prefix="auditlog-") as directory:
        decisions = Decisions(Path(directory))
        with stand_in(decisions._runtime):  # noqa: SLF001 - one class in two parts
            try:
                yield decisions
            finally:
                decisions._end()  # noqa: SLF001


def _decisions(directory: Path) -> Iterator[CapturedDecision]:
    try:
        log = open_log(directory, read_only=True)
    except NotFoundError:
        # The application has not been called yet.
        return
    with log:
        reader, size = Reader(log), log.store.size()
        for start in range(0, size, _CHUNK):
            for encoded in log.store.read(start, min(start + _CHUNK, size)):
                entry = parse_entry(encoded)
                if entry.type == DECISION:
                    yield _decision(entry, reader)


def _decision(entry: Entry, reader: Reader) -> CapturedDecision:
    data, id_ = entry.data, format_id(entry.id)
    kept = _kept(reader.content(id_)) if "commitment" in data else {}
    return CapturedDecision(
        id=id_,
        outcome=data["outcome"],
        method=data.get("http.request.method"),
        route=data.get("http.route"),
        status=data.get("http.response.status_code"),
        model=data.get("model.name"),
        version=data.get("model.version"),
        request=kept.pop("request", b""),
        response=kept.pop("response", b""),
        context=kept,
        entry=data,
        operation=data.get("operation"),
        amendments=tuple(_amendments(id_, reader)),
    )


def _kept(content: Content) -> dict[str, bytes]:
    """Return bodies and leaves by name; of what was redacted, what is left of it."""
    found = {"request": content.request, "response": content.response}
    for name, value in content.context.items():
        found[name.removeprefix(STORED)] = value
    return found


def _amendments(id_: str, reader: Reader) -> Iterator[CapturedAmendment]:
    for encoded in reader.decision(id_).amendments:
        entry = parse_entry(encoded)
        name, kind = format_id(entry.id), entry.data["kind"]
        sealed = "commitment" in entry.data
        context = _kept(reader.content(name)) if sealed else {}
        bodies = {"request", "response"}  # which it has not
        said = {name: context[name] for name in context.keys() - bodies}
        yield CapturedAmendment(name, kind, said)
