import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

from auditlog.anchors.trust import Trust, parse_trust
from auditlog.core.checkpoint import Policy, parse_policy
from demo_service.deployment import WITNESSES, Deployment, Witness, start_witnesses
from demo_service.processes import ROOT, Processes, free_port
from demo_service.trials import Evidence, Trials


class Run(NamedTuple):
    """One run of the whole demo, as somebody at a prompt sees it."""

    status: int
    screen: str
    complaints: str
    seconds: float
    output: Path
    home: Path
    """Where it was run, which is not the checkout."""

    @property
    def policy(self) -> Policy:
        return parse_policy((self.output / "policy").read_text())

    @property
    def trust(self) -> Trust:
        return parse_trust((self.output / "trust").read_text())

    @property
    def parties(self) -> set[str]:
        """Who vouches for times in this run."""
        chains = {table.party for table in self.trust.chains}
        return chains | {table.party for table in self.trust.authorities}

    @property
    def receipts(self) -> dict[str, bytes]:
        folder = self.output / "receipts"
        return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}

    @property
    def evidence(self) -> Evidence:
        return Evidence(self.receipts["patient.receipt.json"], self.policy, self.trust)


_PLAYED: list[Run] = []
"""The one run that all tests look at; the README's tests borrow the fixture."""


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Run:
    if not _PLAYED:
        _PLAYED.append(play(tmp_path_factory.mktemp("demo")))
    return _PLAYED[0]


def play(home: Path, **env: str) -> Run:
    """Play the demo in a folder, with more of an environment."""
    more = {"PYTHONPATH": str(ROOT), "AUDITLOG_ORIGIN": "not.this/one"}
    started = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-m", "demo_service", "--output", "out"],
        cwd=home,
        env={**os.environ, **more, **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    seconds = time.monotonic() - started
    return Run(done.returncode, done.stdout, done.stderr, seconds, home / "out", home)


@pytest.fixture
def trials(demo: Run, tmp_path: Path) -> Trials:
    return Trials(demo.output / "log", tmp_path, demo.evidence)


@pytest.fixture
def witness_urls(demo: Run, tmp_path: Path) -> Iterator[list[str]]:
    """The demo's own witnesses, started again with all that they remember."""
    vkeys = tuple(key.verifier.vkey for key in demo.policy.logs)
    witnesses = tuple(_witness(demo, name) for name in WITNESSES)
    with Processes(tmp_path) as processes:
        start_witnesses(processes, demo_of(demo.output, vkeys, witnesses))
        yield [witness.url for witness in witnesses]


def _witness(demo: Run, name: str) -> Witness:
    directory = demo.output / name.replace("/", "-")
    return Witness(name, directory, f"http://127.0.0.1:{free_port()}", ())


def demo_of(
    output: Path, vkeys: tuple[str, ...], witnesses: tuple[Witness, ...] = ()
) -> Deployment:
    return Deployment(output, "", "", witnesses, vkeys, "")
