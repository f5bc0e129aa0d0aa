"""Two organisations cosign each other's logs, by the commands of the documentation."""

import re
import shutil
import sys
from pathlib import Path

import pytest

from auditlog.core.checkpoint import open_checkpoint, parse_policy
from auditlog.log.directory import open_log
from auditlog.log.reader import Reader
from tests.conftest import IN_CI
from tests.e2e.processes import free_port, run_commands

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "auditlog" / "docs" / "anchors.md").read_text("utf-8")
RECORDED = """
import http.client, sys, time
from pathlib import Path
from tests.filled import record_unsigned
record_unsigned(Path("a/log")), record_unsigned(Path("b/log"))
for port in sys.argv[1:]:
    for _ in range(600):
        try:
            http.client.HTTPConnection("127.0.0.1", int(port)).connect()
            break
        except OSError:
            time.sleep(0.05)
"""


def _script() -> str:
    """Return the commands, on free ports, with decisions before the checkpoints."""
    section = PAGE.split("\n## Witnesses\n")[1].split("\n## ")[0]
    make, serve, ask = re.findall(
        r"^```sh\n(.*?)^```$", section, re.DOTALL | re.MULTILINE
    )
    ports = {port: str(free_port()) for port in ("8701", "8702")}
    for port, free in ports.items():
        serve = serve.replace(port, free)
    record = f"{sys.executable} -c '{RECORDED}' {' '.join(ports.values())}\n"
    return f"{make}\n{serve}\n{record}\n{ask}\nkill $(jobs -p)"


@pytest.mark.skipif(
    shutil.which("bash") is None and not IN_CI,
    reason="the commands are for bash, which is not installed",
)
def test_each_cosigns_the_other(tmp_path: Path) -> None:
    done = run_commands("mkdir a b\n" + _script(), tmp_path, 100)
    output = done.stdout
    told = [output, *(file.read_text() for file in sorted(tmp_path.glob("*.log")))]
    assert done.returncode == 0, told
    assert re.search(r"^bank-b.example/claims\t\d+\t0$", output, re.MULTILINE), told
    assert re.search(r"^bank-a.example/credit\t\d+\t0$", output, re.MULTILINE), told
    for name, other, keys in (("a", "b", {"b1", "b2"}), ("b", "a", {"a1", "a2"})):
        directory = tmp_path / name / "log"
        policy = parse_policy((directory / "policy").read_text())
        with open_log(directory) as log:
            signed = open_checkpoint(Reader(log).checkpoint(), policy)
        assert {witness.name for witness, _ in signed.cosignatures} == keys
        vkeys = (tmp_path / f"{other}-witness-vkeys").read_text().split()
        assert {w.verifier.vkey for w, _ in signed.cosignatures} == set(vkeys)
