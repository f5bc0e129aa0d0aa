"""What is written piece by piece, as a body that is read piece by piece.

Whoever writes is given `write`, in a thread of their own; whoever answers a request
reads. A few pieces wait in between, so that memory stays flat however slow the reader
is, and nothing touches a disk: what is sent may be personal.
"""

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from queue import Empty, Full, Queue
from typing import Final

from starlette.responses import StreamingResponse
from starlette.types import Receive, Scope, Send

__all__ = ["Piped", "PipedResponse"]

_log = logging.getLogger("auditlog.web")

_WAITING = 16
"""Pieces that may wait."""
_PIECE = 1 << 16
"""Bytes of a piece: what is written in bits is gathered."""
_LOOK_SECONDS = 0.2
Write = Callable[[bytes], object]


class _GoneError(Exception):
    """Nobody reads any more."""


class _End:
    """There is no more, because of an error or not."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


class Piped:
    """The pieces that a function writes, to be read once."""

    def __init__(self, produce: Callable[[Write], object]) -> None:
        """Begin to write.

        Args:
            produce: writes all of it, by the function that it is given; what that
                raises where nobody reads any more is to be let through.

        Raises:
            Exception: what `produce` raises before it has written a piece.
        """
        self._gone = threading.Event()
        queue: Queue[bytes | _End] = Queue(_WAITING)
        self._queue: Final = queue
        # It knows the queue and not this object, which may be collected then.
        pipe = _Pipe(queue, self._gone)
        threading.Thread(
            target=pipe.run, args=(produce,), name="auditlog-export", daemon=True
        ).start()
        self._first = queue.get()
        if isinstance(self._first, _End) and self._first.error is not None:
            raise self._first.error

    def __iter__(self) -> Iterator[bytes]:
        """Yield the pieces.

        Raises:
            RuntimeError: it could not be written to its end, so that the connection has
                to break: what was sent is not whole.
        """
        try:
            piece = self._first
            while not isinstance(piece, _End):
                yield piece
                piece = self._queue.get()
        finally:
            self.close()
        if piece.error is not None:
            # Whose message may be about the person.
            _log.error("an answer breaks off: %s", type(piece.error).__name__)
            raise RuntimeError("an answer broke off while it was written")

    def close(self) -> None:
        """Let whoever writes know that nobody reads any more."""
        self._gone.set()

    def __del__(self) -> None:
        """Do so, too, where it was never read to its end."""
        self._gone.set()


class PipedResponse(StreamingResponse):
    """An answer whose writer ends with it, also where the client has left."""

    def __init__(
        self, piped: Piped, media_type: str, headers: Mapping[str, str]
    ) -> None:
        """Take what is read, and what is said of it."""
        super().__init__(iter(piped), media_type=media_type, headers=headers)
        self._piped = piped

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer. Nobody closes an iterator that was left in the middle."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._piped.close()


class _Pipe:
    """The end into which is written."""

    def __init__(self, queue: "Queue[bytes | _End]", gone: threading.Event) -> None:
        self._queue = queue
        self._gone = gone
        self._held = bytearray()

    def run(self, produce: Callable[[Write], object]) -> None:
        error: BaseException | None = None
        try:
            produce(self._write)
            self._put(bytes(self._held))
        except _GoneError:
            return
        except BaseException as raised:  # noqa: BLE001 - the reader raises it
            error = raised
        try:
            self._put(_End(error))
        except _GoneError:
            return

    def _write(self, data: bytes) -> None:
        self._held += data
        while len(self._held) >= _PIECE:
            piece = bytes(self._held[:_PIECE])
            del self._held[:_PIECE]
            self._put(piece)

    def _put(self, piece: bytes | _End) -> None:
        while not self._gone.is_set():
            try:
                self._queue.put(piece, timeout=_LOOK_SECONDS)
            except Full:
                continue
            return
        # So that nothing waits in memory for nobody.
        while True:
            try:
                self._queue.get_nowait()
            except Empty:
                raise _GoneError from None
