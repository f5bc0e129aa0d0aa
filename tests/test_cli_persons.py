"""`auditlog find --subject` and `auditlog export`, as who answers a person types."""

import json
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from auditlog.core.record import format_id
from auditlog.log.access import ACCESS
from auditlog.log.directory import open_log
from auditlog.log.reader import Reader
from auditlog.storage import Query
from tests.command import Done, called, environment
from tests.people import ADA, BOB, People


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    """Return a log's directory, and the ids of what is in it about Ada."""
    directory = tmp_path_factory.mktemp("persons") / "audit"
    people = People(directory)
    ids = [people.record(ADA, route=route) for route in ("/score", "/batch")]
    people.record(BOB)
    people.checkpoint()
    people.log.close()
    return directory, ids


def find(directory: Path, *more: object) -> Done:
    return called("find", "--dir", directory, "--recipient", "Court", *more)


def export(directory: Path, file: Path, *more: object) -> Done:
    recipient = ("--recipient", "Ada", "--purpose", "Art. 15 GDPR")
    return called("export", "--dir", directory, "-o", file, *recipient, *more)


def accesses(directory: Path) -> list[dict[str, bytes]]:
    """Return what is sealed in the entries of access, newest first."""
    with open_log(directory, read_only=True) as log:
        rows = log.store.find(Query(type=ACCESS))
        reader = Reader(log)
        return [dict(reader.content(format_id(row.id)).context) for row in rows]


def test_decisions_about_one_person_are_listed_and_that_it_was_asked_is_logged(
    made: tuple[Path, list[str]],
) -> None:
    directory, ids = made
    done = find(directory, "--subject", ADA, "--purpose", "case 7")
    assert done.status == 0, done.err
    assert [line.split("\t")[1] for line in done.out.splitlines()] == ids[::-1]
    assert "is now in the log" in done.err
    newest = accesses(directory)[0]
    assert json.loads(newest["recipient"]) == {"name": "Court", "purpose": "case 7"}
    assert set(json.loads(newest["user"])) == {"login"}


def test_filters_and_pages_work_for_one_person_too(
    made: tuple[Path, list[str]],
) -> None:
    directory, ids = made
    done = find(directory, "--subject", ADA, "--route", "/batch", "--json")
    assert [one["id"] for one in done.document()["decisions"]] == ids[1:]
    first = find(directory, "--subject", ADA, "--limit", "1", "--json").document()
    assert [one["id"] for one in first["decisions"]] == ids[1:]
    rest = find(directory, "--subject", ADA, "--cursor", first["next"], "--json")
    assert [one["id"] for one in rest.document()["decisions"]] == ids[:1]
    assert rest.document()["next"] is None
    none = find(directory, "--subject", ADA, "--route", "/none")
    assert (none.status, none.out) == (0, "")
    assert "no decision matches" in none.err


def test_a_name_read_from_stdin_stands_in_no_list_of_processes(
    made: tuple[Path, list[str]],
) -> None:
    directory, ids = made
    options = ("--dir", str(directory), "--recipient", "Court", "--subject", "-")
    done = subprocess.run(
        [sys.executable, "-m", "auditlog", "find", *options],
        input=f"{ADA}\n",
        capture_output=True,
        text=True,
        env=environment(PYTHONPATH=str(Path(__file__).parents[1])),
        check=True,
    )
    assert len(done.stdout.splitlines()) == len(ids)


@pytest.mark.parametrize("more", [(), ("--json",), ("--traceback",)])
@pytest.mark.parametrize("verb", ["find", "export"])
def test_of_whom_nothing_is_held_nothing_is_said(
    made: tuple[Path, list[str]], tmp_path: Path, verb: str, more: tuple[str, ...]
) -> None:
    directory, _ = made
    before = len(accesses(directory))
    name, file = "nobody-4711", tmp_path / "x.zip"
    done = (
        find(directory, "--subject", name, *more)
        if verb == "find"
        else export(directory, file, "--subject", name, *more)
    )
    assert done.status == 11
    assert "nothing is held on this subject" in done.err
    assert name not in done.out + done.err
    assert list(tmp_path.iterdir()) == []
    assert len(accesses(directory)) == before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (("--subject", ADA), "expected --recipient beside --subject"),
        (("--subject", "", "--recipient", "x"), "expected a subject of 1 to 1024"),
        (
            ("--subject", ADA, "--kind", "No Kind", "--recipient", "x"),
            "expected the kind of a subject as up to 64 lower-case letters",
        ),
        (("--subject", ADA, "--recipient", ""), "expected a recipient of 1 to 256"),
    ],
)
def test_what_cannot_be_asked_is_refused_without_a_name(
    made: tuple[Path, list[str]], options: tuple[str, ...], message: str
) -> None:
    done = called("find", "--dir", made[0], *options)
    assert done.status == 2
    assert message in done.err
    assert ADA not in done.err


def test_an_archive_verifies_offline_by_what_its_readme_says(
    made: tuple[Path, list[str]], tmp_path: Path
) -> None:
    directory, ids = made
    file = tmp_path / "ada.zip"
    done = export(directory, file, "--subject", ADA)
    assert done.status == 0, done.err
    assert "2 decisions" in done.err
    assert done.out == ""
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["ada.zip"]
    zipfile.ZipFile(file).extractall(tmp_path / "ada")
    command = "auditlog verify --policy policy receipts/*.receipt.json"
    assert f"\n    {command}\n" in (tmp_path / "ada" / "README.txt").read_text()
    receipts = sorted((tmp_path / "ada" / "receipts").glob("*.receipt.json"))
    assert {f"{id_}.receipt.json" for id_ in ids} <= {one.name for one in receipts}
    policy = tmp_path / "ada" / "policy"
    verified = called("verify", "--policy", policy, *receipts)
    assert verified.status == 0, verified


def test_as_json_it_says_what_is_in_it(
    made: tuple[Path, list[str]], tmp_path: Path
) -> None:
    done = export(made[0], tmp_path / "x.zip", "--subject", ADA, "--json")
    document = done.document()
    assert document["file"] == str(tmp_path / "x.zip")
    assert (document["ok"], document["decisions"]) == (True, 2)
    assert document["unreadable"] == 0


def test_an_older_archive_is_replaced_only_by_a_whole_one(
    made: tuple[Path, list[str]], tmp_path: Path
) -> None:
    file = tmp_path / "x.zip"
    file.write_bytes(b"older")
    assert export(made[0], file, "--subject", "nobody-4711").status == 11
    assert file.read_bytes() == b"older"
    assert export(made[0], file, "--subject", ADA).status == 0
    assert zipfile.is_zipfile(file)


def test_where_it_cannot_be_written_nothing_is_logged(
    made: tuple[Path, list[str]], tmp_path: Path
) -> None:
    before = len(accesses(made[0]))
    done = export(made[0], tmp_path / "none" / "x.zip", "--subject", ADA)
    assert done.status == 1
    assert "cannot write" in done.err
    assert len(accesses(made[0])) == before


def test_a_damaged_decision_shows_in_the_status(tmp_path: Path) -> None:
    people = People(tmp_path / "audit")
    people.record(ADA)
    people.checkpoint()
    with people.log.store._database.writing() as connection:
        connection.execute("UPDATE vault SET sealed = zeroblob(99) WHERE idx = 0")
    people.log.close()
    done = export(tmp_path / "audit", tmp_path / "x.zip", "--subject", ADA)
    assert done.status == 10
    assert "1 are damaged" in done.err
    assert zipfile.is_zipfile(tmp_path / "x.zip")
