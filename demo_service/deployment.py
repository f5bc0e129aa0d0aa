"""A service, its log and three witnesses, each with a directory and process of its own.

The witnesses belong to others: the operator has the log's keys and none of theirs. On
one machine that is make-believe; the directories show who holds what.
"""

from collections.abc import Set as AbstractSet
from http import HTTPStatus
from pathlib import Path
from typing import Any, NamedTuple

from auditlog.anchors.trust import Trust, parse_trust
from auditlog.core.checkpoint import (
    Policy,
    SignedCheckpoint,
    open_checkpoint,
    parse_policy,
)
from auditlog.core.errors import UntrustedError
from demo_service.client import Reply, answers, http
from demo_service.processes import Processes, free_port, run

__all__ = [
    "ORIGIN",
    "QUORUM",
    "WITNESSES",
    "Deployment",
    "Witness",
    "deploy",
    "start_service",
    "start_stranger",
    "start_witnesses",
]

ORIGIN = "demo.example/breast-cancer"
"""Name of the log, for ever."""
WITNESSES = ("north.example/witness", "south.example/witness", "west.example/witness")
"""Names of the witnesses' keys: three organisations."""
QUORUM = 2
"""So many of them must have cosigned."""
_LOOPBACK = "127.0.0.1"
_START_SECONDS = 40.0


class Witness(NamedTuple):
    """Somebody else's witness."""

    name: str
    directory: Path
    url: str
    vkeys: tuple[str, ...]
    """Ed25519 and ML-DSA-44."""


class Deployment(NamedTuple):
    """Where everything is."""

    output: Path
    """Everything below belongs to the demo."""
    service_url: str
    bypass_url: str
    """The same service, started by the operator with the log switched off."""
    witnesses: tuple[Witness, ...]
    log_vkeys: tuple[str, ...]
    token: str
    """The auditor's token, which may also ask for content."""

    @property
    def log(self) -> Path:
        """The operator's directory: log, vault, and all keys of both."""
        return self.output / "log"

    @property
    def policy_path(self) -> Path:
        """The file that says whom its reader believes: log keys, witnesses, quorum."""
        return self.output / "policy"

    @property
    def trust_path(self) -> Path:
        """The file that says whom its reader believes about time."""
        return self.output / "trust"

    @property
    def policy(self) -> Policy:
        """The policy in that file."""
        return parse_policy(self.policy_path.read_text())

    @property
    def trust(self) -> Trust:
        """What stands in the file about time."""
        return parse_trust(self.trust_path.read_text())

    def get(self, path: str) -> Reply:
        """Ask the running service as the auditor, and insist on an answer."""
        return http(f"{self.service_url}{path}", token=self.token).expect(200)

    def last(self, awaited: AbstractSet[str]) -> dict[str, Any]:
        """Return the row of the newest decision; empty if some of these lack a place.

        Args:
            awaited: ids of decisions that are among the newest.
        """
        rows: list[dict[str, Any]]
        path = f"/api/v1/decisions?limit={2 * len(awaited)}"
        rows = self.get(path).json()["decisions"]
        return rows[0] if awaited <= {row["id"] for row in rows} else {}

    def witnessed(self, size: int) -> SignedCheckpoint | None:
        """Return the newest checkpoint if it covers `size` and all witnesses signed."""
        reply = http(f"{self.service_url}/checkpoint")
        if reply.status != HTTPStatus.OK:
            return None
        try:
            found = open_checkpoint(reply.body, self.policy)
        except UntrustedError:
            return None
        all_signed = len(found.cosignatures) == len(self.policy.witnesses)
        return found if all_signed and found.checkpoint.size >= size else None


def deploy(output: Path) -> Deployment:
    """Make the keys and directories of log and witnesses, and the policy naming all."""
    log = str(output / "log")
    witnesses = tuple(_make_witness(output, name) for name in WITNESSES)
    _auditlog("init", "--dir", log, "--origin", ORIGIN)
    log_vkeys = _auditlog("key", "vkey", "--dir", log)
    (token,) = _auditlog("token", "create", "--dir", log, "--role", "content")
    made = Deployment(output, _url(), _url(), witnesses, log_vkeys, token)
    # One copy for the operator, who asks the witnesses in it; one for whoever verifies.
    for path in (made.log / "policy", made.policy_path):
        path.write_text(_policy(made))
    return made


