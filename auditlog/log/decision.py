"""The decision that is being made right now, as the application sees it."""

from contextvars import ContextVar

from auditlog.capture.exchange import ModelIdentity
from auditlog.core.errors import AuditLogError

__all__ = ["SCOPE_KEY", "Decision", "current"]

SCOPE_KEY = "auditlog.decision"
"""Where an ASGI scope holds the `Decision` of its request."""


class Decision:
    """One decision while its request is being answered.

    There is one object per captured request, both behind `current()` and in
    ``scope["auditlog.decision"]``. It is changed in place: what a handler says reaches
    the middleware even from a thread or a task that runs in a copied context.
    """

    __slots__ = ("_id", "_model")

    def __init__(self, id_: bytes) -> None:
        """Start a decision with a UUIDv7 of 16 bytes."""
        # As `format_id` writes it, but for every request and for an id of our own.
        self._id = f"{id_[:4].hex()}-{id_[4:10].hex('-', 2)}-{id_[10:].hex()}"
        self._model: ModelIdentity | None = None

    @property
    def id(self) -> str:
        """The id under which the decision is in the log, as sent to the client."""
        return self._id

    @property
    def model(self) -> ModelIdentity | None:
        """The model that the application named last; None while it named none."""
        return self._model

    def set_model(
        self, name: str, *, version: str | None = None, digest: str | None = None
    ) -> None:
        """Say which model decides; the last call wins over every other source.

        After the end of the answer the entry is written and a call has no effect.

        Args:
            name: 1 to 256 printable characters, from code or configuration and
                never from the request: it stands in clear in the log.
            version: likewise.
            digest: of the model's artifact, ``sha256:`` and 64 lower-case hex digits.

        Raises:
            ConfigurationError: an argument is not as described.
        """
        self._model = ModelIdentity(name, version, digest)

    def __repr__(self) -> str:
        return f"Decision(id={self._id!r}, model={self._model!r})"


_CURRENT: ContextVar[Decision | None] = ContextVar("auditlog.decision", default=None)


def current() -> Decision:
    """Return the decision of the request that is being answered.

    Works in ``async def`` and ``def`` handlers, in dependencies and behind any other
    middleware.

    Raises:
        AuditLogError: called outside a request that `AuditMiddleware` captures.
    """
    decision = _CURRENT.get()
    if decision is None:
        raise AuditLogError(
            "expected to be inside a request that AuditMiddleware captures, but there "
            "is none here: is the middleware installed, and the route captured?"
        )
    return decision
