"""What we ship, what we pin, and how a fresh clone sets itself up."""

import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import auditlog

ROOT = Path(__file__).resolve().parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
LOCKS = ["requirements.txt", "tests/requirements-merkletools.txt"]
SERVERS = [
    str(path.relative_to(ROOT))
    for path in sorted((ROOT / "tests" / "compat").glob("requirements-*.txt"))
]
TARGETS = ["demo", "test", "check", "verifier", "bench", "fix"]
TOP_LEVEL = {
    *("auditlog", "demo_service", "tests", "pyproject.toml", "README.md", "Makefile"),
    *("requirements.txt", "CHANGELOG.md", "LICENSE", "SECURITY.md"),
}


def pins(lock: str) -> dict[str, tuple[Requirement, int]]:
    """Each pinned package with the number of its hashes."""
    text = (ROOT / lock).read_text("utf-8").replace("\\\n", " ")
    found: dict[str, tuple[Requirement, int]] = {}
    for line in text.splitlines():
        if line.startswith("#") or not line.strip():
            continue
        requirement, *hashes = re.split(r"\s+--hash=sha256:(?=[0-9a-f]{64}\b)", line)
        pin = Requirement(requirement)
        assert canonicalize_name(pin.name) not in found, f"{pin.name} is pinned twice"
        found[canonicalize_name(pin.name)] = pin, len(hashes)
    return found


def run(*command: str | Path, cwd: Path = ROOT) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(part) for part in command],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    folder = tmp_path_factory.mktemp("wheel")
    done = run(sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder)
    assert done.returncode == 0, done.stderr
    (path,) = folder.glob("*.whl")
    assert path.name == f"decision_auditlog-{auditlog.__version__}-py3-none-any.whl"
    return zipfile.ZipFile(path)


def test_the_wheel_holds_the_package_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    top = {name.split("/")[0] for name in wheel.namelist()}
    assert top == {"auditlog", f"decision_auditlog-{auditlog.__version__}.dist-info"}
    shipped = {name for name in wheel.namelist() if name.startswith("auditlog/")}
    present = {
        str(path.relative_to(ROOT))
        for path in (ROOT / "auditlog").rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    assert shipped == present
    assert "auditlog/py.typed" in shipped


def test_the_wheel_installs_the_command_and_the_licence(wheel: zipfile.ZipFile) -> None:
    info = f"decision_auditlog-{auditlog.__version__}.dist-info"
    entry_points = wheel.read(f"{info}/entry_points.txt").decode()
    assert entry_points == "[console_scripts]\nauditlog = auditlog.cli:main\n"
    licence = wheel.read(f"{info}/licenses/LICENSE")
    assert licence == (ROOT / "LICENSE").read_bytes()


def test_the_core_install_is_three_packages() -> None:
    names = {Requirement(text).name for text in PROJECT["dependencies"]}
    assert names == {"cryptography", "msgspec", "zstandard"}


def test_the_changelog_starts_with_this_version() -> None:
    changelog = (ROOT / "CHANGELOG.md").read_text("utf-8")
    versions = re.findall(r"^## \[([^]]+)\]", changelog, re.MULTILINE)
    assert versions[0] == auditlog.__version__


@pytest.mark.parametrize("lock", [*LOCKS, *SERVERS])
def test_every_requirement_is_pinned_by_hash(lock: str) -> None:
    for pin, hashes in pins(lock).values():
        assert re.fullmatch(r"==[0-9][0-9a-z.+!]*", str(pin.specifier)), str(pin)
        assert pin.url is None
        assert hashes > 0, f"{pin} has no hash"


@pytest.mark.parametrize("lock", [*LOCKS, *SERVERS])
def test_a_lock_names_no_index_and_no_address(lock: str) -> None:
    text = (ROOT / lock).read_text("utf-8")
    assert "://" not in text
    options = set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", re.sub(r"(?m)^#.*", "", text)))
    assert options == {"--hash"}


def test_the_lock_serves_every_dependency_and_extra() -> None:
    extras = PROJECT["optional-dependencies"]
    for extra, wanted in {"": PROJECT["dependencies"], **extras}.items():
        # What nothing else agrees with is tried in an environment of its own.
        apart = f"tests/compat/requirements-{extra}.txt"
        lock = pins(apart if (ROOT / apart).exists() else "requirements.txt")
        for requirement in map(Requirement, wanted):
            if requirement.name == PROJECT["name"]:
                continue
            pin, _ = lock[canonicalize_name(requirement.name)]
            version = str(pin.specifier).removeprefix("==")
            assert requirement.specifier.contains(version), f"{pin}: {requirement}"


def test_nothing_new_stands_at_the_top() -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: nothing tells our files from others")
    done = run("git", "ls-files")
    top = {line.split("/")[0] for line in done.stdout.splitlines()}
    assert {name for name in top if not name.startswith(".")} <= TOP_LEVEL
    assert "requirements.txt" in top


@pytest.mark.parametrize("target", TARGETS)
def test_make_knows_the_target(target: str) -> None:
    done = run("make", "--dry-run", target)
    assert done.returncode == 0, done.stderr


# Each fake interpreter answers the questions that the Makefile asks it, as `-c CODE`.
@pytest.mark.parametrize(
    ("answers", "message"),
    [
        (
            'case "$1$2" in -V) echo Python 3.10.4;; *version_info*) exit 1;; esac',
            r"Python 3\.11 or newer is needed, \S+ is Python 3\.10\.4: name another",
        ),
        (
            'case "$2" in *ensurepip*) exit 1;; esac',
            r"without its venv module: on Debian, apt install python3-venv",
        ),
    ],
)
def test_make_says_what_the_machine_lacks(
    answers: str, message: str, tmp_path: Path
) -> None:
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\n{answers}\n")
    python.chmod(0o755)
    done = set_up(tmp_path, python)
    assert done.returncode != 0
    assert re.search(message, done.stderr)
    assert not (tmp_path / ".venv").exists()


def test_make_says_that_python_is_missing(tmp_path: Path) -> None:
    done = set_up(tmp_path, tmp_path / "absent")
    assert done.returncode != 0
    assert "absent is not installed: on Debian, apt install python3" in done.stderr


def set_up(folder: Path, python: Path) -> "subprocess.CompletedProcess[str]":
    """Let a copy of the Makefile set itself up in `folder` with `python`."""
    for name in ("Makefile", "pyproject.toml", *LOCKS):
        (folder / name).parent.mkdir(exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    return run("make", "check", f"PYTHON={python}", cwd=folder)
