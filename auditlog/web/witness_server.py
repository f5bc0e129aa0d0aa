"""A minimal witness (C2SP tlog-witness): pure ASGI, so uvicorn alone runs it.

::

    POST /add-checkpoint                    cosign, or say why not
    GET  /<hex sha256(origin)>/checkpoint   newest cosigned checkpoint, for monitors

A witness protects others from a log that shows two histories, so it must run where
the log's operator cannot reach it, and never forget. Do not restore an old copy of
its directory: make a new witness instead. What it does for all, and for each log, is
limited; behind a public address put a proxy that limits each caller.
"""

import asyncio
import logging
import socket
import time
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import Any, TypedDict, Unpack, get_args

from auditlog.core.errors import AuditLogError, ConfigurationError
from auditlog.core.note import Signer
from auditlog.storage.witness_directory import init_witness, open_witness_directory
from auditlog.storage.witness_state import WitnessState
from auditlog.web.witness_limits import per_second
from auditlog.web.witness_logs import DEFAULT_QPD, LogBook
from auditlog.web.witness_protocol import (
    TEXT_TYPE,
    Answer,
    Spec,
    finish_cosigning,
    process_add_checkpoint,
)

__all__ = [
    "DEFAULT_RATE",
    "MAX_BODY",
    "WitnessApp",
    "WitnessOptions",
    "init_witness",
    "open_witness",
    "serve_witness",
]

MAX_BODY = 1 << 16
"""Bytes in the largest request. Sixty-three proof lines and a log's own signatures,
ML-DSA-44 among them, are 7 KiB; a hundred signature lines of Ed25519, 12 KiB."""

DEFAULT_RATE = 200
"""Requests a second, of all logs together, and as many of monitors."""

_BODY_SECONDS = 15.0
"""A request whose body takes longer is given up."""

_MAX_CONNECTIONS = 256
_STOP_SECONDS = 5

_NOT_FOUND = Answer(404, TEXT_TYPE, b"not found\n")
_NOT_ALLOWED = Answer(405, TEXT_TYPE, b"method not allowed\n")
_CUT_SHORT = Answer(400, TEXT_TYPE, b"the request ended early\n")
_TOO_SLOW = Answer(408, TEXT_TYPE, b"the request took too long\n")
_TOO_LARGE = Answer(413, TEXT_TYPE, b"expected up to %d bytes\n" % MAX_BODY)
_TOO_MANY = Answer(429, TEXT_TYPE, b"the witness is asked too often\n", retry_after=1)
_FAILED = Answer(500, TEXT_TYPE, b"the witness cannot answer now\n")

_Scope = MutableMapping[str, Any]
_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]

_log = logging.getLogger("auditlog.witness")


class WitnessApp:
    """The ASGI application of one witness, to be run in one process."""

    def __init__(
        self,
        state: WitnessState,
        logs: LogBook,
        signers: Sequence[Signer],
        spec: Spec = "main",
        clock: Callable[[], float] = time.time,
        rate: int = DEFAULT_RATE,
    ) -> None:
        """Serve `logs`; `clock` gives seconds since the epoch."""
        self.vkeys = tuple(signer.verifier.vkey for signer in signers)
        self._state = state
        self._logs = logs
        self._signers = tuple(signers)
        self._spec: Spec = spec
        self._clock = clock
        # Apart, so that whoever reads too much keeps no log from being cosigned.
        self._writes = per_second(rate, time.monotonic)
        self._reads = per_second(rate, time.monotonic)
        self._paths: dict[str, str] = {}
        self._add_paths([*state.origins(), *logs.keys])
        # One thread: requests are answered one after the other, so that times and
        # sizes in cosignatures grow together, and the event loop never waits.
        self._thread = ThreadPoolExecutor(1, "witness")

    def _add_paths(self, origins: Sequence[str]) -> None:
        """Show these to monitors from now on; a log that is not served any more too."""
        self._paths = self._paths | {
            f"/{sha256(origin.encode()).hexdigest()}/checkpoint": origin
            for origin in origins
        }

    def close(self) -> None:
        """Finish what is being answered, then close the state."""
        self._thread.shutdown()
        self._state.close()

    async def __call__(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        """Answer one connection, as ASGI asks."""
        if scope["type"] == "http":
            await self._http(scope, receive, send)
        elif scope["type"] == "lifespan":
            await self._lifespan(receive, send)
        else:  # a WebSocket
            await send({"type": "websocket.close", "code": 1000})

    async def _lifespan(self, receive: _Receive, send: _Send) -> None:
        await receive()
        await send({"type": "lifespan.startup.complete"})
        await receive()
        await asyncio.to_thread(self.close)
        await send({"type": "lifespan.shutdown.complete"})

    async def _http(self, scope: _Scope, receive: _Receive, send: _Send) -> None:
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        method = scope["method"]
        origin = self._paths.get(path)
        if path == "/add-checkpoint":
            if method != "POST":
                return await _send_answer(send, _NOT_ALLOWED, allow="POST")
            busy = self._writes.take()
            answer = _TOO_MANY if busy else await self._add_checkpoint(receive)
        elif origin is not None:
            if method not in {"GET", "HEAD"}:
                return await _send_answer(send, _NOT_ALLOWED, allow="GET, HEAD")
            busy = self._reads.take()
            answer = _TOO_MANY if busy else await self._run(self._newest, origin)
        else:
            answer = _NOT_FOUND
        return await _send_answer(send, answer, head=method == "HEAD")

    async def _add_checkpoint(self, receive: _Receive) -> Answer:
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                body = await _read_body(receive)
        except TimeoutError:
            return _TOO_SLOW
        if isinstance(body, Answer):
            return body
        return await self._run(self._process, body)

    async def _run(self, answer: Callable[..., Answer], *args: object) -> Answer:
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self._thread, answer, *args)
        except AuditLogError as error:
            _log.error("cannot answer: %s", error)
            return _FAILED

    def _process(self, body: bytes) -> Answer:
        if self._logs.refresh():
            self._add_paths(list(self._logs.keys))
        return process_add_checkpoint(
            body,
            self._state,
            self._logs.keys,
            self._signers,
            self._clock(),
            self._spec,
            self._logs.charge,
        )

    def _newest(self, origin: str) -> Answer:
        finish_cosigning(self._state, origin, self._signers, self._clock())
        note = self._state.cosigned(origin)
        return _NOT_FOUND if note is None else Answer(200, TEXT_TYPE, note)


