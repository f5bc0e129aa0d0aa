"""The privacy officer over HTTP: a person is forgotten, or gets all that is held."""

import io
import json
import logging
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from auditlog.core.errors import StorageError, UntrustedError
from auditlog.core.note import COSIGNATURE_ED25519, make_signer
from auditlog.core.receipt import format_receipt, parse_receipt
from auditlog.core.record import canonical_json
from auditlog.core.verify import verify_receipt
from auditlog.log.directory import open_log
from auditlog.log.leader import make_checkpoint
from auditlog.log.reader import Reader
from auditlog.web.api import create_app
from tests.harness import read_log
from tests.people import ADA, BOB, People
from tests.web.served import (
    Headers,
    Served,
    client_of,
    headers_of,
    problem,
)

NOBODY = "eve@example.org"


class Persons(NamedTuple):
    """A served log with two decisions about Ada and one about Bob."""

    served: Served
    ada: list[str]
    bob: str

    @property
    def policy(self) -> str:
        return (self.served.directory / "policy").read_text()


@contextmanager
def _serving(directory: Path) -> Iterator[Persons]:
    people = People(directory)
    ada, bob = [people.record(ADA), people.record(ADA)], people.record(BOB)
    people.checkpoint()
    roles = ("auditor", "content", "reviewer", "privacy")
    tokens = [headers_of(people.log, role) for role in roles]
    people.log.close()
    with client_of(create_app(directory)) as client:
        yield Persons(Served(client, directory, [*ada, bob], *tokens), ada, bob)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Persons]:
    with _serving(tmp_path / "audit") as it:
        yield it


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Persons]:
    """A log that is asked in vain."""
    with _serving(tmp_path_factory.mktemp("persons") / "audit") as it:
        yield it


def erase(own: Persons, subject: str = ADA, **more: object) -> dict[str, Any]:
    body = {"subject": subject, **more}
    response = own.served.post("/api/v1/erasures", body, own.served.privacy)
    assert response.status_code == 200, response.text
    assert response.headers["cache-control"] == "no-store"
    told: dict[str, Any] = response.json()
    return told


# --- erasures -------------------------------------------------------------------------


def test_without_more_it_only_says_what_would_happen(own: Persons) -> None:
    served, before = own.served, own.served.size()
    given = served.post(
        f"/api/v1/decisions/{own.ada[0]}/disclosures",
        {"fields": ["request/age"], "recipient": "A Bank", "purpose": "loan"},
        served.content,
    )
    assert given.status_code == 200
    told = erase(own)
    assert told["dryRun"] is True
    assert (told["decisions"], told["accesses"], told["amendments"]) == (2, 1, 0)
    (bank,) = told["given"]
    assert (bank["recipient"], bank["purpose"]) == ("A Bank", "loan")
    assert bank["decision"] == own.ada[0]
    _, search = served.added(before)
    assert search["data"]["what"] == "search"
    assert "decision" not in search["data"]
    assert ADA not in json.dumps(search)
    assert served.opened(search["id"])["user"]["label"] == "a privacy"
    assert erase(own, dryRun=True)["accesses"] == 2
    assert served.get("/api/v1/erasures", served.privacy).json() == {"erasures": []}


def test_a_person_is_erased_and_the_receipt_is_theirs(own: Persons) -> None:
    served = own.served
    receipts = [
        served.get(f"/api/v1/decisions/{id_}/receipt", served.auditor).content
        for id_ in (*own.ada, own.bob)
    ]
    told = erase(own, dryRun=False, reason="asked by letter")
    assert told["records"] == 2
    assert told["state"] in {"shredded", "final"}
    verdict = verify_receipt(told["receipt"].encode(), own.policy)
    assert verdict.entry_type == "auditlog.erasure.v1"
    subject = json.loads(dict(verdict.disclosed)["context/subject"])
    assert subject == {"id": ADA, "kind": "person"}
    for receipt in receipts:
        verify_receipt(receipt, own.policy)
    for id_ in own.ada:
        response = served.get(f"/api/v1/decisions/{id_}/content", served.privacy)
        problem(response, 404, "not-found")
    bob = served.get(f"/api/v1/decisions/{own.bob}/content", served.privacy)
    assert bob.status_code == 200
    (row,) = served.get("/api/v1/erasures", served.privacy).json()["erasures"]
    assert row["id"] == told["id"]
    assert served.opened(told["id"])["user"]["label"] == "a privacy"
    again = served.post("/api/v1/erasures", {"subject": ADA}, served.privacy)
    detail = problem(again, 404, "not-found")["detail"]
    assert detail == "nothing is held on this subject"
    for entry in read_log(served.directory).entries:
        assert ADA.encode() not in entry


