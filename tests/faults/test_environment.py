"""What surrounds a log goes bad: full, read-only, locked, gone; and comes back.

The service is the middleware around an application, under ``durability = sync``. Under
``open`` it answers as if nothing had happened, and at once; under ``closed`` an answer
whose decision was lost is withheld, and then requests are refused before the
application is called. The log of the service says why, once.
"""

import asyncio
import contextlib
import logging
import os
import re
import shutil
import sqlite3
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, Literal

import pytest

from auditlog.core.errors import AuditLogError, ConfigurationError
from auditlog.log.runtime import Runtime
from auditlog.storage.sqlite import SqliteStore
from auditlog.web import middleware as middleware_module
from auditlog.web import process as process_module
from auditlog.web.asgi import Receive, Scope, Send
from auditlog.web.middleware import AuditMiddleware
from auditlog.web.process import Process
from tests.faults.logs import in_the_log
from tests.faults.stores import no_more_files_open
from tests.faults.tracing import expect_whole
from tests.harness import check_whole_log
from tests.log.builders import ORIGIN, config_of, exchange
from tests.web.asgi_driver import START, Server, body, http_scope

Durability = Literal["sync", "spool"]
Mode = Literal["open", "closed"]
MODES: tuple[Mode, ...] = ("open", "closed")

BUSY_SECONDS = 0.1
"""How long a lock of another program is waited for, in place of five seconds."""
AT_ONCE = 0.5
"""Seconds that an answer may take where nobody waits for a disk."""


class Service:
    """An application behind the middleware, and what became of each request."""

    def __init__(
        self,
        directory: Path,
        mode: Mode,
        durability: Durability = "sync",
        checkpoint_interval: float = 0.05,
    ) -> None:
        self.calls = 0
        self.recorded: list[str] = []
        """Ids of the decisions that were promised to be in the log."""
        self._mode = mode
        self._app = AuditMiddleware(
            self._answer,
            dir=directory,
            origin=ORIGIN,
            on_failure=mode,
            durability=durability,
            checkpoint_interval=checkpoint_interval,
        )

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.calls += 1
        await receive()
        await send(START)
        await send(body(b'{"score":1}'))

    @property
    def process(self) -> Process:
        return self._app._process

    def ask(self) -> str:
        """Ask once; return what the client gets: a status, or that it is cut off."""
        server = Server()
        try:
            asyncio.run(self._app(http_scope(), server.receive, server.send))
        except AuditLogError as error:
            if "withheld" not in str(error):
                raise
            assert server.body() == b""
            return "withheld"
        if self._mode == "closed" and server.sent[0]["status"] == 200:
            self._remember(server)
        return str(server.sent[0]["status"])

    def record(self) -> None:
        """Ask once on a healthy disk, and remember the decision."""
        server = Server()
        asyncio.run(self._app(http_scope(), server.receive, server.send))
        assert server.sent[0]["status"] == 200
        self._remember(server)

    def _remember(self, server: Server) -> None:
        name = server.header(b"decision-id")
        assert name is not None
        self.recorded.append(name.decode())

    def flush(self) -> None:
        """Wait until the store has what was accepted ahead of it."""
        assert self.process.runtime is not None
        assert self.process.runtime.flush(5)

    def stop(self) -> None:
        asyncio.run(self.process.stop())


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    defaults: Any = SqliteStore.__init__.__kwdefaults__
    monkeypatch.setitem(defaults, "busy_timeout", BUSY_SECONDS)
    monkeypatch.setattr(process_module, "_STOP_SECONDS", 1.0)


@contextmanager
def _serving(
    directory: Path,
    mode: Mode,
    durability: Durability = "sync",
    checkpoint_interval: float = 0.05,
) -> Iterator[Service]:
    service = Service(directory, mode, durability, checkpoint_interval)
    try:
        yield service
    finally:
        service.stop()


def _expect_promised(service: Service, mode: Mode) -> None:
    """Ask while decisions cannot be stored."""
    first = service.ask()
    if mode == "closed":
        first = _until_refused(service, first)
    calls = service.calls
    started = time.monotonic()
    later = [service.ask() for _ in range(3)]
    if mode == "open":
        assert (first, later) == ("200", ["200"] * 3)
        assert service.calls == calls + 3
        assert time.monotonic() - started < AT_ONCE
    else:
        # The one that met the fault first may have been answered by the application.
        assert first in {"withheld", "503"}
        assert later == ["503"] * 3
        assert service.calls == calls


def _until_refused(service: Service, answer: str) -> str:
    """Ask until the store is known to fail: what was accepted ahead of it is safe."""
    deadline = time.monotonic() + 10
    while answer == "200":
        assert time.monotonic() < deadline
        answer = service.ask()
    return answer


