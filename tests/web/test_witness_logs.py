"""The logs of a witness: a list says which, and changes while it is served."""

import logging
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.errors import AuditLogError, ConfigurationError, MalformedError
from auditlog.core.note import (
    COSIGNATURE_ED25519,
    ED25519,
    ML_DSA_44,
    make_signer,
    parse_vkey,
)
from auditlog.web.witness_logs import (
    DEFAULT_QPD,
    LogBook,
    WitnessedLog,
    parse_log_list,
)
from tests.witnesses import SomeLog

A, B = SomeLog("log.example/a"), SomeLog("log.example/b")
KEY_A, KEY_B = A.vkeys[0], B.vkeys[0]
PQ_A = SomeLog("log.example/a", (ML_DSA_44,)).vkeys[0]
WITNESS = make_signer("w.example", COSIGNATURE_ED25519, b"w" * 32).verifier.vkey
# As the public witness network publishes it (transparency-dev/witness-network,
# lists/testing/log-list.1), shortened.
PUBLIC = """\
#
# No performance profile - this is only meant for dev/testing.  Expect breakage.
#
logs/v0

vkey arche2025h1.staging.ct.transparency.dev+ba2f06c0+\
AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f
qpd 86400
contact google-ct-logs@googlegroups.com

vkey vindex.gopherwatch.org+af4f4f3a+AYlEp21ErzmKZa+aqhjC8BQteyEtsVwmLzblkzHxn8et
qpd 288
contact admin@gopherwatch.org
"""


def entry(vkey: str, qpd: int = 10, origin: str = "") -> str:
    named = f"origin {origin}\n" if origin else ""
    return f"vkey {vkey}\n{named}qpd {qpd}\ncontact ops (at) log.example\n"


def listed(*entries: str) -> str:
    return "logs/v0\n" + "\n".join(entries)


