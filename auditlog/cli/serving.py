"""Commands that stay: serve, witness serve; and what else a witness does."""

import argparse
import base64
import contextlib
import socket
from typing import TYPE_CHECKING, Any

from auditlog.cli.opening import config_of, ready
from auditlog.cli.output import Output
from auditlog.core.errors import AuditLogError
from auditlog.core.proof import parse_add_checkpoint
from auditlog.core.record import format_time
from auditlog.log.directory import open_log

if TYPE_CHECKING:
    from auditlog.storage.witness_state import Refusal

__all__ = ["serve", "witness_init", "witness_serve", "witness_status"]

_NEEDS_WEB = (
    "`auditlog serve` needs {missing}, which is not installed: "
    "pip install 'decision-auditlog[web]'"
)
_MAX_CONNECTIONS = 1000
_STOP_SECONDS = 5
_LOOPBACK = ("127.", "::1", "localhost")


def serve(options: argparse.Namespace, out: Output) -> int:
    """Answer look-ups over HTTP until it is stopped."""
    try:
        import uvicorn

        from auditlog.web.api import create_app
    except ModuleNotFoundError as error:
        raise AuditLogError(_NEEDS_WEB.format(missing=error.name)) from None
    directory = config_of(options).dir
    # Say now, not at the first request, that there is no log, or forget what it must.
    with ready(open_log(directory)) as log:
        origin = log.origin
    with contextlib.closing(_listen(options.host, options.port)) as listening:
        if not options.host.startswith(_LOOPBACK):
            out.warn("tokens cross the network in clear: put TLS in front")
        _announce(out, f"{origin} from {directory}", _url(options.host, listening))
        config = uvicorn.Config(
            create_app(directory),
            access_log=False,
            lifespan="on",
            limit_concurrency=_MAX_CONNECTIONS,
            log_level="warning",
            server_header=False,
            timeout_graceful_shutdown=_STOP_SECONDS,
            ws="none",
        )
        uvicorn.Server(config).run(sockets=[listening])
    return 0


def witness_init(options: argparse.Namespace, out: Output) -> int:
    """Make a witness; print its verifier keys, one a line."""
    from auditlog.web.witness_server import init_witness

    vkeys = init_witness(options.dir, options.name)
    if out.machine:
        out.document({"dir": str(options.dir), "name": options.name, "vkeys": vkeys})
    else:
        out.lines(vkeys)
    out.say("Give these keys to the operators and auditors of the logs you witness;")
    out.say(f"keep {options.dir} to yourself, and never restore an old copy of it.")
    return 0


def witness_serve(options: argparse.Namespace, out: Output) -> int:
    """Cosign checkpoints of the logs named until it is stopped."""
    from auditlog.web.witness_server import serve_witness

    serve_witness(
        options.dir,
        options.logs,
        options.host,
        options.port,
        ready=lambda url: _announce(out, f"witness of {options.dir}", url),
        spec=options.spec,
        lists=options.lists,
        qpd=options.qpd,
        rate=options.rate,
    )
    return 0


def witness_status(options: argparse.Namespace, out: Output) -> int:
    """Say what the witness has seen of each log, and what it refused."""
    from auditlog.storage.witness_directory import open_witness_directory

    state, _ = open_witness_directory(options.dir)
    with contextlib.closing(state):
        logs: list[dict[str, Any]] = [
            {
                "origin": origin,
                "size": state.latest(origin).size,
                "refused": [_refusal(one) for one in state.refused(origin)],
            }
            for origin in state.origins()
        ]
    if out.machine:
        out.document({"logs": logs})
    else:
        rows = [(log["origin"], log["size"], len(log["refused"])) for log in logs]
        out.table(("origin", "size", "refused"), rows)
    return 0


def _refusal(refusal: "Refusal") -> dict[str, Any]:
    """Return what was refused; two notes of one size and two roots prove a fork."""
    request = parse_add_checkpoint(refusal.request)
    return {
        "size": refusal.size,
        "root": base64.b64encode(refusal.root).decode(),
        "time": format_time(refusal.time * 1_000_000),
        "checkpoint": request.checkpoint.decode(),
        "seen": None if refusal.seen is None else refusal.seen.decode(),
    }


def _announce(out: Output, what: str, url: str) -> None:
    """Say where it listens, to a program on stdout before the first request."""
    out.say(f"auditlog: {what} on {url}, until stopped")
    if out.machine:
        out.document({"url": url})
        out.flush()


def _listen(host: str, port: int) -> socket.socket:
    """Bind before the server starts, so that a refusal is an error of ours."""
    try:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        listening = socket.create_server((host, port), family=family, backlog=128)
        # Else the body of an answer waits 40 ms for the acknowledgement of its head.
        listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    except OSError as error:
        reason = error.strerror or error
        raise AuditLogError(f"cannot listen on {host} port {port}: {reason}") from None
    return listening


def _url(host: str, listening: socket.socket) -> str:
    port: int = listening.getsockname()[1]
    return f"http://{f'[{host}]' if ':' in host else host}:{port}"
