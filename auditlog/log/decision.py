"""The decision that is being made right now, as the application sees it.

::

    decision = auditlog.current()               # in any handler, dependency or thread
    decision.set_model("credit", version="3")
    decision.set_subject(customer.number)
    decision.set_result(label="refused", score=0.31, threshold=0.5, reasons=["R12"])

There is one object for a captured request. `auditlog.current()`, the FastAPI dependency
`auditlog.get_decision` and ``request.scope["auditlog.decision"]`` all give it. It is
changed in place, so what is said in a thread, in a task or behind other middleware
counts. Once the answer has ended the entry is written: from then on, whatever is said
is still checked, but has no effect.

But for a model's identity, nothing of it stands in clear in an entry. `said.py` says
how values are written, and ``auditlog/docs/formats.md`` in which ``context/`` leaf.
"""

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextvars import ContextVar
from decimal import Decimal
from typing import Any, Literal, NamedTuple

import msgspec

from auditlog.core.errors import AuditLogError, ConfigurationError
from auditlog.log.batch import Batch, Item, Numbering
from auditlog.log.identity import new_id
from auditlog.log.placing import described
from auditlog.log.said import NOTHING, Facts, annotations, result, subject_of, words
from auditlog.models.identity import Model

__all__ = [
    "BATCH",
    "MAX_ITEMS",
    "NIL",
    "SCOPE_KEY",
    "Decision",
    "HumanAction",
    "Said",
    "current",
    "get_decision",
]

SCOPE_KEY = "auditlog.decision"
"""Where an ASGI scope holds the `Decision` of its request."""

NIL = bytes(16)
"""Id of a decision that is not recorded: it is never in a log (RFC 9562 §5.9)."""

MAX_ITEMS = 1000
"""Decisions into which one may be split."""

HumanAction = Literal["approved", "overridden", "escalated"]
"""What a person did about what the model said."""

_log = logging.getLogger("auditlog")

_ACTIONS = ("approved", "overridden", "escalated")
BATCH = "auditlog.batch"
"""Name of the annotation that says to which batch a decision belongs."""
_WITH_OURS = 1 << 17
_NAME, _REASON, _ERROR = 256, 256, 1024
_MAX_ATTEMPTS = 64
_TIME_BYTES = 6


class Said(NamedTuple):
    """What the application said by the end of an answer."""

    model: Model | None
    facts: Facts
    items: "tuple[Item[Decision], ...]"
    """Further decisions of a batch, to be submitted with this one."""


