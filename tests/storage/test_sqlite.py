"""What only a file can do wrong: processes, crashes, locks, forks, damage."""

import contextlib
import gc
import os
import re
import shutil
import sqlite3
import stat
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from auditlog.core.errors import (
    AuditLogError,
    ConfigurationError,
    ConflictError,
    StorageError,
)
from auditlog.storage import (
    AttestationRow,
    Cosignature,
    HeadState,
    IndexRow,
    Query,
    SpoolItem,
    TokenRow,
)
from auditlog.storage import database as database_module
from auditlog.storage.database import Database
from auditlog.storage.files import FileLock
from auditlog.storage.sqlite import MAX_BATCH_BYTES, SqliteStore
from tests.storage.processes import forked, killed_after, start, wait_all

ORIGIN = "test.example/log"
ATTESTED = AttestationRow(3, "a", "ots", "final", b"{}", 1, 2)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "log.sqlite3"


@pytest.fixture
def store(path: Path) -> Iterator[SqliteStore]:
    with SqliteStore.create(path, ORIGIN) as created:
        yield created


def item(number: int, entry: bytes = b"an entry") -> SpoolItem:
    row = IndexRow(None, number.to_bytes(16), "auditlog.config.v1", 1000 + number)
    return SpoolItem(entry, row)


# --- creating and opening -------------------------------------------------------------


def test_a_created_store_is_private_and_leaves_no_temporary_file(path: Path) -> None:
    SqliteStore.create(path, ORIGIN).close()
    assert sorted(file.name for file in path.parent.iterdir()) == [
        "log.sqlite3",
        "log.sqlite3.lock",
    ]
    for file in path.parent.iterdir():
        assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_write_ahead_log_is_private(store: SqliteStore, path: Path) -> None:
    store.append([item(0)])
    for end in ("-wal", "-shm"):
        mode = path.with_name(path.name + end).stat().st_mode
        assert stat.S_IMODE(mode) == 0o600


def test_the_origin_is_kept(store: SqliteStore, path: Path) -> None:
    assert store.origin == ORIGIN
    with SqliteStore(path) as again:
        assert again.origin == ORIGIN


@pytest.mark.parametrize("end", ["", "-wal", "-journal"])
def test_remains_of_a_store_are_never_overwritten(path: Path, end: str) -> None:
    path.with_name(path.name + end).write_bytes(b"precious")
    with pytest.raises(ConflictError, match=rf"log.sqlite3{end} already exists"):
        SqliteStore.create(path, ORIGIN)
    assert path.with_name(path.name + end).read_bytes() == b"precious"


def test_a_creation_that_died_half_way_is_started_over(path: Path) -> None:
    path.with_name("log.sqlite3.new").write_bytes(b"half a database")
    SqliteStore.create(path, ORIGIN).close()
    assert not path.with_name("log.sqlite3.new").exists()


def test_a_store_that_is_not_there_is_not_created(path: Path) -> None:
    with pytest.raises(StorageError, match="there is no store at"):
        SqliteStore(path)
    assert list(path.parent.iterdir()) == []


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match=r"missing/log.sqlite3.lock: No such file"):
        SqliteStore.create(tmp_path / "missing" / "log.sqlite3", ORIGIN)


@pytest.mark.parametrize("content", [b"", b"not a database" * 100])
def test_a_file_that_is_no_database_is_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    with pytest.raises(StorageError, match=r"not an SQLite database|no store of"):
        SqliteStore(path)
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    "schema",
    [
        "CREATE TABLE other (x)",
        "CREATE TABLE meta (key, value)",
        "CREATE TABLE meta (key, value); INSERT INTO meta VALUES ('format', 'mine')",
    ],
)
def test_a_foreign_database_is_refused_untouched(path: Path, schema: str) -> None:
    with contextlib.closing(sqlite3.connect(path)) as foreign:
        foreign.executescript(schema)
    before = path.read_bytes()
    with pytest.raises(StorageError, match="no store of auditlog"):
        SqliteStore(path)
    assert path.read_bytes() == before


