"""The README is run: every command in it, in order, as a newcomer would type it."""

import re
import shutil
import zipfile
from pathlib import Path

import pytest

from tests.conftest import IN_CI
from tests.demo.conftest import Run, demo  # noqa: F401 - a fixture
from tests.e2e.processes import free_port, run_commands

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text("utf-8")
PORTS = (8000, 8642, 8700, 8710)


def _blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def _commands() -> str:
    """Return all commands but those of make, on ports that are free here."""
    script = "\n".join(block for block in _blocks("sh") if "make " not in block)
    for port in PORTS:
        free = free_port()
        script = script.replace(f"port {port}", f"port {free}")
        script = script.replace(f"127.0.0.1:{port}", f"127.0.0.1:{free}")
    return script


@pytest.mark.skipif(
    shutil.which("curl") is None and not IN_CI,
    reason="the README asks with curl, which is not installed",
)
def test_every_command_works_as_written(tmp_path: Path) -> None:
    (tmp_path / "app.py").write_text(_blocks("python")[0])
    # What runs in the background keeps our pipe open until it is killed.
    done = run_commands(
        _commands() + '\nkill $(jobs -p) && echo "all of it"', tmp_path, 150
    )
    logs = [path.read_text() for path in tmp_path.glob("*.log")]
    assert done.returncode == 0, (done.stdout, logs)
    assert done.stdout.rstrip().endswith("all of it")
    for name in ("decision", "undisclosed", "witnessed", "anchored"):
        assert (tmp_path / f"{name}.receipt.json").stat().st_size > 1000
    assert "signed by the operator only" in done.stdout
    assert "witness.example/w1" in done.stdout
    assert "income" in done.stdout
    assert re.search("existed unchanged before .*, by tsa.example", done.stdout)
    assert "nothing is open but" in done.stdout
    assert "tiles (not the entries) rebuilt" in done.stdout
    assert zipfile.is_zipfile(tmp_path / "person.zip")
    assert re.search("erasure .*\nstate  ", done.stdout)


def test_the_targets_it_names_are_run_by_ci() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    ci = (ROOT / ".ci" / "run").read_text("utf-8")
    named = set(re.findall(r"\bmake ([a-z]+)", README)) - {"to"}
    assert {"demo", "test", "verifier"} <= named
    for target in named:
        assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
        assert re.search(rf"\bmake {target}\b", ci), target


def _shape(screen: str) -> list[str]:
    """Return the lines without what differs from run to run."""
    lines = screen.strip().splitlines()
    story = lines[: next(i for i, line in enumerate(lines) if "Try it" in line)]
    return [re.sub(r"\S*\d\S*| +", "#", line) for line in story]


def test_the_output_it_shows_is_the_demo_s(demo: Run) -> None:  # noqa: F811
    if "the chain" not in demo.parties and not IN_CI:
        pytest.skip("the screen in the README is one with a chain, which needs Node.js")
    (shown,) = _blocks("text")
    told = iter(_shape(demo.screen))
    # Some of its lines, in its order.
    assert [line for line in _shape(shown) if line not in told] == []


def test_it_is_short() -> None:
    assert len(README.splitlines()) < 250


def test_its_links_lead_somewhere() -> None:
    for name in re.findall(r"`([a-zA-Z_.]+(?:/[a-z_.]*)+)`", README):
        if name.split("/")[0] in {"auditlog", "tests", "demo_service"}:
            assert (ROOT / name).exists(), name