class Decision(msgspec.Struct, eq=False):
    """One decision while its request is being answered.

    Every method may be called from any thread. One that refuses its arguments changes
    nothing; its message says what was expected, and never holds a value.
    """

    # Made for each request, so a struct; by the middleware.
    _raw: bytes
    """UUIDv7, 16 bytes."""
    _number: Numbering | None = None
    """Gives further decisions their numbers; None where nothing is recorded."""
    _strict: bool = False
    """Whether a decision that gets no number must not be made."""
    _model: Model | None = None
    # Both guarded by _LOCK, both None where a handler says nothing, as most do.
    _facts: Facts | None = None
    _batch: "Batch[Decision] | None" = None
    _ended: bool = False
    _turn: Callable[[], None] | None = None
    """Marks a turn of the session; None where there is no session."""

    @property
    def id(self) -> str:
        """The id under which the decision is in the log, as sent to the client.

        All zeros where nothing is recorded.
        """
        # As `format_id` writes it, but for every request and for an id of our own.
        raw = self._raw
        return f"{raw[:4].hex()}-{raw[4:10].hex('-', 2)}-{raw[10:].hex()}"

    @property
    def model(self) -> Model | None:
        """The model that the application named last; None while it named none."""
        return self._model

    @property
    def recorded(self) -> bool:
        """Whether there will be an entry.

        Not where the route is excluded, or auditlog is disabled or failing.
        """
        return self._number is not None

    @property
    def spoken(self) -> bool:
        """Whether the application has said anything."""
        return (self._model or self._facts or self._batch) is not None

    def set_model(
        self,
        name: str | Model,
        *,
        version: str | None = None,
        digest: str | None = None,
    ) -> None:
        """Say which model decides; the last call wins over every other source.

        Args:
            name: 1 to 256 printable characters, from code or configuration and
                never from the request: it stands in clear in the log. Or an identity,
                such as `Model.from_path` gives; then nothing else.
            version: likewise.
            digest: of the model's artifact, ``sha256:`` and 64 lower-case hex digits.

        Raises:
            ConfigurationError: an argument is not as described.
        """
        if not isinstance(name, Model):
            self._model = Model(name, version, digest)
        elif version is None is digest:
            self._model = name
        else:
            raise ConfigurationError(
                "expected a Model alone, or a name with version and digest"
            )

    def set_subject(self, value: str, *, kind: str = "person") -> None:
        """Say whom or what the decision is about; the last call wins.

        Args:
            value: an identifier, 1 to 1,024 characters; kept in Unicode form NFC.
            kind: what it identifies: lower-case letters, digits, ``.``, ``_``, ``-``.

        Raises:
            ConfigurationError: an argument is not as described.
        """
        subject = subject_of(value, kind)
        self._put("subject", id=subject.identifier, kind=subject.kind)

    def set_user(self, value: str) -> None:
        """Say who called, 1 to 1,024 characters; the last call wins.

        Raises:
            ConfigurationError: the argument is not as described.
        """
        self._put("user", caller=words("a user", value, _ERROR))

    def set_session(self, value: str) -> None:
        """Say to which session or conversation it belongs; the last call wins.

        Raises:
            ConfigurationError: it is not 1 to 1,024 characters.
        """
        self._put("session", id=words("a session", value, _ERROR))

    def new_turn(self) -> None:
        """Say that a turn of a conversation begins, on a WebSocket.

        It begins with the message that came last, if that was one of the client; else
        with the next one. Where it began is in the log; of very many turns only how
        many there were.

        Raises:
            ConfigurationError: this is no WebSocket's decision.
        """
        if self._turn is not None and not self._ended:
            self._turn()
        elif self._turn is None and self.recorded:
            raise ConfigurationError(
                "expected the decision of a WebSocket, which has turns, got one of "
                "another kind"
            )

    def set_result(
        self,
        *,
        label: str | int | bool | None = None,
        score: float | Decimal | None = None,
        threshold: float | Decimal | None = None,
        reasons: Sequence[str] = (),
    ) -> None:
        """Say what the model said; the last call wins whole.

        Args:
            label: class or verdict, a text of up to 1,024 characters, a number or bool.
            score: a finite number. NumPy's scalars are welcome here.
            threshold: what the score was compared with, likewise.
            reasons: list or tuple of up to 64 reasons, each of up to 1,024 characters.

        Raises:
            ConfigurationError: an argument is not as described.
        """
        self._put("outcome", result=result(label, score, threshold, reasons))

    def set_human(self, *, reviewer: str, action: HumanAction) -> None:
        """Say what a person did about the result; the last call wins.

        Args:
            reviewer: who, 1 to 1,024 characters. It goes into another leaf, so that
                what was done can be shown without who did it.
            action: ``approved``, ``overridden`` or ``escalated``.

        Raises:
            ConfigurationError: an argument is not as described.
        """
        who = words("a reviewer", reviewer, _ERROR)
        if action not in _ACTIONS:
            allowed = ", ".join(_ACTIONS)
            raise ConfigurationError(f"expected an action out of {allowed}")
        with _LOCK:
            facts = self._known().plus("outcome", {"human": {"action": action}})
            self._facts = facts.plus("user", {"reviewer": who})

    def annotate(self, /, **attributes: Any) -> None:
        """Add anything else that should be provable later; None removes a name.

        Args:
            attributes: by name, which has up to 64 ASCII letters, digits, ``.``, ``_``
                and ``-`` and does not begin with ``auditlog.``; JSON as values.

        Raises:
            ConfigurationError: an argument is not as described.
        """
        self._put("annotations", **annotations(attributes))

    def attempt(
        self, *, model: str, provider: str | None = None, error: str | None = None
    ) -> None:
        """Add a call to a model inside this decision: a retry, a fallback, a chain.

        Args:
            model: ``name`` or ``name@version``, 1 to 256 characters. It may come from
                traffic: it does not stand in clear.
            provider: who ran it, likewise.
            error: why it gave no answer, up to 1,024 characters; None if it did.

        Raises:
            ConfigurationError: an argument is not as described, or it is the 65th.
        """
        made = {"model": words("the model of an attempt", model, _NAME)}
        if provider is not None:
            made["provider"] = words("the provider of an attempt", provider, _NAME)
        if error is not None:
            made["error"] = words("the error of an attempt", error, _ERROR)
        with _LOCK:
            attempts = self._known().get("model", "attempts") or []
            if len(attempts) == _MAX_ATTEMPTS:
                raise ConfigurationError(f"expected at most {_MAX_ATTEMPTS} attempts")
            members = {"attempts": [*attempts, made]}
            self._facts = self._known().plus("model", members)

    def skip(self, reason: str) -> None:
        """Say that this is no decision: a health probe, a dry run, a cached answer.

        A number that was issued is never silently dropped, so the entry stays. Its
        outcome is ``skipped`` if the call ends well, and bodies are committed to but
        not kept.

        Args:
            reason: 1 to 256 characters.

        Raises:
            ConfigurationError: it is anything else.
        """
        self._put("outcome", skipped=words("a reason to skip", reason, _REASON))

    def split(self, n: int) -> "list[Decision]":
        """Turn this decision into `n`, one for each item of a batch; can be done once.

        Each has an id, a number and an entry of its own and begins with what was said
        so far. The first is this one, whose id the client gets; it holds request and
        response, and the others name it. However the call ends, each is recorded.

        Numbers are journalled here, one write for each, and one sync too under
        ``on_failure="closed"``: split large batches in a thread or a ``def`` handler.

        Args:
            n: 1 to 1,000.

        Raises:
            ConfigurationError: `n` is anything else, or it was split before, or is one
                of a batch.
            AuditLogError: under ``closed``, an item cannot be numbered, or the answer
                has ended. Under ``open`` it stays unrecorded then, which is logged.
        """
        if type(n) is not int or not 1 <= n <= MAX_ITEMS:
            raise ConfigurationError(
                f"expected to split into 1 to {MAX_ITEMS} decisions"
            )
        with _LOCK:
            before = self._known()
            if before.has("annotations", BATCH):
                # One of a batch would number decisions that nobody submits.
                raise ConfigurationError("expected to split a decision once, got twice")
            said = {BATCH: {"size": n}}
            self._facts = before.plus("annotations", said, limit=_WITH_OURS)
            batch = self._batch = Batch()
        # After it is known, or `conclude` could have missed it.
        if self._ended:
            batch.close()
        return [self, *self._further(batch, before, n)]

    def _further(
        self, batch: "Batch[Decision]", before: Facts, n: int
    ) -> Iterator["Decision"]:
        """Number decisions 1 to n - 1 of a batch."""
        number = self._number
        time = int.from_bytes(self._raw[:_TIME_BYTES]) * 1000
        for index in range(1, n):
            said = {BATCH: {"decision": self.id, "index": index, "size": n}}
            facts = before.plus("annotations", said, limit=_WITH_OURS)
            id_ = new_id(time)
            item = Decision(
                id_, number, self._strict, self._model, facts, _turn=self._turn
            )
            try:
                if number is not None:
                    batch.add(item, id_, time, number)
            except Exception as error:
                if self._strict:
                    raise AuditLogError(str(error)) from error
                why = described(error)
                _log.error("auditlog: a batch is not recorded whole: %s", why)
                number = None
            if number is None:
                item = Decision(NIL)
            yield item

    def conclude(self) -> Said | None:
        """Return what was said, None if nothing; for the middleware, at the end."""
        # In this order: `split` makes its batch known first, and then looks at this.
        self._ended = True
        if self._model is None and self._facts is None and self._batch is None:
            return None
        with _LOCK:
            facts, batch = self._known(), self._batch
        return Said(self._model, facts, () if batch is None else batch.close())

    def _known(self) -> Facts:
        return self._facts or NOTHING

    def _put(self, leaf: str, /, **members: Any) -> None:
        with _LOCK:
            self._facts = self._known().plus(leaf, members)

    def __repr__(self) -> str:
        return f"Decision(id={self.id!r}, model={self._model!r})"