class WitnessOptions(TypedDict, total=False):
    """What may be said to `open_witness` by name."""

    spec: Spec
    lists: Sequence[Path]
    qpd: int
    rate: int


def open_witness(
    directory: Path,
    logs: Sequence[str],
    spec: Spec = "main",
    *,
    lists: Sequence[Path] = (),
    qpd: int = DEFAULT_QPD,
    rate: int = DEFAULT_RATE,
) -> WitnessApp:
    """Open a witness that exists, as an ASGI application to be run in one process.

    Args:
        directory: where `init_witness` made it.
        logs: the logs to cosign, as vkeys; a log may have several keys, and its
            origin is the name of each.
        spec: which text of tlog-witness decides between 409 and 422.
        lists: files that name more logs (`auditlog.web.witness_logs`), read again
            when they change.
        qpd: requests a day that each of `logs` may make.
        rate: requests a second that are answered, of all logs together.

    Raises:
        ConfigurationError: no witness, or only a part of one, is there; or a log's
            key, or a list, cannot be used.
    """
    if spec not in get_args(Spec):
        known = ", ".join(get_args(Spec))
        raise ConfigurationError(f"expected a tlog-witness version of {known}")
    book = LogBook(logs, lists, qpd)
    state, signers = open_witness_directory(directory)
    return WitnessApp(state, book, signers, spec, rate=rate)


def serve_witness(
    directory: Path,
    logs: Sequence[str],
    host: str,
    port: int,
    *,
    ready: Callable[[str], None] | None = None,
    **options: Unpack[WitnessOptions],
) -> None:
    """Serve a witness over HTTP until the process is told to stop.

    Args:
        directory: where `init_witness` made it.
        logs: the logs to cosign, as vkeys.
        host: name or address to listen on.
        port: port to listen on; 0 takes a free one.
        ready: called once, with the URL, when connections are accepted.
        options: as for `open_witness`.

    Raises:
        ConfigurationError: as `open_witness`; or uvicorn is not installed.
        AuditLogError: the address cannot be listened on.
    """
    try:
        import uvicorn  # noqa: PLC0415 - an extra, needed here only
    except ImportError:
        raise ConfigurationError(
            "serving a witness needs uvicorn: install decision-auditlog[web]"
        ) from None
    app = open_witness(directory, logs, **options)
    try:
        with _listen(host, port) as listener:
            if ready is not None:
                ready(_url(listener))
            config = uvicorn.Config(
                app,
                access_log=False,
                lifespan="on",
                limit_concurrency=_MAX_CONNECTIONS,
                log_level="warning",
                proxy_headers=False,
                server_header=False,
                timeout_graceful_shutdown=_STOP_SECONDS,
                ws="none",
            )
            uvicorn.Server(config).run(sockets=[listener])
    finally:
        app.close()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family)
        # Inherited by what is accepted, where asyncio does not set it: without, the
        # body of an answer waits 40 ms for the acknowledgement of its head.
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except (OSError, OverflowError, UnicodeError) as error:
        raise AuditLogError(f"cannot listen on {host} port {port}: {error}") from None
    return listener


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


async def _read_body(receive: _Receive) -> bytes | Answer:
    body = bytearray()
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            return _CUT_SHORT
        body += message.get("body", b"")
        if len(body) > MAX_BODY:
            return _TOO_LARGE
        if not message.get("more_body", False):
            return bytes(body)


async def _send_answer(
    send: _Send, answer: Answer, *, head: bool = False, allow: str = ""
) -> None:
    headers = [
        (b"content-type", answer.content_type.encode()),
        (b"content-length", b"%d" % len(answer.body)),
        (b"cache-control", b"no-store"),
    ]
    if allow:
        headers.append((b"allow", allow.encode()))
    if answer.retry_after:
        headers.append((b"retry-after", b"%d" % answer.retry_after))
    start = {"type": "http.response.start", "status": answer.status}
    await send({**start, "headers": headers})
    await send({"type": "http.response.body", "body": b"" if head else answer.body})