def _expect_mended(service: Service, directory: Path) -> None:
    """Ask until decisions can be stored again; then everything that was said is."""
    deadline = time.monotonic() + 10
    runtime: Any = service.process.runtime
    while runtime is None or not runtime.healthy():
        assert time.monotonic() < deadline
        time.sleep(0.05)
        service.ask()
        runtime = service.process.runtime
    service.record()
    service.stop()
    expect_whole(directory, [])
    found = check_whole_log(directory)
    assert in_the_log(found, service.recorded) == [1] * len(service.recorded)


def _causes(caplog: pytest.LogCaptureFixture) -> list[str]:
    """Return what was logged about causes; each lost decision has a line as well."""
    said = [record.getMessage() for record in caplog.records]
    return [text for text in said if "is not recorded" not in text]


def _expect_said_once(caplog: pytest.LogCaptureFixture, reason: str) -> None:
    causes = [text for text in _causes(caplog) if re.search(reason, text)]
    assert causes, _causes(caplog)
    assert len(set(causes)) == len(causes), causes


# --- what goes bad while the service runs ---------------------------------------------


@contextmanager
def _small_disk(directory: Path, size: str) -> Iterator[None]:
    """Mount a small file system, which takes root."""
    directory.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(directory)]
    mounted = os.geteuid() == 0 and not subprocess.run(command, check=False).returncode
    if not mounted:
        pytest.skip("mounting a small file system takes root, and leave to mount")
    try:
        yield
    finally:
        subprocess.run(["umount", str(directory)], check=True)


def _fill(disk: Path) -> Path:
    filler = disk / "filler"
    with filler.open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))
    return filler


@pytest.mark.parametrize("mode", MODES)
def test_a_full_disk(
    tmp_path: Path, mode: Mode, caplog: pytest.LogCaptureFixture
) -> None:
    disk = tmp_path / "disk"
    # With a checkpoint comes a tidying, which would make room for a few more.
    serving = _serving(disk / "audit", mode, checkpoint_interval=60)
    with _small_disk(disk, "4m"), serving as service:
        service.record()
        caplog.clear()
        filler = _fill(disk)
        # What was allocated before still takes a few.
        for _ in range(1000):
            service.ask()
            if _causes(caplog):
                break
        _expect_promised(service, mode)
        _expect_said_once(caplog, "disk full")
        filler.unlink()
        _expect_mended(service, disk / "audit")


@contextmanager
def _locked(database: Path) -> Iterator[None]:
    """Hold the lock of a program that wants the database for itself."""
    other = sqlite3.connect(database, isolation_level=None, timeout=10)
    with contextlib.closing(other):
        other.execute("BEGIN EXCLUSIVE")
        yield
        other.execute("ROLLBACK")


@contextmanager
def _moved(directory: Path) -> Iterator[None]:
    elsewhere = directory.with_name("elsewhere")
    directory.rename(elsewhere)
    yield
    elsewhere.rename(directory)


@contextmanager
def _removed(directory: Path) -> Iterator[None]:
    """Remove a directory, and put a copy in its place in the end."""
    backup = shutil.copytree(directory, directory.with_name("backup"))
    shutil.rmtree(directory)
    yield
    backup.rename(directory)


@contextmanager
def _replaced(directory: Path) -> Iterator[None]:
    """Put other files with the same content under the names."""
    backup = shutil.copytree(directory, directory.with_name("backup"))
    original = directory.rename(directory.with_name("original"))
    backup.rename(directory)
    yield
    shutil.rmtree(directory)
    original.rename(directory)


Breaking = Callable[[Path], AbstractContextManager[None]]

