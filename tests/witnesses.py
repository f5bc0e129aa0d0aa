"""Logs that ask witnesses, honest and not, and witnesses to ask.

Trees are made of naive entries, so that a test can say which past a log shows: `fork`
is the number of its first entry that differs from the honest tree; None is honest.
"""

import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import uvicorn

from auditlog.core.checkpoint import Checkpoint, format_checkpoint
from auditlog.core.merkle import (
    NodeReader,
    leaf_hash,
    nodes_of,
    prove_consistency,
    tree_root,
)
from auditlog.core.note import (
    COSIGNATURE_ED25519,
    ED25519,
    ML_DSA_44,
    Signer,
    make_signer,
    sign_note,
)
from auditlog.core.proof import AddCheckpoint, format_add_checkpoint
from auditlog.storage.witness_directory import init_witness
from auditlog.storage.witness_state import WitnessState
from auditlog.web.witness_server import open_witness

__all__ = [
    "NOW",
    "WITNESS_NAME",
    "SomeLog",
    "listening",
    "new_state",
    "running",
    "served_witness",
    "witness_signers",
]

NOW = 1_800_000_000
WITNESS_NAME = "witness.example/w1"
_LEAVES = 600


@cache
def _nodes(fork: int | None) -> NodeReader:
    first = _LEAVES if fork is None else fork
    entries = [b"entry %d" % i for i in range(first)]
    entries += [b"other %d" % i for i in range(first, _LEAVES)]
    return nodes_of([leaf_hash(entry) for entry in entries])


class SomeLog:
    """A log of up to 600 entries that signs any size of any of its pasts."""

    def __init__(
        self, origin: str = "log.example/a", types: tuple[int, ...] = (ED25519,)
    ) -> None:
        self.origin = origin
        self.signers = [make_signer(origin, type_, bytes([7]) * 32) for type_ in types]
        self.verifiers = tuple(signer.verifier for signer in self.signers)
        self.vkeys = [verifier.vkey for verifier in self.verifiers]
        self.keys = {origin: self.verifiers}
        self._notes: dict[tuple[int, int | None], bytes] = {}

    def root(self, size: int, fork: int | None = None) -> bytes:
        return tree_root(size, _nodes(fork))

    def text(self, size: int, fork: int | None = None) -> bytes:
        return format_checkpoint(Checkpoint(self.origin, size, self.root(size, fork)))

    def note(self, size: int, fork: int | None = None) -> bytes:
        if (size, fork) not in self._notes:
            self._notes[size, fork] = sign_note(self.text(size, fork), self.signers)
        return self._notes[size, fork]

    def proof(self, old: int, new: int, fork: int | None = None) -> tuple[bytes, ...]:
        return prove_consistency(old, new, _nodes(fork))

    def request(self, old: int, new: int, fork: int | None = None) -> bytes:
        hashes = self.proof(old, new, fork) if old <= new else ()
        return self.request_with(old, hashes, self.note(new, fork))

    @staticmethod
    def request_with(old: int, hashes: tuple[bytes, ...], note: bytes) -> bytes:
        return format_add_checkpoint(AddCheckpoint(old, hashes, note))


@cache
def witness_signers(name: str = WITNESS_NAME) -> tuple[Signer, ...]:
    types = (COSIGNATURE_ED25519, ML_DSA_44)
    return tuple(make_signer(name, type_, bytes([type_]) * 32) for type_ in types)


def new_state(directory: Path) -> WitnessState:
    """An empty state, opened; close it."""
    vkeys = tuple(signer.verifier.vkey for signer in witness_signers())
    WitnessState.create(directory / "state.sqlite3", vkeys)
    return WitnessState(directory / "state.sqlite3")


@contextlib.contextmanager
def running(app: object) -> Iterator[str]:
    """Serve an ASGI application with uvicorn in a thread; yield its URL."""
    config = uvicorn.Config(
        app,  # type: ignore[arg-type]  # any ASGI application
        log_level="error",
        lifespan="on",
        ws="none",
        timeout_graceful_shutdown=1,
    )
    server = uvicorn.Server(config)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        thread = threading.Thread(target=server.run, args=([listener],))
        thread.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join()


@contextlib.contextmanager
def served_witness(directory: Path, logs: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Make and serve a witness; yield its URL and vkeys."""
    vkeys = init_witness(directory, WITNESS_NAME)
    with running(open_witness(directory, logs)) as url:
        yield url, vkeys


@contextlib.contextmanager
def listening(
    serve: Callable[[socket.socket], None],
    *,
    requests: list[bytes] | None = None,
    read: bool = True,
    tls: Path | None = None,
) -> Iterator[str]:
    """Let `serve` answer each connection, in a thread of its own; yield the URL.

    Args:
        serve: called once the request has been read; the connection is closed after.
        requests: gets each request, head and body.
        read: False calls `serve` at once.
        tls: PEM file with key and certificate, to speak TLS.
    """
    peer = _Peer(serve, [] if requests is None else requests, read, tls)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        accepting = threading.Thread(target=peer.accept, args=(listener,))
        accepting.start()
        scheme = "http" if tls is None else "https"
        try:
            yield f"{scheme}://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            accepting.join()
            for thread in peer.threads:
                thread.join()


class _Peer:
    """Accepts connections until its listener is shut down."""

    def __init__(
        self,
        serve: Callable[[socket.socket], None],
        requests: list[bytes],
        read: bool,
        tls: Path | None,
    ) -> None:
        self.threads: list[threading.Thread] = []
        self._serve = serve
        self._requests = requests
        self._read = read
        self._context = None
        if tls is not None:
            self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self._context.load_cert_chain(tls)

    def accept(self, listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._answer, args=(connection,))
            self.threads.append(thread)
            thread.start()

    def _answer(self, connection: socket.socket) -> None:
        # A peer that hangs up in the middle is what some tests are about.
        with connection, contextlib.suppress(OSError):
            if self._context is None:
                self._talk(connection)
                return
            with self._context.wrap_socket(connection, server_side=True) as secure:
                self._talk(secure)

    def _talk(self, connection: socket.socket) -> None:
        if self._read:
            self._requests.append(_read_request(connection))
        self._serve(connection)


def _read_request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += _receive(connection)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(
        (
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        ),
        0,
    )
    while len(body) < length:
        body += _receive(connection)
    return head + b"\r\n\r\n" + body


def _receive(connection: socket.socket) -> bytes:
    data = connection.recv(65536)
    if not data:
        raise ConnectionAbortedError
    return data