class TestLists:
    def test_what_is_in_it(self) -> None:
        text = listed(
            entry(KEY_A), "# a comment\n", entry(KEY_B, 24, "go.sum database")
        )
        assert parse_log_list(text) == (
            WitnessedLog(A.origin, A.verifiers[0], 10, "ops (at) log.example"),
            WitnessedLog("go.sum database", B.verifiers[0], 24, "ops (at) log.example"),
        )

    def test_nobody(self) -> None:
        assert parse_log_list("# a comment\n\nlogs/v0\n") == ()

    def test_an_origin_of_none_is_the_key_s_name(self) -> None:
        (log,) = parse_log_list(listed(entry(KEY_A, origin="none")))
        assert log.origin == A.origin

    @pytest.mark.interop
    def test_the_list_of_the_public_network(self) -> None:
        logs = parse_log_list(PUBLIC)
        assert [(log.origin, log.qpd) for log in logs] == [
            ("arche2025h1.staging.ct.transparency.dev", 86_400),
            ("vindex.gopherwatch.org", 288),
        ]
        assert {log.verifier.type for log in logs} == {ED25519}

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            ("", "expected the list to begin with logs/v0"),
            ("logs/v1\n", "expected the list to begin with logs/v0"),
            (entry(KEY_A), "expected the list to begin with logs/v0"),
            (listed(entry(KEY_A)).replace("\n", "\r\n"), "without controls"),
            (listed(entry(KEY_A)) + "\0", "without controls"),
            (listed(f"vkey {KEY_A}\n"), "log 1: expected origin or qpd, got the end"),
            (listed(f"vkey {KEY_A}\nqpd 1\n"), "log 1: expected contact, got the end"),
            (listed("qpd 1\n"), "log 1: expected vkey and a value"),
            (listed("vkey\n"), "log 1: expected vkey and a value"),
            (listed("vkey \n"), "log 1: expected vkey and a value"),
            (listed(entry(KEY_A), "VKEY x\n"), "log 2: expected vkey and a value"),
            (
                listed(f"vkey {KEY_A}\ncontact c\nqpd 1\n"),
                "log 1: expected origin or qpd and a value",
            ),
            (
                listed(f"vkey {KEY_A}\nqpd 1\norigin x\ncontact c\n"),
                "log 1: expected contact and a value",
            ),
            (
                listed(f"vkey {KEY_A}\norigin x\norigin y\nqpd 1\ncontact c\n"),
                "log 1: expected qpd and a value",
            ),
            (
                listed(f"vkey {KEY_A}\nbastion none\nqpd 1\ncontact c\n"),
                "log 1: expected origin or qpd and a value",
            ),
            (listed(entry("nonsense")), "log 1: expected the vkey as"),
            (listed(entry(WITNESS)), r"log 1: .*a witness's key \(type 0x04\)"),
            (listed(entry(KEY_A, 0)), "log 1: expected a qpd from 1 to 2147483647"),
            (listed(entry(KEY_A, 2**31)), "log 1: expected a qpd from 1 to"),
            (listed(entry(KEY_A).replace("qpd 1", "qpd 01")), "log 1: expected"),
            (listed(entry(KEY_A).replace("qpd 1", "qpd -1")), "log 1: expected"),
        ],
    )
    def test_refused(self, text: str, reason: str) -> None:
        with pytest.raises(MalformedError, match=reason):
            parse_log_list(text)

    @given(
        st.lists(
            st.sampled_from(
                ["logs/v0", "vkey", KEY_A, "origin", "qpd", "1", "contact", "\n", "#"]
            )
            | st.text(max_size=3)
        ).map(" ".join)
    )
    def test_any_text_gives_logs_or_our_error(self, text: str) -> None:
        try:
            logs = parse_log_list(text)
        except AuditLogError:
            return
        assert all(log.origin and log.qpd > 0 for log in logs)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class TestBook:
    def test_named_and_listed_and_with_several_keys(self, tmp_path: Path) -> None:
        path = tmp_path / "logs"
        path.write_text(listed(entry(PQ_A), entry(KEY_B)))
        book = LogBook([KEY_A, KEY_A], [path])
        assert book.keys == {
            A.origin: (A.verifiers[0], parse_vkey(PQ_A)),
            B.origin: B.verifiers,
        }

    def test_the_same_in_two_lists_is_one(self, tmp_path: Path) -> None:
        for name in ("one", "two"):
            (tmp_path / name).write_text(listed(entry(KEY_A)))
        book = LogBook([KEY_A], [tmp_path / "one", tmp_path / "two"])
        assert book.keys == A.keys

    @pytest.mark.parametrize(
        ("text", "reason"),
        [
            (None, "logs: No such file or directory"),
            ("logs/v1", "logs: expected the list to begin with logs/v0"),
        ],
    )
    def test_a_list_that_cannot_be_used_stops_the_start(
        self, tmp_path: Path, text: str | None, reason: str
    ) -> None:
        if text is not None:
            (tmp_path / "logs").write_text(text)
        with pytest.raises(ConfigurationError, match=reason):
            LogBook([], [tmp_path / "logs"])

    def test_a_list_that_is_no_text(self, tmp_path: Path) -> None:
        (tmp_path / "logs").write_bytes(b"logs/v0\n\xff")
        with pytest.raises(ConfigurationError, match="can't decode byte 0xff"):
            LogBook([], [tmp_path / "logs"])

    def test_a_list_that_grows_is_read_again(self, tmp_path: Path) -> None:
        path, clock = tmp_path / "logs", Clock()
        path.write_text(listed(entry(KEY_A)))
        book = LogBook([], [path], clock=clock)
        path.write_text(listed(entry(KEY_A), entry(KEY_B)))
        clock.now += 0.5
        book.refresh()
        clock.now += 1
        book.refresh()
        assert set(book.keys) == {A.origin, B.origin}
        clock.now += 1
        assert not book.refresh()

    @pytest.mark.parametrize("change", ["broken", "removed", "not text"])
    def test_one_that_breaks_changes_nothing_and_says_so_once(
        self, tmp_path: Path, change: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        path, clock = tmp_path / "logs", Clock()
        path.write_text(listed(entry(KEY_A)))
        book = LogBook([], [path], clock=clock)
        match change:
            case "broken":
                path.write_text("logs/v0\nvkey")
            case "removed":
                path.unlink()
            case _:
                path.write_bytes(b"\xff" * 999)
        with caplog.at_level(logging.INFO, "auditlog.witness"):
            for _ in range(3):
                clock.now += 2
                assert not book.refresh()
        assert book.keys == A.keys
        assert [one.levelname for one in caplog.records] == ["ERROR"]
        assert "the logs served stay what they were" in caplog.text
        path.write_text(listed(entry(KEY_B)))
        clock.now += 2
        assert book.refresh()
        assert book.keys == B.keys

    def test_the_same_size_in_the_same_moment_is_a_change_too(
        self, tmp_path: Path
    ) -> None:
        """A file that is put in place of another is another file."""
        path, clock = tmp_path / "logs", Clock()
        path.write_text(listed(entry(KEY_A)))
        book = LogBook([], [path], clock=clock)
        before = path.stat()
        (tmp_path / "new").write_text(listed(entry(KEY_B)))
        os.utime(tmp_path / "new", ns=(before.st_atime_ns, before.st_mtime_ns))
        assert (tmp_path / "new").stat().st_size == before.st_size
        (tmp_path / "new").replace(path)
        clock.now += 2
        assert book.refresh()
        assert book.keys == B.keys

    def test_what_was_spent_stays_spent_until_the_log_may_do_more(
        self, tmp_path: Path
    ) -> None:
        path, clock = tmp_path / "logs", Clock()
        path.write_text(listed(entry(KEY_A, 24)))
        book = LogBook([KEY_B], [path], clock=clock)
        assert [book.charge(A.origin) for _ in range(21)] == [0] * 20 + [3600]
        assert book.charge(B.origin) == 0
        for qpd, waits in ((24, True), (25, False)):
            path.write_text(listed(entry(KEY_A, qpd), "# changed\n" * qpd))
            clock.now += 2
            assert book.refresh()
            assert (book.charge(A.origin) > 0) == waits

    def test_logs_named_one_by_one_may_do_as_much_as_is_said(self) -> None:
        book = LogBook([KEY_A], qpd=1, clock=Clock())
        assert sum(book.charge(A.origin) == 0 for _ in range(25)) == 20
        assert DEFAULT_QPD == 86_400