BROKEN: dict[str, tuple[Breaking, str]] = {
    "locked": (lambda path: _locked(path / "log.sqlite3"), "locked by another program"),
    "moved": (_moved, "was removed or replaced while it was in use"),
    "replaced": (_replaced, "was removed or replaced while it was in use"),
}


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("what", BROKEN)
def test_a_log_that_is(
    tmp_path: Path, mode: Mode, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "audit"
    breaking, reason = BROKEN[what]
    with _serving(directory, mode) as service:
        service.record()
        caplog.clear()
        with breaking(directory):
            _expect_promised(service, mode)
            time.sleep(1.2)  # Long enough for several attempts to say it again.
            _expect_promised(service, mode)
            _expect_said_once(caplog, reason)
        _expect_mended(service, directory)


@pytest.mark.parametrize("mode", MODES)
def test_what_was_answered_under_spool_waits_for_a_log_that_is_locked(
    tmp_path: Path, mode: Mode, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "audit"
    with _serving(directory, mode, "spool") as service:
        service.record()
        runtime: Any = service.process.runtime
        assert runtime.flush(10)
        caplog.clear()
        with _locked(directory / "log.sqlite3"):
            # Nobody knows of the fault yet; this one is promised by its number.
            service.record()
            deadline = time.monotonic() + 10
            while runtime.healthy():
                assert time.monotonic() < deadline
                time.sleep(0.01)
            calls, later = service.calls, [service.ask() for _ in range(3)]
            assert later == ["200" if mode == "open" else "503"] * 3
            assert service.calls - calls == (3 if mode == "open" else 0)
            _expect_said_once(caplog, "locked by another program")
        _expect_mended(service, directory)


@pytest.mark.parametrize("mode", MODES)
def test_a_log_that_was_removed_and_restored_goes_on_after_a_restart(
    tmp_path: Path, mode: Mode, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "audit"
    with _serving(directory, mode) as service:
        service.record()
        service.flush()
        with _removed(directory):
            # What is accepted before it is noticed is gone with the rest.
            time.sleep(0.05)
            _expect_promised(service, mode)
        # Another file is there now: what this process knows is not about it.
        _expect_promised(service, mode)
        _expect_said_once(caplog, "put it back, or restart")
        assert len(check_whole_log(directory).decisions) == 1
    with _serving(directory, mode) as after:
        after.recorded = service.recorded
        _expect_mended(after, directory)


@pytest.mark.parametrize("mode", MODES)
def test_a_keyring_that_is_gone_on_the_day_of_its_next_key(
    tmp_path: Path,
    mode: Mode,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    directory = tmp_path / "audit"
    keyring = directory / "keys" / "keyring"
    with _serving(directory, mode) as service:
        service.record()
        tomorrow = middleware_module._now() + 86_400_000_000
        monkeypatch.setattr(middleware_module, "_now", lambda: tomorrow)
        kept = keyring.rename(tmp_path / "keyring")
        _expect_promised(service, mode)
        _expect_said_once(caplog, "keyring")
        kept.rename(keyring)
        _expect_mended(service, directory)


class _SlowDisk:
    """Appends of a runtime wait until they are let go."""

    def __init__(self, service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
        runtime: Any = service.process.runtime
        assert runtime.flush(10)
        self._append = runtime._log.store.append
        self._go = threading.Event()
        self.hangs = threading.Event()
        monkeypatch.setattr(runtime._log.store, "append", self._hang)

    def _hang(self, items: Any) -> int:
        self.hangs.set()
        self._go.wait(10)
        index: int = self._append(items)
        return index

    def recover(self) -> None:
        self._go.set()


@pytest.mark.parametrize("mode", MODES)
def test_a_slow_disk_delays_no_answer_under_spool(
    tmp_path: Path,
    mode: Mode,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    directory = tmp_path / "audit"
    with _serving(directory, mode, "spool") as service:
        service.record()
        caplog.clear()
        disk = _SlowDisk(service, monkeypatch)
        started = time.monotonic()
        service.record()
        assert disk.hangs.wait(10)
        for _ in range(20):
            service.record()
        assert time.monotonic() - started < 20 * AT_ONCE
        assert len(check_whole_log(directory).decisions) <= 1
        disk.recover()
        assert _causes(caplog) == [], "slow is no fault"
        _expect_mended(service, directory)


@pytest.mark.parametrize("mode", MODES)
def test_a_disk_that_is_too_slow_for_what_waits(
    tmp_path: Path,
    mode: Mode,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    directory = tmp_path / "audit"
    with _serving(directory, mode, "spool") as service:
        service.record()
        caplog.clear()
        runtime: Any = service.process.runtime
        monkeypatch.setattr(runtime._recorder, "_capacity", 5)
        disk = _SlowDisk(service, monkeypatch)
        service.record()
        assert disk.hangs.wait(10)
        for _ in range(5):
            service.record()
        calls, later = service.calls, [service.ask() for _ in range(4)]
        # Under open the service goes on, and what has no room becomes a gap; under
        # closed nothing is answered that could not be recorded.
        assert later == ["200" if mode == "open" else "503"] * 4
        assert service.calls - calls == (4 if mode == "open" else 0)
        disk.recover()
        said = "too many decisions wait for the disk"
        if mode == "open":
            _expect_said_once(caplog, said)
        _expect_mended(service, directory)
    log = check_whole_log(directory)
    gaps = [one for one in log.entries if b'"reason":"overload"' in one]
    assert len(gaps) == (1 if mode == "open" else 0)


def test_a_keyring_that_is_gone_when_the_next_key_is_due(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    runtime = Runtime(config_of(tmp_path / "audit"))
    keyring = tmp_path / "audit" / "keys" / "keyring"
    try:
        _submit(runtime, days=0)
        assert runtime.flush(5)
        kept = keyring.read_bytes()
        keyring.unlink()
        _submit(runtime, days=1)
        assert not runtime.flush(0.5)
        assert not runtime.healthy()
        _expect_said_once(caplog, "keyring")
        keyring.write_bytes(kept)
        keyring.chmod(0o600)
        assert runtime.flush(5)
        assert runtime.healthy()
    finally:
        runtime.stop()
    expect_whole(tmp_path / "audit", [])
    assert len(check_whole_log(tmp_path / "audit").decisions) == 2


def _submit(runtime: Runtime, days: int) -> None:
    one = exchange(0)
    one.time += days * 86_400_000_000
    one.sequence = runtime.open(one.id, one.time)
    runtime.submit(one)


def test_a_stop_that_cannot_be_recorded_is_admitted_by_the_next_start(
    tmp_path: Path,
) -> None:
    directory = tmp_path / "audit"
    runtime = Runtime(config_of(directory))
    _submit(runtime, days=0)
    assert runtime.flush(5)
    with _locked(directory / "log.sqlite3"):
        runtime.stop(0.2)
    expect_whole(directory, [])
    found = check_whole_log(directory)
    # No number was open, but nobody could know that none came after the last one.
    assert [b'"reason":"unclean-stop"' in one for one in found.entries][-1]
    assert len(found.decisions) == 1


# --- what is bad when the service starts ----------------------------------------------


def _recorded_before(directory: Path) -> list[str]:
    with _serving(directory, "open") as service:
        service.record()
    return service.recorded


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("name", ["log.key", "vault.key", "keyring"])
def test_a_key_that_vanished_hurts_at_the_next_start_only(
    tmp_path: Path, mode: Mode, name: str
) -> None:
    directory = tmp_path / "audit"
    with _serving(directory, mode) as service:
        service.record()
        (directory / "keys" / name).rename(tmp_path / name)
        service.record()
    with (
        _serving(directory, mode) as after,
        pytest.raises(ConfigurationError, match=rf"{name}.* missing.* restore it"),
    ):
        after.ask()
    assert after.calls == 0
    (tmp_path / name).rename(directory / "keys" / name)
    with _serving(directory, mode) as mended:
        mended.recorded = service.recorded
        _expect_mended(mended, directory)


@pytest.mark.parametrize("mode", MODES)
def test_a_keyring_of_another_time_stops_the_start(tmp_path: Path, mode: Mode) -> None:
    directory = tmp_path / "audit"
    _recorded_before(directory)
    keyring = directory / "keys" / "keyring"
    keyring.write_bytes(os.urandom(64))
    with (
        _serving(directory, mode) as service,
        pytest.raises(ConfigurationError, match="does not open: it is damaged or old"),
    ):
        service.ask()
    assert service.calls == 0


def test_a_start_that_fails_leaves_nothing_open(tmp_path: Path) -> None:
    directory = tmp_path / "audit"
    _recorded_before(directory)
    (directory / "keys" / "keyring").unlink()
    for _ in range(2):
        with no_more_files_open(), pytest.raises(ConfigurationError, match="missing"):
            Runtime(config_of(directory))


@contextmanager
def _read_only(directory: Path) -> Iterator[Callable[[], None]]:
    """Make a directory read-only; yield what makes it writable again."""
    if os.geteuid() == 0:
        disk = directory.parent
        _remount(disk, "ro")
        yield lambda: _remount(disk, "rw")
        return
    for path in (directory, *directory.rglob("*")):
        path.chmod(path.stat().st_mode & 0o500)
    yield lambda: _give_back(directory)


def _remount(disk: Path, how: str) -> None:
    subprocess.run(["mount", "-o", f"remount,{how}", str(disk)], check=True)


def _give_back(directory: Path) -> None:
    directory.chmod(0o700)
    for path in directory.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)


@contextmanager
def _disk_if_root(directory: Path) -> Iterator[None]:
    # Root may write where permissions say no.
    if os.geteuid() == 0:
        with _small_disk(directory, "8m"):
            yield
    else:
        directory.mkdir()
        yield


@pytest.mark.parametrize("mode", MODES)
def test_a_directory_that_is_read_only(
    tmp_path: Path, mode: Mode, caplog: pytest.LogCaptureFixture
) -> None:
    directory = tmp_path / "disk" / "audit"
    with _disk_if_root(tmp_path / "disk"):
        recorded = _recorded_before(directory)
        caplog.clear()
        with _read_only(directory) as write_again, _serving(directory, mode) as service:
            service.recorded = recorded
            _expect_promised(service, mode)
            time.sleep(1.2)  # It is tried again each second.
            _expect_promised(service, mode)
            _expect_said_once(caplog, "Read-only file system|Permission denied")
            write_again()
            _expect_mended(service, directory)


def test_nothing_is_logged_about_a_healthy_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    _recorded_before(tmp_path / "audit")
    caplog.clear()
    with caplog.at_level(logging.INFO), _serving(tmp_path / "audit", "open") as service:
        service.record()
    assert _causes(caplog) == []
