"""`make mutants`: every mutant that mutmut makes of the core, against its tests.

And of `auditlog/storage/sealing.py`, which nobody who verifies needs.

mutmut writes them, all into one tree below ``mutants/``, chosen by a variable of the
environment. It would start a test session for each; here one session collects the tests
once, learns which of them reach which function, and forks for every mutant. The child
runs those tests, fastest first, until one fails. Survivors for which nobody has argued
in `auditlog/docs/mutants.md` fail the session.
"""

import fnmatch
import gc
import json
import os
import re
import resource
import signal
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import pytest
from _pytest.runner import runtestprotocol
from mutmut.__main__ import create_mutants
from mutmut.state import state
from mutmut.utils.file_utils import copy_also_copy_files, copy_src_dir

_CHILDREN = 2
_ROOT = Path(__file__).resolve().parents[1]
_VARIABLE = "MUTANT_UNDER_TEST"
_ENDS = {0: "survived", 1: "killed", 2: "no test", -signal.SIGXCPU: "ran for ever"}


def pytest_runtestloop(session: pytest.Session) -> bool:
    """Run the mutants in place of the tests."""
    reach, seconds = _reach(session)
    running: dict[int, str] = {}
    ends: dict[str, int] = {}
    chosen = os.environ.get("MUTANTS", "*").split(",")
    gc.collect()
    gc.freeze()  # or each child would copy what the collector looks at
    names = [name for name in _mutants() if _is_any(name, chosen)]
    for number, name in enumerate(names):
        tests = sorted(reach[name.partition("__mutmut_")[0]], key=seconds.__getitem__)
        if not tests:
            ends[name] = 2
            continue
        if len(running) == _CHILDREN:
            _reap(running, ends)
        running[_start(name, tests, seconds)] = name
        if number % 100 == 0:
            print(f"{number} of {len(names)}", file=sys.stderr, flush=True)
    while running:
        _reap(running, ends)
    session.testsfailed = _report(ends)
    return True


def _is_any(name: str, patterns: list[str]) -> bool:
    return any(fnmatch.fnmatch(name, pattern) for pattern in patterns)


def _mutants() -> list[str]:
    found: list[str] = []
    for path in Path("auditlog").rglob("*.meta"):
        found += json.loads(path.read_text("utf-8"))["exit_code_by_key"]
    return sorted(found)


def _reach(
    session: pytest.Session,
) -> tuple[dict[str, set[pytest.Item]], dict[pytest.Item, float]]:
    """Run each test once; return those that reach each function, and their times."""
    reach: defaultdict[str, set[pytest.Item]] = defaultdict(set)
    seconds = {}
    os.environ[_VARIABLE] = "stats"
    for item in session.items:
        start = time.process_time()
        reports = runtestprotocol(item, log=False, nextitem=None)
        seconds[item] = time.process_time() - start
        for report in reports:
            assert not report.failed, f"{item.nodeid} fails without any mutant"
        for function in state()._stats:
            reach[function].add(item)
        state()._stats.clear()
    os.environ[_VARIABLE] = ""
    return reach, seconds


def _start(
    name: str, tests: list[pytest.Item], seconds: dict[pytest.Item, float]
) -> int:
    """Fork a child that runs tests under a mutant; return its process id."""
    sys.stdout.flush()
    sys.stderr.flush()
    if pid := os.fork():
        return pid
    gc.disable()
    os.environ[_VARIABLE] = name
    limit = 10 + int(10 * sum(seconds[item] for item in tests))
    resource.setrlimit(resource.RLIMIT_CPU, (limit, limit + 1))
    failed = 0
    try:
        for item in tests:
            reports = runtestprotocol(item, log=False, nextitem=None)
            failed = int(any(report.failed for report in reports))
            if failed:
                break
    except BaseException:  # noqa: BLE001 (whatever it is, the mutant shows)
        failed = 1
    os._exit(failed)


def _reap(running: dict[int, str], ends: dict[str, int]) -> None:
    pid, status = os.wait()
    name, code = running.pop(pid), os.waitstatus_to_exitcode(status)
    ends[name] = code
    if code != 1:
        print(f"{_ENDS.get(code, code)}: {name}", file=sys.stderr, flush=True)


def _report(ends: dict[str, int]) -> int:
    """Print what became of the mutants; return how many nobody has argued for."""
    counts = Counter(_ENDS.get(code, "killed") for code in ends.values())
    page = (_ROOT / "auditlog" / "docs" / "mutants.md").read_text("utf-8")
    argued = set(re.findall(r"^    (\S+)$", page, re.MULTILINE))
    alive = {name for name, code in ends.items() if _ENDS.get(code) in _ENDS_ALIVE}
    short = {re.sub(r"^auditlog\.(core|storage)\.", "", name) for name in alive}
    (Path("survivors.json")).write_text(json.dumps(sorted(short)), "utf-8")
    for name in sorted(short - argued):
        print(f"survived: {name}")
    print(", ".join(f"{count} {end}" for end, count in sorted(counts.items())))
    print(f"{len(ends)} mutants, {len(short & argued)} of the survivors are argued for")
    return len(short - argued)


_ENDS_ALIVE = {"survived", "no test"}


def main() -> None:
    """Write the mutants; the tests are run below ``mutants/`` then."""
    Path("mutants").mkdir(exist_ok=True)
    copy_src_dir()
    copy_also_copy_files()
    create_mutants(_CHILDREN)


if __name__ == "__main__":
    main()
