"""`auditlog doctor` as a process: what it finds, what it advises, and its status."""

import http.server
import os
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from auditlog.core.note import ML_DSA_44, make_signer
from auditlog.core.record import Entry
from auditlog.log.diagnosis import Finding, look_at_directory
from auditlog.log.directory import open_log
from auditlog.log.identity import new_id
from auditlog.log.preparation import plain_item
from auditlog.log.token_scope import make_scope
from auditlog.log.tokens import create_token
from auditlog.storage.files import FileLock
from auditlog.storage.journal import Journal
from tests.command import Done, auditlog, environment
from tests.e2e.processes import free_port
from tests.filled import ORIGIN, fill_log
from tests.log.builders import now_us

ROOT = Path(__file__).parents[1]
SECOND = 1_000_000


@pytest.fixture(scope="module")
def filled_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("log") / "audit"
    fill_log(directory)
    return directory


@pytest.fixture
def log(filled_once: Path, tmp_path: Path) -> Path:
    """A copy of a log that takes the place of the original."""
    shutil.copytree(filled_once, tmp_path / "audit")
    (tmp_path / "audit" / "place").unlink()
    return tmp_path / "audit"


def _doctor(log: Path, *more: str, **env: str) -> Done:
    return auditlog("doctor", "--dir", log, *more, env=env)


def _said(done: Done, level: str) -> list[str]:
    lines = re.findall(rf"^{level:<8} (.*(?:\n +-> .*)?)$", done.out, re.MULTILINE)
    return [re.sub(r"\s+", " ", line) for line in lines]


def test_a_set_up_without_fault_has_no_problem(log: Path) -> None:
    done = _doctor(log)
    assert (done.status, _said(done, "problem"), done.err) == (0, [], "")
    backup, policy = _said(done, "warning")
    assert backup.startswith("keyring backup: none is kept: with the keyring all co")
    assert policy.startswith("policy: 0 witnesses, and none must agree -> name")
    fine = "\n".join(_said(done, "ok"))
    assert re.search(r"python: 3\.\d+\.\d+", fine)
    assert re.search(r"package: cryptography \d+", fine)
    assert re.search(r"fsync: a durable write takes \d+\.\d ms", fine)
    assert "keys: log.key is there, and its owner's alone" in fine
    assert "lead: nobody leads the log" in fine
    assert re.search(r"checkpoint: \d+ entries, all under a checkpoint", fine)
    assert f"origin: {ORIGIN}" in fine


def test_it_leaves_nothing_behind(log: Path) -> None:
    before = sorted(path.name for path in log.rglob("*"))
    _doctor(log)
    after = sorted(path.name for path in log.rglob("*"))
    # Locks and SQLite's own files are made by whoever looks first.
    assert [
        n for n in after if n not in before and "lock" not in n and "-" not in n
    ] == []


def test_it_makes_no_lock_that_would_not_be_the_service_s(log: Path) -> None:
    locks = (log / "sequencer.lock", log / "journal" / ".lock")
    for lock in locks:
        lock.unlink()
    assert _doctor(log).status == 0
    assert [lock.exists() for lock in locks] == [False, False]


def test_its_document_says_the_same(log: Path) -> None:
    document = _doctor(log, "--json").document()
    assert document["ok"] is True
    policy = [one for one in document["findings"] if one["what"] == "policy"]
    assert [one["level"] for one in policy] == ["warning"]
    assert set(policy[0]) == set(Finding._fields)


def test_before_there_is_a_log_it_says_how_to_make_one(tmp_path: Path) -> None:
    done = _doctor(tmp_path / "a" / "b")
    assert done.status == 0
    assert f"there is no log in {tmp_path}/a/b yet" in done.out
    assert "-> make one with `auditlog init --origin NAME`" in done.out
    assert list(tmp_path.iterdir()) == []


def _policy(log: Path, text: str) -> None:
    vkeys = (log / "vkeys").read_text().splitlines()
    lines = [f"log {vkey}" for vkey in vkeys] + text.splitlines()
    (log / "policy").write_text("\n".join(lines) + "\n")


def _append(log: Path, time: int) -> None:
    entry = Entry(new_id(time), "auditlog.access.v1", ORIGIN, time, {"what": "content"})
    with open_log(log) as opened:
        opened.store.append([plain_item(entry)])


def _token(log: Path, **more: Any) -> None:
    with open_log(log) as opened:
        create_token(opened.store, "content", now=1_700_000_000, **more)