def change(path: Path, sql: str) -> None:
    """Change a store behind its back."""
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.executescript(sql)


@pytest.mark.parametrize("version", ["2", "0", "", "1.0"])
def test_another_format_version_is_refused(path: Path, version: str) -> None:
    SqliteStore.create(path, ORIGIN).close()
    change(path, f"UPDATE meta SET value = '{version}' WHERE key = 'version'")
    message = f"has format version {version}, this auditlog knows 1: use the release"
    with pytest.raises(StorageError, match=message):
        SqliteStore(path)


def test_a_store_without_attestations_gets_their_table(path: Path) -> None:
    """Stores made before there were anchors have none, and lack nothing else."""
    with SqliteStore.create(path, ORIGIN) as store:
        store.publish(3, b"note")
    change(path, "DROP TABLE attestations")
    for _ in range(2):
        with SqliteStore(path) as store:
            assert store.schema_changes() == []
            store.put_attestation(ATTESTED)
            assert store.attestations(3) == [ATTESTED]


def test_a_closed_store_says_so(store: SqliteStore) -> None:
    store.close()
    store.close()
    for use in (store.size, lambda: store.append([item(0)]), store.head):
        with pytest.raises(StorageError, match="is closed"):
            use()


def test_a_store_of_network_files_is_refused_but_read(path: Path) -> None:
    mounts = path.with_name("mounts")
    mounts.write_text(f"server:/x {path.parent} nfs4 rw 0 0\n")
    with pytest.raises(ConfigurationError, match=r"network file system \(nfs4\)"):
        SqliteStore.create(path, ORIGIN, mounts=mounts)
    assert not path.exists()
    SqliteStore.create(path, ORIGIN).close()
    with pytest.raises(ConfigurationError, match="put the log on a local disk"):
        SqliteStore(path, mounts=mounts)
    with SqliteStore(path, read_only=True, mounts=mounts) as reader:
        assert reader.size() == 0


# --- reading only ---------------------------------------------------------------------


def test_a_reader_sees_what_is_written_beside_it(
    store: SqliteStore, path: Path
) -> None:
    with SqliteStore(path, read_only=True) as reader:
        assert reader.size() == 0
        store.append([item(0)])
        assert reader.size() == 1
        assert reader.read(0, 1) == [b"an entry"]


def test_a_reader_writes_nothing(store: SqliteStore, path: Path) -> None:
    with SqliteStore(path, read_only=True) as reader:
        writes = (
            lambda: reader.append([item(0)]),
            lambda: reader.put([("a", b"1")]),
            lambda: reader.prune(["a"]),
            lambda: reader.publish(1, b"1"),
            lambda: reader.swap_head(reader.head(), HeadState(1, 1, b"")),
            lambda: reader.add_cosignatures([Cosignature(1, "w", 1, b"")]),
            lambda: reader.put_attestation(ATTESTED),
            lambda: reader.add_keys([(b"1", 0, "epoch", "a")]),
            lambda: reader.create_token(b"1", "auditor", "", 1),
            lambda: reader.revoke_token(b"1"),
        )
        for write in writes:
            with pytest.raises(StorageError, match="opened read-only"):
                write()
    assert store.size() == 0


def test_a_directory_without_write_permission_is_an_error_of_ours() -> None:
    # Root may write everywhere, so the child becomes nobody.
    directory = Path(tempfile.mkdtemp())
    try:
        directory.chmod(0o755)
        SqliteStore.create(directory / "log.sqlite3", ORIGIN).close()
        for file in directory.iterdir():
            file.chmod(0o444)
        directory.chmod(0o555)

        def work() -> None:
            if os.getuid() == 0:
                os.setuid(65534)
            with pytest.raises(StorageError, match=r"read-only|Permission denied"):
                SqliteStore(directory / "log.sqlite3").append([item(0)])
            with pytest.raises(StorageError, match="to write beside it"):
                SqliteStore(directory / "log.sqlite3", read_only=True)
            with pytest.raises(StorageError, match="Permission denied"):
                SqliteStore.create(directory / "other.sqlite3", ORIGIN)

        forked(work)
    finally:
        directory.chmod(0o755)
        shutil.rmtree(directory)


