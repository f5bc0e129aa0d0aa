"""Killed between any two steps, or two at once: each digest is anchored, and once."""

import subprocess
import sys
from pathlib import Path

import pytest

from auditlog.anchors.evm.check import check
from tests.anchors.evm.chain import Anvil
from tests.anchors.evm.driver import digest_of, load
from tests.e2e.processes import ROOT


@pytest.mark.parametrize(("verb", "least"), [("kill", 20), ("race", 4)])
def test_every_digest_is_anchored_once(
    chain: Anvil, tmp_path: Path, verb: str, least: int
) -> None:
    anchor = chain.anchor(tmp_path)
    command = [sys.executable, "-m", "tests.anchors.evm.driver", verb, chain.url]
    done = subprocess.run(
        [*command, str(tmp_path)], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    files = sorted(tmp_path.glob("*.json"))
    assert len(files) >= least
    for file in files:
        digest = digest_of(int(file.stem))
        found = load(file)
        assert found is not None
        assert found.state == "final"
        (event,) = chain.logs(digest)
        trust = chain.trust(anchor, int(event["blockNumber"], 16))
        assert check(digest, found.evidence, trust).party == "Anvil"