_LOCK = threading.Lock()
"""One for all decisions: it is held for microseconds, and seldom."""


def _unlock() -> None:
    global _LOCK  # noqa: PLW0603 - the parent's may be held by a thread that is not here
    _LOCK = threading.Lock()


os.register_at_fork(after_in_child=_unlock)

_CURRENT: ContextVar[Decision | None] = ContextVar("auditlog.decision", default=None)


def current() -> Decision:
    """Return the decision that is being made: of a request, or of a block.

    Works in ``async def`` and ``def`` handlers, in dependencies, behind any other
    middleware, and in the innermost block of `auditlog.decision`. In a thread that you
    start yourself, pass the decision on. Of a request that is not captured it gives one
    that is not `recorded`.

    Raises:
        AuditLogError: called outside a request that passed `AuditMiddleware`, and
            outside a block of `auditlog.decision`.
    """
    decision = _CURRENT.get()
    if decision is None:
        raise AuditLogError(
            "expected to be inside a request that passed AuditMiddleware, or inside a "
            "block of auditlog.decision, but there is none here: is the middleware "
            "installed?"
        )
    return decision


async def get_decision() -> Decision:
    """Return `current()`, as a dependency: ``Depends(auditlog.get_decision)``.

    Raises:
        AuditLogError: as for `current`.
    """
    return current()
