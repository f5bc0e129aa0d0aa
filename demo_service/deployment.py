"""A service, its log and a witness, each with a directory and a process of its own.

The witness belongs to somebody else: the operator has the log's keys and not the
witness's. On one machine that is make-believe; the directories show who holds what.
"""

from collections.abc import Callable
from http import HTTPStatus
from pathlib import Path
from typing import NamedTuple

from auditlog.core.checkpoint import (
    Policy,
    SignedCheckpoint,
    open_checkpoint,
    parse_policy,
)
from auditlog.core.errors import UntrustedError
from demo_service.client import Reply, http
from demo_service.processes import Processes, free_port, run

__all__ = [
    "ORIGIN",
    "WITNESS",
    "Deployment",
    "deploy",
    "start_service",
    "start_stranger",
    "start_witness",
]

ORIGIN = "demo.example/breast-cancer"
"""Name of the log, for ever."""
WITNESS = "witness.example/demo"
"""Name of the witness's keys."""
_LOOPBACK = "127.0.0.1"
_START_SECONDS = 40.0


class Deployment(NamedTuple):
    """Where everything is."""

    output: Path
    """Everything below belongs to the demo."""
    service_url: str
    bypass_url: str
    """The same service, started by the operator with the log switched off."""
    witness_url: str
    log_vkeys: tuple[str, ...]
    witness_vkeys: tuple[str, ...]
    token: str
    """The auditor's token, which may also ask for content."""

    @property
    def log(self) -> Path:
        """The operator's directory: log, vault, and all keys of both."""
        return self.output / "log"

    @property
    def witness(self) -> Path:
        """The witness's directory."""
        return self.output / "witness"

    @property
    def policy_path(self) -> Path:
        """The file that says whom its reader believes: log keys, witness, quorum."""
        return self.output / "policy"

    @property
    def policy(self) -> Policy:
        """The policy in that file."""
        return parse_policy(self.policy_path.read_text())

    def get(self, path: str) -> Reply:
        """Ask the running service as the auditor, and insist on an answer."""
        return http(f"{self.service_url}{path}", token=self.token).expect(200)

    def witnessed(self, size: int) -> SignedCheckpoint | None:
        """Return the newest checkpoint if it covers `size` and the witness cosigned."""
        reply = http(f"{self.service_url}/checkpoint")
        if reply.status != HTTPStatus.OK:
            return None
        try:
            found = open_checkpoint(reply.body, self.policy)
        except UntrustedError:
            return None
        return found if found.checkpoint.size >= size else None


def deploy(output: Path) -> Deployment:
    """Make the keys and directories of log and witness, and the policy naming both."""
    log, witness = str(output / "log"), str(output / "witness")
    witness_vkeys = _auditlog("witness", "init", "--dir", witness, "--name", WITNESS)
    _auditlog("init", "--dir", log, "--origin", ORIGIN)
    log_vkeys = _auditlog("key", "vkey", "--dir", log)
    (token,) = _auditlog("token", "create", "--dir", log, "--role", "content")
    service, bypass, other = (f"http://{_LOOPBACK}:{free_port()}" for _ in range(3))
    made = Deployment(output, service, bypass, other, log_vkeys, witness_vkeys, token)
    # One copy for the operator, who asks the witnesses in it; one for whoever verifies.
    for path in (made.log / "policy", made.policy_path):
        path.write_text(_policy(made))
    return made


def _auditlog(*arguments: str) -> tuple[str, ...]:
    return tuple(run(["-m", "auditlog", *arguments]).split())


def _policy(made: Deployment) -> str:
    ed25519, ml_dsa = made.witness_vkeys
    return "\n".join(
        [
            "# Whom I believe: the log's two keys, and a witness that signs with both",
            "# Ed25519 and ML-DSA-44. Without its two cosignatures I believe nothing.",
            *(f"log {vkey} {made.service_url}" for vkey in made.log_vkeys),
            f"witness ed25519 {ed25519} {made.witness_url}",
            f"witness ml-dsa-44 {ml_dsa} {made.witness_url}",
            "group witness all ed25519 ml-dsa-44",
            "quorum witness",
            "",
        ]
    )


def start_witness(processes: Processes, made: Deployment) -> None:
    """Start the witness, and wait until it answers."""
    _serve_witness(processes, "witness", made.witness, made.witness_url, made)


def start_stranger(processes: Processes, made: Deployment) -> str:
    """Make and start a witness that never saw the log; return its URL."""
    directory, url = made.output / "stranger", f"http://{_LOOPBACK}:{free_port()}"
    _auditlog("witness", "init", "--dir", str(directory), "--name", f"{WITNESS}-2")
    _serve_witness(processes, "stranger", directory, url, made)
    return url


def _serve_witness(
    processes: Processes, name: str, directory: Path, url: str, made: Deployment
) -> None:
    port = url.rpartition(":")[2]
    where = ["--dir", str(directory), "--host", _LOOPBACK, "--port", port]
    command = ["-m", "auditlog", "witness", "serve", *where, "--log", *made.log_vkeys]
    processes.start(name, command)
    processes.wait_until(f"the {name}", _answers(url), _START_SECONDS)


def start_service(processes: Processes, made: Deployment) -> None:
    """Start the service twice, once with the log switched off; wait for both.

    The second one is the operator's way around the middleware.
    """
    env = {
        "AUDITLOG_DIR": str(made.log),
        "AUDITLOG_DURABILITY": "sync",
        "AUDITLOG_ANCHOR_INTERVAL": "1",
    }
    off = env | {"AUDITLOG_ENABLED": "false"}
    _start_uvicorn(processes, "service", made.service_url, env)
    _start_uvicorn(processes, "service-without-log", made.bypass_url, off)
    for url in (made.service_url, made.bypass_url):
        answers = _answers(f"{url}/healthz")
        processes.wait_until("the service", answers, _START_SECONDS)


def _start_uvicorn(
    processes: Processes, name: str, url: str, env: dict[str, str]
) -> None:
    port = url.rpartition(":")[2]
    where = ["--host", _LOOPBACK, "--port", port, "--log-level", "warning"]
    processes.start(name, ["-m", "uvicorn", "demo_service.app:app", *where], env)


def _answers(url: str) -> Callable[[], bool]:
    def attempt() -> bool:
        try:
            http(url)
        except OSError:
            return False
        return True

    return attempt