def test_what_makes_the_receipt_theirs_is_not_lost_where_nothing_can_be_signed(
    own: Persons, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: object) -> bytes:
        raise StorageError("whoever leads does not answer")

    monkeypatch.setattr("auditlog.web.api_persons.make_checkpoint", fail)
    with caplog.at_level(logging.ERROR, "auditlog.web"):
        told = erase(own, dryRun=False)
    assert told["receipt"] is None
    assert "no receipt of an erasure yet" in caplog.text
    assert ADA not in caplog.text
    monkeypatch.undo()
    with open_log(own.served.directory) as log:
        make_checkpoint(log)
        plain = json.loads(Reader(log).receipt(told["id"]))
    made = json.dumps({**plain, **told["opening"]}).encode()
    loose = format_receipt(parse_receipt(_spelled(made)))
    verdict = verify_receipt(loose, own.policy)
    assert json.loads(dict(verdict.disclosed)["context/subject"])["id"] == ADA


def test_nor_is_it_where_the_policy_asks_for_witnesses_that_have_not_signed(
    own: Persons,
) -> None:
    policy = own.served.directory / "policy"
    alone = policy.read_text()
    witness = make_signer("w.example", COSIGNATURE_ED25519, bytes(32)).verifier
    asked = f"witness w {witness.vkey}\nquorum w"
    policy.write_text(alone.replace("quorum none", asked))
    told = erase(own, dryRun=False)
    with pytest.raises(UntrustedError):
        verify_receipt(told["receipt"].encode(), policy.read_text())
    verdict = verify_receipt(told["receipt"].encode(), alone)
    assert json.loads(dict(verdict.disclosed)["context/subject"])["id"] == ADA
    receipt = json.loads(told["receipt"])
    assert told["opening"] == {
        name: receipt[name] for name in ("commitment", "disclosures")
    }


def _spelled(data: bytes) -> bytes:
    return canonical_json(json.loads(data)) + b"\n"


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({}, "expected an erasure with the fields subject, kind, dryRun, reason"),
        ({"subject": ""}, "expected a subject of 1 to 1024 characters, got 0"),
        ({"subject": 7}, "expected str as subject of an erasure, got int"),
        ({"subject": ADA, "kind": "Person"}, "expected the kind of a subject"),
        ({"subject": ADA, "dryRun": 0}, "expected bool as dryRun"),
        ({"subject": ADA, "dryRun": "false"}, "expected bool as dryRun"),
        ({"subject": ADA, "dryrun": False}, "expected an erasure with the fields"),
        ({"subject": ADA, "reason": ""}, "expected a reason of 1 to 1024 characters"),
        ({"subject": "\ud800"}, "expected"),
    ],
)
def test_another_erasure_is_refused(
    shared: Persons, body: dict[str, object], detail: str
) -> None:
    served, before = shared.served, shared.served.size()
    response = served.client.post(
        "/api/v1/erasures",
        content=json.dumps(body).encode(),
        headers=served.privacy | {"Content-Type": "application/json"},
    )
    assert detail in problem(response, 400, "malformed")["detail"]
    assert served.size() == before


# --- exports --------------------------------------------------------------------------


def test_all_that_is_held_comes_as_an_archive(own: Persons) -> None:
    served, before = own.served, own.served.size()
    body = {"subject": ADA, "recipient": "Ada", "purpose": "Art. 15"}
    response = served.post("/api/v1/exports", body, served.privacy)
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/zip"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-content-type-options"] == "nosniff"
    named = 'attachment; filename="export.zip"'
    assert response.headers["content-disposition"] == named
    archive = zipfile.ZipFile(io.BytesIO(response.content))
    assert archive.testzip() is None
    index = json.loads(archive.read("index.json"))
    assert {one["id"] for one in index["decisions"]} == set(own.ada)
    for name in archive.namelist():
        if name.startswith("receipts/"):
            verify_receipt(archive.read(name), own.policy)
    (entry,) = served.added(before)
    assert entry["data"]["what"] == "export"
    sealed = served.opened(entry["id"])
    assert sealed["recipient"] == {"name": "Ada", "purpose": "Art. 15"}
    assert sealed["user"]["label"] == "a privacy"


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"subject": ADA}, "expected an export with the fields subject, recipient"),
        ({"recipient": "r"}, "expected an export with the fields subject, recipient"),
        ({"subject": ADA, "recipient": ""}, "expected a recipient of 1 to 256"),
        ({"subject": ADA, "recipient": "r", "kind": ""}, "the kind of a subject"),
        ({"subject": ADA, "recipient": "r", "purpose": "\n"}, "printable"),
    ],
)
def test_another_export_is_refused(
    shared: Persons, body: dict[str, object], detail: str
) -> None:
    served, before = shared.served, shared.served.size()
    response = served.post("/api/v1/exports", body, served.privacy)
    assert detail in problem(response, 400, "malformed")["detail"]
    assert served.size() == before