def _unreadable_scope(log: Path) -> None:
    _token(log, expires=4_000_000_000, scope=make_scope(routes=["*"]))
    with sqlite3.connect(log / "log.sqlite3") as database:
        database.execute("UPDATE tokens SET scope = 'x'")
    database.close()


def _abandon(log: Path) -> None:
    Journal.create(log / "journal", bytes(16)).abandon()


FAULTS: dict[str, tuple[Callable[[Path], object], str]] = {
    "a key that others can read": (
        lambda log: (log / "keys" / "log.key").chmod(0o644),
        "problem keys: the key file .* has permissions 0644.* chmod 600",
    ),
    "a lost key": (
        lambda log: (log / "keys" / "vault.key").unlink(),
        "problem keys: no key file at .*vault.key -> restore it",
    ),
    "a keyring of another key": (
        lambda log: (log / "keys" / "keyring").write_bytes(b"\x01" * 64),
        "problem keyring: .* -> restore keys/keyring",
    ),
    "a token for ever": (
        _token,
        r"warning tokens: \w+ \(content\) never expires -> make one with --expires",
    ),
    "a token that expired": (
        lambda log: _token(log, expires=1_700_000_001),
        r"warning tokens: \w+ \(content\) has expired -> `auditlog token revoke",
    ),
    "a scope that cannot be read": (
        _unreadable_scope,
        "warning tokens: the scope of .* cannot be read, so it opens nothing -> ",
    ),
    "a policy that is none": (
        lambda log: (log / "policy").write_text("trust me\n"),
        "problem policy: policy line 1.* -> mend .*policy",
    ),
    "an entry of tomorrow": (
        lambda log: _append(log, now_us() + 3600 * SECOND),
        "problem clock: it is 3[56][0-9][0-9] s behind the newest entry -> set the clo",
    ),
    "entries that nobody signs": (
        lambda log: _append(log, now_us() - 3600 * SECOND),
        "warning checkpoint: 1 entry without one, since 20.* -> start the service",
    ),
    "a process that was killed": (
        _abandon,
        "warning journal: 1 process ended without a stop, .* -> the next start does",
    ),
    "a directory that others can write": (
        lambda log: log.chmod(0o777),
        "warning directory: .* can be written by others .0777. -> chmod go-w",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_named_with_what_to_do(log: Path, fault: str) -> None:
    harm, expected = FAULTS[fault]
    harm(log)
    done = _doctor(log)
    found = [
        f"{level} {one}"
        for level in ("problem", "warning")
        for one in _said(done, level)
    ]
    assert [one for one in found if re.search(expected, one)], found
    assert done.status == expected.startswith("problem")


def test_a_database_that_another_program_holds_is_named(log: Path) -> None:
    other = sqlite3.connect(log / "log.sqlite3", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    try:
        done = _doctor(log)
    finally:
        other.close()
    assert done.status == 1
    assert "database: cannot be written: database is locked" in done.out


def test_the_process_that_leads_is_named(log: Path) -> None:
    with FileLock(log / "sequencer.lock"):
        done = _doctor(log)
    assert re.search(rf"lead: (process {os.getpid()}|another process) leads", done.out)


def test_with_a_leader_entries_that_wait_long_are_a_problem(log: Path) -> None:
    _append(log, now_us() - 3600 * SECOND)
    with FileLock(log / "sequencer.lock"):
        done = _doctor(log)
    assert done.status == 1
    assert "look into the service's log for HALTED" in done.out


def test_a_name_for_trying_things_out_is_warned_of(tmp_path: Path) -> None:
    assert auditlog("init", "--dir", tmp_path / "a").status == 0
    assert "is named auditlog.invalid/" in _doctor(tmp_path / "a").out


def test_options_that_stop_the_start_are_a_problem(log: Path) -> None:
    done = _doctor(log, AUDITLOG_DEPHT="1")
    assert done.status == 1
    assert "AUDITLOG_DEPHT is not known; did you mean 'depth'?" in done.out
    off = _doctor(log, AUDITLOG_ENABLED="false")
    assert "warning  options: `enabled` is false" in off.out


def test_rules_of_redaction_are_counted_and_checked(log: Path) -> None:
    done = _doctor(log, AUDITLOG_REDACT_KEYS="ssn,name", AUDITLOG_REDACT_PATTERNS="ip")
    said = "2 redact_keys, 0 redact_fields, 1 redact_patterns from the environment"
    assert f"ok       redaction: {said}" in done.out
    bad = _doctor(log, AUDITLOG_REDACT_PATTERNS="(")
    assert bad.status == 1
    assert "problem  redaction: redact_patterns: expected a regular" in bad.out


# --- witnesses ------------------------------------------------------------------------


@contextmanager
def _answering() -> Iterator[str]:
    server = http.server.HTTPServer(
        ("127.0.0.1", 0), http.server.BaseHTTPRequestHandler
    )
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_witnesses_are_asked_only_where_that_is_wanted(log: Path) -> None:
    vkey = make_signer("witness.example/w", ML_DSA_44, bytes(32)).verifier.vkey
    _policy(log, f"witness w {vkey} http://127.0.0.1:{free_port()}/\nquorum w")
    offline = _doctor(log)
    assert offline.status == 0
    assert "policy: 1 witness, quorum w" in offline.out
    assert "entries under no cosigned checkpoint yet" in offline.out
    online = _doctor(log, "--online")
    assert online.status == 1
    assert re.search(
        "problem  witness w: cannot reach .*\n +-> see whether", online.out
    )


def test_a_witness_that_answers_is_well(log: Path) -> None:
    vkey = make_signer("witness.example/w", ML_DSA_44, bytes(32)).verifier.vkey
    with _answering() as url:
        _policy(log, f"witness w {vkey} {url}\nquorum w")
        done = _doctor(log, "--online")
    assert f"ok       witness w: {url} answers (501 to an empty ask)" in done.out


# --- the interpreter ------------------------------------------------------------------


def _install(site: Path, name: str, version: str) -> None:
    information = site / f"{name.replace('-', '_')}-{version}.dist-info"
    information.mkdir()
    text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (information / "METADATA").write_text(text)


@pytest.mark.parametrize("name", ["auditlog", "django-auditlog"])
def test_a_stranger_s_package_is_found(log: Path, tmp_path: Path, name: str) -> None:
    site = tmp_path / "site"
    (site / "auditlog").mkdir(parents=True)
    (site / "auditlog" / "__init__.py").write_text("")
    _install(site, name, "3.0.0")
    env = environment(PYTHONPATH=f"{ROOT}:{site}")
    done = subprocess.run(
        [sys.executable, "-m", "auditlog", "doctor", "--dir", str(log)],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert (
        f"{name} 3.0.0 is installed, which is imported as `auditlog` too" in done.stdout
    )
    assert (
        f"-> pip uninstall {name}, then install decision-auditlog again" in done.stdout
    )
    assert f"there is another package `auditlog` at {site}/auditlog" in done.stdout


def test_a_package_that_is_too_old_is_named(log: Path, tmp_path: Path) -> None:
    site = tmp_path / "site"
    site.mkdir()
    _install(site, "msgspec", "0.1")
    env = environment(PYTHONPATH=f"{ROOT}:{site}")
    done = subprocess.run(
        [sys.executable, "-m", "auditlog", "doctor", "--dir", str(log)],
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "msgspec 0.1 is older than 0.19" in done.stdout


def test_too_few_descriptors_are_warned_of(log: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "auditlog", "doctor", "--dir", str(log)],
        env=environment(PYTHONPATH=str(ROOT)),
        capture_output=True,
        text=True,
        check=False,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (200, 200)),
    )
    assert done.returncode == 0
    assert "warning  limits: a process may open 200 files and sockets" in done.stdout
    assert "-> ulimit -n 1024 (the hard limit is 200)" in done.stdout


# --- disks ----------------------------------------------------------------------------


def _usage(free: int) -> Callable[[object], object]:
    usage = shutil.disk_usage("/")
    return lambda _path: usage._replace(free=free)


@pytest.mark.parametrize(
    ("free", "level"), [(50 << 20, "problem"), (500 << 20, "warning"), (2 << 30, "ok")]
)
def test_a_disk_that_is_nearly_full_is_named(
    log: Path, monkeypatch: pytest.MonkeyPatch, free: int, level: str
) -> None:
    monkeypatch.setattr(shutil, "disk_usage", _usage(free))
    found = {one.what: one for one in look_at_directory(log)}
    assert found["disk"].level == level
    assert found["disk"].said == f"{free >> 20} MiB free"


def test_a_disk_that_does_not_sync_is_a_problem(
    log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_fd: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    found = {one.what: one for one in look_at_directory(log)}
    assert found["fsync"].level == "problem"
    assert "Input/output error" in found["fsync"].said