# --- threads, processes, crashes ------------------------------------------------------

APPEND = """
    import sys
    from pathlib import Path
    from auditlog.storage import IndexRow, SpoolItem
    from auditlog.storage.sqlite import SqliteStore

    store, who, number = SqliteStore(Path(sys.argv[1])), int(sys.argv[2]), 0
    while number < int(sys.argv[3]):
        items = []
        for _ in range(1 + number % 3):
            row = IndexRow(None, b"%8d%8d" % (who, number), "t", 1, bytes(15) + b"%d" %
                           who, number)
            items.append(SpoolItem(b"%d %d" % (who, number), row))
            number += 1
        first = store.append(items)
        for offset, item in enumerate(items):
            print(first + offset, item.entry.decode(), flush=True)
    store.close()
    """


def acknowledged(lines: list[str]) -> dict[int, bytes]:
    pairs = [line.split(" ", 1) for line in lines]
    found = {int(index): entry.encode() for index, entry in pairs}
    assert len(found) == len(pairs), "an index was given twice"
    return found


def test_processes_that_race_lose_nothing(store: SqliteStore, path: Path) -> None:
    written = wait_all([start(APPEND, path, who, 200) for who in range(4)])
    given = acknowledged("".join(written).splitlines())
    size = store.size()
    assert sorted(given) == list(range(size))
    assert dict(enumerate(store.read(0, size))) == given
    for who in range(4):
        assert store.sequences(bytes(15) + b"%d" % who)[:200] == list(range(200))


@pytest.mark.parametrize("lines", [1, 40, 200])
def test_what_was_acknowledged_survives_sigkill(
    store: SqliteStore, path: Path, lines: int
) -> None:
    processes = [start(APPEND, path, who, 10**9) for who in range(2)]
    written = [killed_after(process, lines) for process in processes]
    given = acknowledged([line for lines_ in written for line in lines_])
    stored = dict(enumerate(store.read(0, store.size())))
    assert len(given) >= 2 * lines
    assert {index: stored.get(index) for index in given} == given
    # The lock of the dead is free, and whoever opens next goes on from there.
    with SqliteStore(path) as again:
        assert again.append([item(0)]) == len(stored)


def test_a_reader_does_not_wait_for_a_writer(store: SqliteStore) -> None:
    store.append([item(0)])
    with store._database.writing() as connection:
        connection.execute("DELETE FROM spool")
        seen: list[int] = []
        thread = threading.Thread(target=lambda: seen.append(store.size()))
        thread.start()
        thread.join(10)
        assert seen == [1]
        connection.execute("ROLLBACK")
        connection.execute("BEGIN")
    assert store.size() == 1