def test_too_many_archives_at_once_have_to_wait(
    own: Persons, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Semaphore(0), threading.Event()

    def slow(*_: object, **__: object) -> None:
        begun.release()
        assert go_on.wait(20)

    monkeypatch.setattr("auditlog.web.api_persons.export_person", slow)
    body = {"subject": ADA, "recipient": "r"}
    ask = ("/api/v1/exports", body, own.served.privacy)
    waiting = [threading.Thread(target=own.served.post, args=ask) for _ in range(2)]
    for one in waiting:
        one.start()
    for _ in waiting:
        assert begun.acquire(timeout=20)
    response = own.served.post(*ask)
    detail = problem(response, 503, "busy")["detail"]
    assert detail.startswith("2 exports are under way")
    assert response.headers["retry-after"] == "2"
    go_on.set()
    for one in waiting:
        one.join()
    assert own.served.post(*ask).status_code == 200


# --- who may, and what is not told ----------------------------------------------------

ASKED: list[tuple[str, str, object]] = [
    ("GET", "/api/v1/erasures", None),
    ("POST", "/api/v1/erasures", {"subject": ADA, "dryRun": False}),
    ("POST", "/api/v1/exports", {"subject": ADA, "recipient": "r"}),
]


@pytest.mark.parametrize(("method", "path", "body"), ASKED)
def test_only_the_privacy_officer_and_without_a_scope(
    shared: Persons, method: str, path: str, body: object
) -> None:
    served, before = shared.served, shared.served.size()

    def ask(headers: Headers | None) -> Any:
        return served.client.request(method, path, headers=headers, json=body)

    problem(ask(None), 401, "unauthorized")
    for role in ("auditor", "reviewer", "content"):
        detail = problem(ask(getattr(served, role)), 403, "forbidden")["detail"]
        assert detail == f"the token's role is {role}; this needs privacy"
    for scope in ({"routes": ["*"]}, {"since": "1970-01-01"}):
        response = ask(served.narrowed("privacy", **scope))
        detail = problem(response, 403, "forbidden")["detail"]
        assert "this needs one without a scope" in detail
    assert served.size() == before


@pytest.mark.parametrize(("method", "path", "body"), ASKED[1:])
def test_of_whom_nothing_is_held_nothing_is_said(
    shared: Persons,
    method: str,
    path: str,
    body: dict[str, object],
    caplog: pytest.LogCaptureFixture,
) -> None:
    served, before = shared.served, shared.served.size()
    with caplog.at_level(logging.DEBUG):
        for more in ({"subject": NOBODY}, {"kind": "customer"}):
            asked = {**body, **more}
            response = served.client.request(
                method, path, headers=served.privacy, json=asked
            )
            detail = problem(response, 404, "not-found")["detail"]
            assert detail == "nothing is held on this subject"
    assert NOBODY not in caplog.text
    assert served.size() == before
    stored = (served.directory / "log.sqlite3").read_bytes()
    assert NOBODY.encode() not in stored


def test_no_person_can_be_named_in_an_address(shared: Persons) -> None:
    served = shared.served
    for path in ("/api/v1/erasures", "/api/v1/exports", "/api/v1/decisions"):
        for method in ("GET", "POST"):
            url = f"{path}?subject={ADA}"
            body = {"subject": ADA, "recipient": "r"}
            response = served.client.request(
                method, url, headers=served.privacy, json=body
            )
            assert response.status_code in {400, 405}
    described = served.get("/api/v1/openapi.json").json()["paths"]
    for path in ("/api/v1/erasures", "/api/v1/exports"):
        assert "parameters" not in described[path]["post"]
        body = described[path]["post"]["requestBody"]["content"]["application/json"]
        assert "subject" in body["schema"]["required"]
