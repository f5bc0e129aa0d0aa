"""Meets aics-witness, an independent witness, which the set-up does not install.

It needs Python 3.12. In an environment of its own: ``pip install aics-witness``, then

    AICS_WITNESS=…/bin/aics-witness python -m pytest tests/anchors/aics_interop.py
"""

import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from auditlog.anchors.witness import Cosigned, ask_witness
from auditlog.core.checkpoint import Witness
from auditlog.core.errors import RollbackError, UntrustedError
from auditlog.core.note import ED25519, ML_DSA_44, parse_vkey
from tests.e2e.processes import free_port, wait_until
from tests.witnesses import SomeLog

pytestmark = pytest.mark.interop
PROGRAM = os.environ.get("AICS_WITNESS", "aics-witness")
LOG = SomeLog("log.example/both", (ED25519, ML_DSA_44))


@pytest.fixture
def witness(tmp_path: Path) -> Iterator[Witness]:
    def run(*arguments: str) -> str:
        command = [PROGRAM, *arguments]
        return subprocess.check_output(command, cwd=tmp_path, text=True)

    port = free_port()
    made = ("--listen", f"127.0.0.1:{port}", "--db", "w.db", "--key-file", "w.key")
    (vkey,) = run("init", "--name", "w.example", *made).splitlines()[:1]
    run("add-log", "--origin", LOG.origin, "--vkey", LOG.vkeys[0])
    made_by = Witness("w", parse_vkey(vkey), f"http://127.0.0.1:{port}")
    with subprocess.Popen([PROGRAM, "serve"], cwd=tmp_path) as process:
        try:
            wait_until(lambda: _listens(port), 20, "aics-witness listens")
            yield made_by
        finally:
            process.terminate()


def _listens(port: int) -> bool:
    command = ["bash", "-c", f": < /dev/tcp/127.0.0.1/{port}"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def ask(
    witness: Witness, size: int, fork: int | None = None, log: SomeLog = LOG
) -> Cosigned:
    return ask_witness(
        witness,
        log.note(size, fork),
        size,
        lambda old, new: log.proof(old, new, fork),
        log_keys=log.verifiers,
        now=time.time(),
    )


def test_it_cosigns_what_grows_and_shows_why_it_refuses(witness: Witness) -> None:
    for size in (0, 1, 7, 7, 300):
        (line,) = ask(witness, size).lines
        assert line.verifier == witness.verifier
    for size in (300, 310):
        with pytest.raises(RollbackError, match="what this log signed at size 300"):
            ask(witness, size, fork=3)
    with pytest.raises(RollbackError, match="has seen size 300, this log has only 200"):
        ask(witness, 200)
    stranger = SomeLog("log.example/stranger")
    with pytest.raises(UntrustedError, match="does not know this log"):
        ask(witness, 5, log=stranger)