def test_many_readers_at_once_keep_few_connections(store: SqliteStore) -> None:
    barrier = threading.Barrier(12)

    def read() -> None:
        with store._database.reading() as connection:
            barrier.wait(10)
            connection.execute("SELECT 1").fetchall()

    threads = [threading.Thread(target=read) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(store._database._idle) == 8


def test_a_database_that_another_program_locks_is_reported(path: Path) -> None:
    SqliteStore.create(path, ORIGIN).close()
    with (
        contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other,
        SqliteStore(path, busy_timeout=0.05) as store,
    ):
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(StorageError, match="locked by another program"):
            store.append([item(0)])
        assert store.size() == 0
        other.execute("ROLLBACK")
        assert store.append([item(0)]) == 0


def test_writers_queue_on_the_lock_beside_the_database(
    store: SqliteStore, path: Path
) -> None:
    given: list[int] = []
    thread = threading.Thread(target=lambda: given.append(store.append([item(0)])))
    with FileLock(path.with_name("log.sqlite3.lock")):
        thread.start()
        thread.join(0.1)
        assert given == []
    thread.join(10)
    assert given == [0]
    with FileLock(path.with_name("log.sqlite3.lock"), timeout=0):
        pass


def test_a_transaction_is_alone_from_its_beginning(
    store: SqliteStore, path: Path
) -> None:
    with (
        contextlib.closing(sqlite3.connect(path, timeout=0)) as other,
        store._database.writing(),
        pytest.raises(sqlite3.OperationalError, match="locked"),
    ):
        other.execute("BEGIN IMMEDIATE")


def test_a_failed_transaction_leaves_the_store_usable(store: SqliteStore) -> None:
    store.append([item(0)])
    for _ in range(3):
        with pytest.raises(ConflictError, match=r"entry_index\.id"):
            store.append([item(1), item(0)])
    database = store._database
    with pytest.raises(ZeroDivisionError), database.writing() as connection:
        connection.execute(f"DELETE FROM spool WHERE first < {1 // 0}")
    assert store.append([item(1)]) == 1


def test_a_commit_that_fails_is_rolled_back(store: SqliteStore, path: Path) -> None:
    store.append([item(0)])
    with store._database.writing() as connection:
        connection.execute("PRAGMA max_page_count = 1")
        limit = connection.execute("PRAGMA page_count").fetchone()[0]
        connection.execute(f"PRAGMA max_page_count = {limit + 2}")
    with pytest.raises(StorageError, match="disk full"):
        store.append([item(1, bytes(60_000))])
    assert store.size() == 1
    assert store.append([item(1)]) == 1


def test_a_writer_that_cannot_roll_back_is_replaced(store: SqliteStore) -> None:
    database = store._database
    with (
        pytest.raises(StorageError, match="closed database"),
        database.writing() as one,
    ):
        one.close()
    assert database._writer is None
    assert store.append([item(0)]) == 0


# --- fork -----------------------------------------------------------------------------


def test_parent_and_child_both_go_on_after_a_fork(store: SqliteStore) -> None:
    store.append([item(0)])

    def work() -> None:
        assert store.append([item(1)]) == 1
        assert store.read(0, 2) == [b"an entry"] * 2

    forked(work)
    assert store.append([item(2)]) == 2


def test_no_connection_crosses_a_fork(store: SqliteStore) -> None:
    store.append([item(0)])
    inode = store._database.path.stat().st_ino

    def work() -> None:
        links = [link for link in Path("/proc/self/fd").iterdir() if link.exists()]
        assert inode not in {link.stat().st_ino for link in links}

    forked(work)


def test_a_child_of_an_unprepared_fork_refuses(
    store: SqliteStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_module, "_FORK_SECONDS", 0.05)

    def work() -> None:
        for use in (store.size, lambda: store.append([item(0)])):
            with pytest.raises(StorageError, match="was in use in another process"):
                use()
        store.close()
        gc.collect()

    with store._database.writing():
        forked(work)
    with store._database.reading():
        forked(work)
    assert store.append([item(0)]) == 0


@pytest.mark.parametrize("use", [Database.writing, Database.reading])
def test_a_fork_waits_for_what_is_under_way(
    store: SqliteStore,
    use: Callable[[Database], contextlib.AbstractContextManager[sqlite3.Connection]],
) -> None:
    entered = threading.Event()

    def slow() -> None:
        with use(store._database) as connection:
            entered.set()
            threading.Event().wait(0.2)
            connection.execute("SELECT 1 FROM meta").fetchall()

    def work() -> None:
        store.append([item(0)])

    thread = threading.Thread(target=slow)
    thread.start()
    entered.wait(10)
    forked(work)
    thread.join()
    assert store.size() == 1


# --- values and damage ----------------------------------------------------------------


def test_a_batch_that_is_too_large_is_refused_whole(store: SqliteStore) -> None:
    count = MAX_BATCH_BYTES // 65_535
    full = [item(number, bytes(65_535)) for number in range(count + 1)]
    with pytest.raises(StorageError, match="append smaller batches"):
        store.append(full)
    assert store.size() == 0


@pytest.mark.parametrize(
    "row",
    [
        IndexRow(None, b"i" * 16, "t", 1 << 63),
        IndexRow(None, b"i" * 16, "\ud800", 1),
        IndexRow(None, b"i" * 16, None, 1),  # type: ignore[arg-type]
        IndexRow(None, b"i" * 16, [], 1),  # type: ignore[arg-type]
    ],
)
def test_a_value_that_cannot_be_stored_is_an_error_of_ours(
    store: SqliteStore, row: IndexRow
) -> None:
    with pytest.raises(StorageError, match="the database"):
        store.append([item(0), SpoolItem(b"x", row)])
    assert store.size() == 0


def test_a_number_that_no_column_holds_is_an_error_of_ours(store: SqliteStore) -> None:
    with pytest.raises(StorageError, match="cannot be stored"):
        store.covering(1 << 64)
    with pytest.raises(StorageError, match="cannot be stored"):
        store.find(Query(model="\ud800"))


@pytest.mark.parametrize(
    ("sql", "message"),
    [
        ("UPDATE spool SET count = 2", "expected 2 entries"),
        ("UPDATE spool SET entries = x'0005'", "damaged in the entries from 0 on"),
        ("UPDATE spool SET entries = 'text'", "damaged: expected .*bytes.* found str"),
        ("UPDATE spool SET first = 4", "entry 0 is not in the spool"),
        ("DELETE FROM spool", "entry 0 is not in the spool"),
        ("DROP TABLE spool", "no such table"),
    ],
)
def test_a_changed_spool_is_an_error_of_ours(
    store: SqliteStore, path: Path, sql: str, message: str
) -> None:
    store.append([item(0)])
    change(path, sql)
    with pytest.raises(StorageError, match=message):
        store.read(0, 1)


def test_a_hole_in_the_spool_is_named(store: SqliteStore, path: Path) -> None:
    for number in range(3):
        store.append([item(number)])
    change(path, "DELETE FROM spool WHERE first = 1")
    with pytest.raises(StorageError, match="entry 1 is not in the spool"):
        store.read(0, 3)
    assert store.read(2, 3) == [b"an entry"]


@pytest.mark.parametrize("sql", ["DELETE FROM head", "UPDATE head SET root = 7"])
def test_a_changed_head_is_an_error_of_ours(
    store: SqliteStore, path: Path, sql: str
) -> None:
    change(path, sql)
    with pytest.raises(StorageError, match="the database is damaged"):
        store.head()


def use_all(path: Path) -> None:
    with SqliteStore(path, busy_timeout=0.1) as store:
        store.head()
        store.read(0, store.size())
        store.find(Query())
        store.by_id(bytes(16))
        store.vault_rows(0, 99)
        store.newest()
        store.cosigned(0)
        store.anchored(0)
        for size in store.attested_sizes():
            store.attestations(size)
        store.get("a")
        store.key_slot("epoch", "a")
        store.tokens()
        store.append([item(99)])
        store.put([("b", b"2")])
        store.swap_head(store.head(), HeadState(1, 9, b"r"))


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("image") / "log.sqlite3"
    with SqliteStore.create(path, ORIGIN) as store:
        store.append([item(number, b"%d" % number) for number in range(50)])
        store.add_keys([(b"k" * 16, 1, "epoch", "b")])
        store.append([item(50)._replace(key_id=b"k" * 16, sealed=b"s" * 9000)])
        store.put([("a", b"1" * 9000)])
        store.publish(3, b"note")
        store.add_cosignatures([Cosignature(3, "w+00", 1, b"line\n")])
        store.put_attestation(ATTESTED)
        store.add_keys([(b"1", 0, "epoch", "a")])
        store.create_token(b"1", "auditor", "label", 1)
    return path.read_bytes()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_any_bytes_in_the_file_give_an_error_of_ours(
    image: bytes, data: st.DataObject
) -> None:
    changed = bytearray(image)
    # Most of a page is empty: aim at the parts that mean something.
    used = [at for at, byte in enumerate(image) if byte]
    for _ in range(data.draw(st.integers(1, 8))):
        changed[data.draw(st.sampled_from(used))] = data.draw(st.integers(0, 255))
    end = data.draw(
        st.sampled_from([len(image)] * 4 + list(range(0, len(image), 4096)))
    )
    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / "log.sqlite3"
        path.write_bytes(changed[:end])
        with contextlib.suppress(AuditLogError):
            use_all(path)


def test_the_image_itself_is_in_order(image: bytes, path: Path) -> None:
    path.write_bytes(image)
    use_all(path)


def test_damage_is_called_damage(image: bytes, path: Path) -> None:
    path.write_bytes(image[:4096] + b"\xff" * (len(image) - 4096))
    with pytest.raises(StorageError, match="damaged"):
        use_all(path)


# --- tokens ---------------------------------------------------------------------------


def test_tokens_are_kept_until_they_are_revoked(store: SqliteStore) -> None:
    store.create_token(b"2" * 32, "content", "second", 20, 90, '{"since":1}')
    store.create_token(b"1" * 32, "auditor", "first", 10)
    first = TokenRow(b"1" * 32, "auditor", "first", 10, None, None)
    second = TokenRow(b"2" * 32, "content", "second", 20, 90, '{"since":1}')
    assert store.token(b"1" * 32) == first
    assert store.token(b"3" * 32) is None
    assert store.tokens() == [first, second]
    assert store.revoke_token(b"1" * 32) is True
    assert store.revoke_token(b"1" * 32) is False
    assert store.token(b"1" * 32) is None


def test_a_token_is_created_once(store: SqliteStore) -> None:
    store.create_token(b"1", "auditor", "", 1)
    with pytest.raises(ConflictError, match=r"tokens\.hash"):
        store.create_token(b"1", "content", "", 1)
    assert store.token(b"1") == TokenRow(b"1", "auditor", "", 1)


# --- what durability rests on ---------------------------------------------------------

TRACED = """
    import os, sys
    from pathlib import Path
    from auditlog.storage import (
        AttestationRow, Cosignature, HeadState, IndexRow, SpoolItem)
    from auditlog.storage.sqlite import SqliteStore

    with SqliteStore(Path(sys.argv[1])) as store:
        row = IndexRow(None, b"i" * 16, "t", 1)
        writes = {
            "append": lambda: store.append([SpoolItem(b"x" * 9000, row)]),
            "put": lambda: store.put([("a", b"1")]),
            "swap_head": lambda: store.swap_head(store.head(), HeadState(1, 1, b"r")),
            "publish": lambda: store.publish(1, b"note"),
            "cosign": lambda: store.add_cosignatures([Cosignature(1, "w", 1, b"l")]),
            "attest": lambda: store.put_attestation(
                AttestationRow(1, "a", "ots", "pending", b"{}", 1, 1)),
            "add_keys": lambda: store.add_keys([(b"k", 0, "epoch", "a")]),
            "token": lambda: store.create_token(b"t", "auditor", "", 1),
        }
        for name, write in writes.items():
            os.write(1, b"begin " + name.encode())
            write()
            os.write(1, b"end " + name.encode())
    """


def test_every_write_is_synced_before_it_returns(
    store: SqliteStore, path: Path
) -> None:
    trace = path.with_name("trace")
    which = "trace=write,pwrite64,fsync,fdatasync"
    command = ["strace", "-f", "-y", "-o", str(trace), "-e", which]
    try:
        subprocess.run([*command, "true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("strace is not installed, or may not trace here")
    wait_all([start(TRACED, path, under=command)])
    calls = re.findall(
        r"(?:\d+ +)?(\w+)\(\d+<(.*?)>(?:, \"(\w+ \w+)\")?", trace.read_text()
    )
    names = ("append", "put", "swap_head", "publish", "cosign", "attest", "add_keys")
    for name in (*names, "token"):
        marks = [one[2] for one in calls]
        inside = calls[marks.index(f"begin {name}") + 1 : marks.index(f"end {name}")]
        log = [call for call, file, _ in inside if file == f"{path}-wal"]
        assert "pwrite64" in log, f"{name} wrote nothing"
        assert log[-1] in {"fsync", "fdatasync"}, f"{name} returned before a sync"


def test_the_writer_syncs_every_commit(store: SqliteStore) -> None:
    with store._database.writing() as connection:
        for pragma, value in {"journal_mode": "wal", "synchronous": 2}.items():
            found = connection.execute(f"PRAGMA {pragma}").fetchone()[0]
            assert (pragma, found) == (pragma, value)


def test_a_database_that_left_wal_mode_comes_back(path: Path) -> None:
    SqliteStore.create(path, ORIGIN).close()
    change(path, "PRAGMA journal_mode = DELETE")
    with SqliteStore(path) as store:
        store.append([item(0)])
        with contextlib.closing(sqlite3.connect(path)) as other:
            assert other.execute("PRAGMA journal_mode").fetchone()[0] == "wal"


def test_a_database_without_write_ahead_log_is_not_written(path: Path) -> None:
    SqliteStore.create(path, ORIGIN).close()
    change(path, "PRAGMA journal_mode = DELETE")
    with (
        SqliteStore(path, busy_timeout=0.05) as store,
        contextlib.closing(sqlite3.connect(path, isolation_level=None)) as other,
    ):
        other.execute("BEGIN")
        other.execute("SELECT * FROM meta").fetchall()
        with pytest.raises(StorageError, match="locked by another program"):
            store.append([item(0)])


def test_a_file_system_without_wal_is_refused(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    SqliteStore.create(path, ORIGIN).close()
    with SqliteStore(path) as store:
        # What SQLite answers where it cannot share memory between processes.
        pragmas = ("PRAGMA journal_mode = DELETE",)
        monkeypatch.setattr(database_module, "_WRITER_PRAGMAS", pragmas)
        with store._database._readers:
            store._database._close_all()
        with pytest.raises(
            StorageError, match=r"write-ahead log .* \(journal mode del"
        ):
            store.append([item(0)])


def test_a_connection_that_fails_is_not_counted_as_borrowed(
    store: SqliteStore, path: Path
) -> None:
    path.rename(path.with_name("elsewhere"))
    with store._database.reading(), pytest.raises(StorageError, match="be opened"):
        store.size()
    path.with_name("elsewhere").rename(path)
    assert store.size() == 0
    assert store._database._borrowed == 0


def test_readers_cannot_change_anything(store: SqliteStore) -> None:
    with (
        pytest.raises(StorageError, match="read-only"),
        store._database.reading() as connection,
    ):
        connection.execute("DELETE FROM meta")


def test_a_lock_file_that_cannot_be_made_is_an_error_of_ours(path: Path) -> None:
    SqliteStore.create(path, ORIGIN).close()
    lock = path.with_name("log.sqlite3.lock")
    lock.unlink()
    lock.mkdir()
    with (
        SqliteStore(path) as store,
        pytest.raises(StorageError, match="Is a directory"),
    ):
        store.append([item(0)])


def test_databases_are_forgotten_with_their_owner(path: Path) -> None:
    database = Database(path, read_only=False)
    assert database in database_module._DATABASES
    del database
    gc.collect()
    assert not [one for one in database_module._DATABASES if one.path == path]