def _make_witness(output: Path, name: str) -> Witness:
    directory = output / name.replace("/", "-")
    init = ("witness", "init", "--dir", str(directory), "--name", name)
    return Witness(name, directory, _url(), _auditlog(*init))


def _url() -> str:
    return f"http://{_LOOPBACK}:{free_port()}"


def _auditlog(*arguments: str) -> tuple[str, ...]:
    return tuple(run(["-m", "auditlog", *arguments]).split())


def _policy(made: Deployment) -> str:
    names = [witness.name.partition(".")[0] for witness in made.witnesses]
    return "\n".join(
        [
            "# Whom I believe: the log's two keys, and three witnesses, each of which",
            f"# signs with Ed25519 and ML-DSA-44. Under {QUORUM}, I believe nothing.",
            *(f"log {vkey} {made.service_url}" for vkey in made.log_vkeys),
            *(line for witness in made.witnesses for line in _keys(witness)),
            f"group witnesses {QUORUM} {' '.join(names)}",
            "quorum witnesses",
            "",
        ]
    )


def _keys(witness: Witness) -> list[str]:
    name, (ed25519, ml_dsa) = witness.name.partition(".")[0], witness.vkeys
    return [
        f"witness {name}-ed25519 {ed25519} {witness.url}",
        f"witness {name}-ml-dsa-44 {ml_dsa} {witness.url}",
        f"group {name} all {name}-ed25519 {name}-ml-dsa-44",
    ]


def start_witnesses(processes: Processes, made: Deployment) -> None:
    """Start all witnesses, and wait until they answer."""
    for witness in made.witnesses:
        _serve_witness(processes, witness, made.log_vkeys)
    for witness in made.witnesses:
        processes.wait_until(witness.name, answers(witness.url), _START_SECONDS)


def start_stranger(processes: Processes, made: Deployment) -> str:
    """Make and start a witness that never saw the log; return its URL."""
    stranger = _make_witness(made.output, "stranger.example/witness")
    _serve_witness(processes, stranger, made.log_vkeys)
    processes.wait_until(stranger.name, answers(stranger.url), _START_SECONDS)
    return stranger.url


def _serve_witness(
    processes: Processes, witness: Witness, log_vkeys: tuple[str, ...]
) -> None:
    port = witness.url.rpartition(":")[2]
    where = ["--dir", str(witness.directory), "--host", _LOOPBACK, "--port", port]
    command = ["-m", "auditlog", "witness", "serve", *where, "--log", *log_vkeys]
    processes.start(witness.directory.name, command)


def start_service(processes: Processes, made: Deployment) -> None:
    """Start the service twice, once with the log switched off; wait for both.

    The second one is the operator's way around the middleware.
    """
    env = {
        "AUDITLOG_DIR": str(made.log),
        "AUDITLOG_DURABILITY": "sync",
        "AUDITLOG_ANCHOR_INTERVAL": "1",
        # Whom a decision is about; and what is not to be stored at all.
        "AUDITLOG_ROUTE_SUBJECTS": "/predict=person:request/patient/number",
        "AUDITLOG_REDACT_FIELDS": "request/patient/name",
    }
    off = env | {"AUDITLOG_ENABLED": "false"}
    _start_uvicorn(processes, "service", made.service_url, env)
    _start_uvicorn(processes, "service-without-log", made.bypass_url, off)
    for url in (made.service_url, made.bypass_url):
        healthy = answers(f"{url}/healthz")
        processes.wait_until("the service", healthy, _START_SECONDS)


def _start_uvicorn(
    processes: Processes, name: str, url: str, env: dict[str, str]
) -> None:
    port = url.rpartition(":")[2]
    where = ["--host", _LOOPBACK, "--port", port, "--log-level", "warning"]
    processes.start(name, ["-m", "uvicorn", "demo_service.app:app", *where], env)
