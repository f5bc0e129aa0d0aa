"""The reading interface: who may see what, in which form, and how refusals look."""

import base64
import json
import logging
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from fastapi import FastAPI

import auditlog
from auditlog.core.checkpoint import parse_checkpoint
from auditlog.core.errors import NotFoundError, StorageError
from auditlog.core.merkle import leaf_hash, verify_consistency, verify_inclusion
from auditlog.core.note import (
    COSIGNATURE_ED25519,
    make_signer,
    open_note,
    parse_vkey,
)
from auditlog.core.proof import parse_tlog_proof
from auditlog.core.tiles import parse_bundle
from auditlog.core.verify import verify_receipt
from auditlog.log.directory import open_log
from auditlog.log.leader import make_checkpoint
from auditlog.log.runtime import stop_all
from auditlog.log.tokens import revoke_token
from auditlog.storage import Cosignature
from auditlog.web.api import create_app, router
from auditlog.web.middleware import AuditMiddleware
from tests.filled import ORIGIN, fill_log, record_unsigned
from tests.harness import check_whole_log, read_log
from tests.web.served import (
    NOW,
    UNKNOWN,
    Served,
    client_of,
    headers_of,
    problem,
)

if TYPE_CHECKING:
    from httpx import Response


# --- what everybody may read ----------------------------------------------------------


def test_checkpoint_is_the_signed_note_cached_for_seconds(served: Served) -> None:
    response = served.get("/checkpoint")
    assert response.status_code == 200
    assert response.headers["content-type"] == "text/plain; charset=utf-8"
    assert response.headers["cache-control"] == "public, max-age=2"
    assert response.headers["x-content-type-options"] == "nosniff"
    vkeys = (served.directory / "vkeys").read_text().split()
    opened = open_note(response.content, [parse_vkey(vkey) for vkey in vkeys])
    assert parse_checkpoint(opened.text).origin == ORIGIN
    assert len(opened.signatures) == 2


def test_a_checkpoint_without_a_quorum_is_marked(served: Served) -> None:
    for path in ("/checkpoint", "/api/v1/proofs/inclusion?index=0"):
        assert served.get(path).headers["auditlog-checkpoint"] == "unwitnessed"


def test_with_a_quorum_only_what_it_cosigned_is_public(own: Served) -> None:
    with open_log(own.directory) as log:
        vkeys, newest = log.vkeys, log.store.newest()
    assert newest is not None
    witness = make_signer("w.example", COSIGNATURE_ED25519, b"w" * 32)
    lines = [f"log {vkey}" for vkey in vkeys]
    lines += [f"witness w {witness.verifier.vkey}", "quorum w\n"]
    (own.directory / "policy").write_text("\n".join(lines))
    refused = own.get("/checkpoint")
    body = problem(refused, 404, "pending")
    assert "meets the quorum 'w' of its policy yet" in body["detail"]
    assert refused.headers["retry-after"] == "2"
    # Proofs and tiles are those of the newest that was signed, and say so.
    proof = own.get("/api/v1/proofs/inclusion?index=0")
    assert proof.headers["auditlog-checkpoint"] == "unwitnessed"
    assert own.get(f"/tile/0/000.p/{newest[0]}").status_code == 200
    text = newest[1].partition(b"\n\n")[0] + b"\n"
    line = witness.sign(text, NOW)
    with open_log(own.directory) as log:
        log.store.add_cosignatures(
            [Cosignature(newest[0], witness.verifier.key, NOW, line)]
        )
    shown = own.get("/checkpoint")
    assert (shown.status_code, shown.content) == (200, newest[1] + line)
    for path in ("/checkpoint", "/api/v1/proofs/inclusion?index=0"):
        assert own.get(path).headers["auditlog-checkpoint"] == "witnessed"


def test_hash_tiles_are_public_and_immutable(served: Served) -> None:
    log = read_log(served.directory)
    size = log.checkpoints[-1][0]
    response = served.get(f"/tile/0/000.p/{size}")
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/octet-stream"
    assert response.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert response.content == b"".join(leaf_hash(one) for one in log.entries[:size])


def test_bundles_of_entries_need_a_token(served: Served) -> None:
    log = read_log(served.directory)
    size = log.checkpoints[-1][0]
    path = f"/tile/entries/000.p/{size}"
    problem(served.get(path), 401, "unauthorized")
    response = served.get(path, served.auditor)
    assert response.status_code == 200
    assert response.headers["cache-control"].startswith("private")
    assert response.headers["vary"] == "Authorization"
    assert parse_bundle(response.content) == log.entries[:size]


def test_inclusion_proof_by_index_and_by_leaf(served: Served) -> None:
    log = read_log(served.directory)
    leaf = leaf_hash(log.entries[2])
    by_index = served.get("/api/v1/proofs/inclusion?index=2")
    assert by_index.status_code == 200
    body = by_index.json()
    checkpoint = parse_checkpoint(body["checkpoint"].encode().split(b"\n\n")[0] + b"\n")
    hashes = [base64.b64decode(one) for one in body["hashes"]]
    verify_inclusion(2, checkpoint.size, leaf, hashes, checkpoint.root)
    assert parse_tlog_proof(body["proof"].encode()).index == 2
    by_leaf = served.get(f"/api/v1/proofs/inclusion?leaf={leaf.hex()}")
    assert by_leaf.json() == body
    of_size = f"/api/v1/proofs/inclusion?index=2&size={checkpoint.size}"
    assert served.get(of_size).json() == body


def test_consistency_proof(own: Served) -> None:
    fill_log(own.directory, 3)
    (old, old_note), (new, new_note) = [
        read_log(own.directory).checkpoints[position] for position in (0, -1)
    ]
    response = own.get(f"/api/v1/proofs/consistency?from={old}&to={new}")
    assert response.status_code == 200
    body = response.json()
    assert (body["from"], body["to"]) == (old, new)
    roots = [
        parse_checkpoint(note.split(b"\n\n")[0] + b"\n").root
        for note in (old_note, new_note)
    ]
    hashes = [base64.b64decode(one) for one in body["hashes"]]
    verify_consistency(old, roots[0], new, roots[1], hashes)


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("inclusion", "give either index or leaf"),
        ("inclusion?index=1&leaf=" + "0" * 64, "give either index or leaf"),
        ("inclusion?index=-1", "expected a whole number"),
        ("inclusion?index=01", "expected a whole number"),
        ("inclusion?index=%D9%A1", "expected a whole number"),
        ("inclusion?index=9223372036854775808", "expected a whole number"),
        ("inclusion?leaf=" + "A" * 64, "64 lower-case hex digits"),
        ("inclusion?index=1&size=0", "expected a whole number from 1"),
        ("inclusion?index=1&index=2", "given twice"),
        ("inclusion?index=1&hash=2", "takes index, leaf, size"),
        ("consistency?from=1", "give two tree sizes"),
        ("consistency?from=2&to=1", "from is the older size"),
        ("consistency?from=0&to=1", "expected a whole number from 1"),
    ],
)
def test_malformed_questions_for_proofs(
    served: Served, query: str, detail: str
) -> None:
    body = problem(served.get(f"/api/v1/proofs/{query}"), 400, "malformed")
    assert detail in body["detail"]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/api/v1/proofs/inclusion?index=99999", "pending"),
        ("/api/v1/proofs/inclusion?leaf=" + "0" * 64, "not-found"),
        ("/api/v1/proofs/inclusion?index=0&size=3", "not-found"),
        ("/api/v1/proofs/consistency?from=1&to=99999", "not-found"),
        ("/tile/0/001", "not-found"),
        ("/tile/0/000.p/3", "not-found"),
        ("/nowhere", "not-found"),
    ],
)
def test_what_is_not_there(served: Served, path: str, kind: str) -> None:
    response = served.get(path)
    problem(response, 404, kind)
    assert ("retry-after" in response.headers) == (kind == "pending")


@pytest.mark.parametrize(
    "path", ["/tile/0/0", "/tile/64/000", "/tile/0/000.p/256", "/tile/0/../../log.key"]
)
def test_tile_paths_have_one_spelling(served: Served, path: str) -> None:
    response = served.get(path)
    assert response.status_code in {400, 404}
    assert response.headers["content-type"] == "application/problem+json"


def test_an_unknown_parameter_is_refused_where_none_is_taken(served: Served) -> None:
    body = problem(served.get("/checkpoint?x=1"), 400, "malformed")
    assert body["detail"].endswith("'x'; this resource takes no parameter")


def test_other_methods_are_refused(served: Served) -> None:
    response = served.client.post("/checkpoint")
    problem(response, 405, "refused")
    assert response.headers["allow"] == "GET"


# --- tokens ---------------------------------------------------------------------------

PRIVATE = [
    "/api/v1/decisions",
    f"/api/v1/decisions/{UNKNOWN}",
    f"/api/v1/decisions/{UNKNOWN}/receipt",
    f"/api/v1/decisions/{UNKNOWN}/accesses",
    f"/api/v1/decisions/{UNKNOWN}/content",
    "/api/v1/erasures",
    "/tile/entries/000",
]


@pytest.mark.parametrize("path", PRIVATE)
def test_without_a_token_nothing_private(served: Served, path: str) -> None:
    response = served.get(path)
    problem(response, 401, "unauthorized")
    assert response.headers["www-authenticate"] == 'Bearer realm="auditlog"'


@pytest.mark.parametrize("path", PRIVATE)
@pytest.mark.parametrize("token", ["x", "alt_" + "A" * 43, "alt_" + "A" * 44, "é"])
def test_an_unknown_token_is_said_to_be_invalid(
    served: Served, path: str, token: str
) -> None:
    headers = [(b"Authorization", f"Bearer {token}".encode())]
    response = served.client.get(path, headers=headers)
    problem(response, 401, "unauthorized")
    assert 'error="invalid_token"' in response.headers["www-authenticate"]


def test_another_scheme_is_no_token(served: Served) -> None:
    response = served.get("/api/v1/decisions", {"Authorization": "Basic YTpi"})
    problem(response, 401, "unauthorized")


def test_a_revoked_token_is_refused_at_once(own: Served) -> None:
    assert own.get("/api/v1/decisions", own.auditor).status_code == 200
    with open_log(own.directory) as log:
        revoke_token(log.store, own.auditor["Authorization"].removeprefix("Bearer "))
    problem(own.get("/api/v1/decisions", own.auditor), 401, "unauthorized")


def test_an_auditor_gets_no_content(served: Served) -> None:
    path = f"/api/v1/decisions/{served.ids[0]}/content"
    response = served.get(path, served.auditor)
    body = problem(response, 403, "forbidden")
    assert body["detail"] == "the token's role is auditor; this needs content"
    assert 'error="insufficient_scope"' in response.headers["www-authenticate"]
    assert 'scope="content"' in response.headers["www-authenticate"]


# --- decisions ------------------------------------------------------------------------


def found(served: Served, query: str = "") -> list[str]:
    response = served.get(f"/api/v1/decisions{query}", served.auditor)
    assert response.status_code == 200, response.text
    return [one["id"] for one in response.json()["decisions"]]


def test_decisions_are_listed_newest_first(served: Served) -> None:
    response = served.get("/api/v1/decisions", served.auditor)
    assert response.headers["cache-control"] == "no-store"
    body = response.json()
    assert body["next"] is None
    assert [one["id"] for one in body["decisions"]] == served.ids[::-1]
    oldest = body["decisions"][-1]
    assert oldest == {
        "id": served.ids[0],
        "index": oldest["index"],
        "time": oldest["time"],
        "route": "/score",
        "model": "credit",
        "version": "3",
        "outcome": "error",
    }


def test_decisions_are_filtered(served: Served) -> None:
    ids = served.ids
    assert found(served, "?version=4") == [ids[5], ids[3], ids[1]]
    assert found(served, "?model=credit&route=/batch") == [ids[5], ids[2]]
    assert found(served, "?outcome=error") == [ids[0]]
    assert found(served, "?model=other") == []
    assert found(served, "?from=2020-01-01&to=2020-01-02T00:00:00Z") == []
    assert found(served, "?from=2020-01-01&limit=500") == ids[::-1]
    assert found(served, "?to=2020-01-01") == []


def test_pages_do_not_move_while_decisions_come_in(own: Served) -> None:
    first = own.get("/api/v1/decisions?limit=2", own.auditor).json()
    fill_log(own.directory, 3)
    seen = [one["id"] for one in first["decisions"]]
    cursor = first["next"]
    while cursor is not None:
        path = f"/api/v1/decisions?limit=2&cursor={cursor}"
        page = own.get(path, own.auditor).json()
        seen += [one["id"] for one in page["decisions"]]
        cursor = page["next"]
    assert seen == own.ids[::-1]


@pytest.mark.parametrize(
    ("query", "detail"),
    [
        ("?limit=0", "expected a whole number from 1 to 500, got '0'"),
        ("?limit=501", "from 1 to 500"),
        ("?limit=", "expected a whole number"),
        ("?cursor=x", "expected a whole number"),
        ("?from=yesterday", "expected a date or time"),
        ("?to=1960-01-01", "since 1970"),
        ("?from=2026-02-30", "expected a date or time"),
        ("?subject=1", "unknown query parameter 'subject'; this resource takes cursor"),
        ("?model=a&model=b", "'model' is given twice"),
        ("?disclose=request", "unknown query parameter 'disclose'"),
    ],
)
def test_malformed_questions_for_decisions(
    served: Served, query: str, detail: str
) -> None:
    response = served.get(f"/api/v1/decisions{query}", served.auditor)
    assert detail in problem(response, 400, "malformed")["detail"]


def test_a_decision_and_its_exact_entry(served: Served) -> None:
    response = served.get(f"/api/v1/decisions/{served.ids[1]}", served.auditor)
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    body = response.json()
    entry = read_log(served.directory).entries[body["index"]]
    assert body["entry"].encode() == entry
    assert body["leaf"] == leaf_hash(entry).hex()
    assert body["data"] == json.loads(entry)["data"]
    assert (body["level"], body["version"]) == ("included", "4")


@pytest.mark.parametrize("path", ["", "/receipt", "/accesses", "/content"])
def test_an_unknown_decision(served: Served, path: str) -> None:
    response = served.get(f"/api/v1/decisions/{UNKNOWN}{path}", served.content)
    body = problem(response, 404, "not-found")
    assert body["detail"] == f"no decision {UNKNOWN} in log {ORIGIN}"


@pytest.mark.parametrize("id_", ["x", UNKNOWN.upper(), "0" * 32, UNKNOWN[:-1] + "%0A"])
@pytest.mark.parametrize("path", ["", "/receipt"])
def test_a_malformed_id(served: Served, id_: str, path: str) -> None:
    response = served.get(f"/api/v1/decisions/{id_}{path}", served.auditor)
    assert "a UUIDv7" in problem(response, 400, "malformed")["detail"]


# --- receipts -------------------------------------------------------------------------


def test_a_receipt_discloses_nothing(served: Served) -> None:
    id_ = served.ids[0]
    response = served.get(f"/api/v1/decisions/{id_}/receipt", served.auditor)
    assert response.status_code == 200
    assert response.headers["content-type"] == "application/json"
    named = f'attachment; filename="{id_}.receipt.json"'
    assert response.headers["content-disposition"] == named
    assert response.headers["cache-control"] == "no-store"
    policy = (served.directory / "policy").read_text()
    assert verify_receipt(response.content, policy).disclosed == ()
    assert b"disclosures" not in response.content
    assert b'"salt"' not in response.content


def test_a_receipt_is_pending_until_it_is_included(own: Served) -> None:
    id_ = record_unsigned(own.directory)
    path = f"/api/v1/decisions/{id_}/receipt"
    pending = own.get(path, own.auditor)
    assert pending.status_code == 202
    assert pending.headers["retry-after"] == "2"
    assert pending.headers["cache-control"] == "no-store"
    assert (pending.json()["id"], pending.json()["level"]) == (id_, "accepted")
    with open_log(own.directory) as log:
        make_checkpoint(log)
    ready = own.get(path, own.auditor)
    assert ready.status_code == 200
    verify_receipt(ready.content, (own.directory / "policy").read_text())


# --- life -----------------------------------------------------------------------------


def test_health(served: Served) -> None:
    assert served.get("/livez").json() == {"ok": True}
    assert served.get("/readyz").json() == {"ok": True}


def test_without_a_log_it_lives_and_is_not_ready(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with client_of(create_app(tmp_path / "none")) as client:
        assert client.get("/livez").status_code == 200
        for path in ("/readyz", "/checkpoint", "/api/v1/decisions/x"):
            headers = {"Authorization": "Bearer x"}
            with caplog.at_level(logging.ERROR, "auditlog.web"):
                response = client.get(path, headers=headers)
            body = problem(response, 503, "unavailable")
            assert str(tmp_path) not in response.text
            assert "its operator finds the reason" in body["detail"]
    assert f"no log in {tmp_path / 'none'}" in caplog.text
    assert not (tmp_path / "none").exists()


def test_no_checkpoint_yet(tmp_path: Path) -> None:
    fill_log(tmp_path / "audit", 0)
    with sqlite3.connect(tmp_path / "audit" / "log.sqlite3") as database:
        database.execute("DELETE FROM checkpoints")
    database.close()
    with client_of(create_app(tmp_path / "audit")) as client:
        response = client.get("/checkpoint")
    body = problem(response, 404, "pending")
    assert body["detail"] == f"log {ORIGIN} has no checkpoint yet"
    assert response.headers["retry-after"] == "2"


def test_a_fault_of_ours_tells_the_caller_nothing(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr("auditlog.log.publication.PublicView.checkpoint", fail)
    with caplog.at_level(logging.ERROR, "auditlog.web"):
        response = served.get("/checkpoint")
    problem(response, 500, "internal")
    assert "secret" not in response.text
    assert "secret detail" in caplog.text


def test_a_store_that_fails_is_unavailable_and_names_no_path(
    served: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> None:
        raise StorageError("the database /srv/audit/log.sqlite3: disk full")

    monkeypatch.setattr("auditlog.log.reader.Reader.find", fail)
    with caplog.at_level(logging.ERROR, "auditlog.web"):
        response = served.get("/api/v1/decisions", served.auditor)
    problem(response, 503, "unavailable")
    assert "/srv" not in response.text
    assert "/srv/audit/log.sqlite3: disk full" in caplog.text


def test_routes_in_an_existing_app(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDITLOG_DIR", str(served.directory))
    app = FastAPI()
    app.include_router(router(), prefix="/audit")
    with client_of(app) as client:
        expected = served.get("/checkpoint").content
        assert client.get("/audit/checkpoint").content == expected
        problem(client.get("/audit/api/v1/decisions"), 401, "unauthorized")
        problem(client.get("/audit/checkpoint?x=1"), 400, "malformed")
        assert client.get("/livez").status_code == 404
        assert client.get("/livez").headers["content-type"] == "application/json"


def test_making_the_routes_opens_nothing(tmp_path: Path) -> None:
    router(tmp_path / "audit")
    create_app(tmp_path / "audit")
    assert list(tmp_path.iterdir()) == []


def test_a_second_search_by_leaf_is_told_to_come_again(
    served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/api/v1/proofs/inclusion?leaf={'0' * 64}"
    inner: list[Response] = []

    def search(*_: object) -> int:
        inner.append(served.get(path))
        raise NotFoundError("nothing")

    monkeypatch.setattr("auditlog.web.api_public.find_leaf", search)
    problem(served.get(path), 404, "not-found")
    body = problem(inner[0], 503, "busy")
    assert inner[0].headers["retry-after"] == "2"
    assert "another search by leaf is under way" in body["detail"]


def test_many_readers_at_once_open_the_log_once(served: Served) -> None:
    with client_of(create_app(served.directory)) as client:
        paths = ["/checkpoint", "/api/v1/decisions"] * 8
        with ThreadPoolExecutor(8) as pool:
            responses = list(
                pool.map(lambda path: client.get(path, headers=served.auditor), paths)
            )
    assert {response.status_code for response in responses} == {200}


def test_the_description_names_every_resource(served: Served) -> None:
    document = served.get("/api/v1/openapi.json").json()
    assert set(document["paths"]) == {
        "/checkpoint",
        "/tile/{path}",
        "/api/v1/decisions",
        "/api/v1/decisions/{id}",
        "/api/v1/decisions/{id}/accesses",
        "/api/v1/decisions/{id}/amendments",
        "/api/v1/decisions/{id}/content",
        "/api/v1/decisions/{id}/disclosures",
        "/api/v1/decisions/{id}/receipt",
        "/api/v1/erasures",
        "/api/v1/exports",
        "/api/v1/proofs/inclusion",
        "/api/v1/proofs/consistency",
        "/livez",
        "/metrics",
        "/readyz",
    }
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"


def test_one_app_that_decides_and_answers_for_it(tmp_path: Path) -> None:
    directory = tmp_path / "audit"
    app = FastAPI()
    app.include_router(router(directory))

    @app.post("/score")
    def score(body: dict[str, int]) -> dict[str, bool]:
        return {"approved": body["age"] > 17}

    options: dict[str, Any] = {"dir": directory, "origin": ORIGIN}
    options |= {"methods": ("GET", "POST"), "checkpoint_interval": 0.05}
    with client_of(AuditMiddleware(app, **options)) as client:
        answer = client.post("/score", json={"age": 41})
        id_ = answer.headers["decision-id"]
        with open_log(directory) as log:
            headers = headers_of(log, "content")
        path = f"/api/v1/decisions/{id_}/disclosures"
        asked = {"fields": ["response/approved"], "recipient": "a court"}
        deadline = time.monotonic() + 20
        while True:
            receipt = client.post(path, headers=headers, json=asked)
            if receipt.status_code == 200:
                break
            assert receipt.status_code == 202, receipt.text
            assert receipt.json()["level"] in {"opened", "accepted"}
            assert time.monotonic() < deadline
            time.sleep(0.02)
        listed = client.get("/api/v1/decisions", headers=headers).json()
    # Our own routes are never captured.
    assert [one["id"] for one in listed["decisions"]] == [id_]
    verdict = verify_receipt(receipt.content, (directory / "policy").read_text())
    assert dict(verdict.disclosed) == {"response/approved": b"true"}
    check_whole_log(directory)


# --- amendments -----------------------------------------------------------------------


def test_amendments_are_shown_and_opened_part_by_part(own: Served) -> None:
    new = auditlog.amend(
        own.ids[0], "override", by="Kim O.", label="paid", dir=own.directory
    )
    stop_all()
    shown = own.get(f"/api/v1/decisions/{own.ids[0]}", own.auditor).json()
    (amendment,) = shown["amendments"]
    assert (amendment["id"], amendment["kind"]) == (new, "override")
    assert amendment["sealed"]
    assert "Kim O." not in json.dumps(shown)
    itself = own.get(f"/api/v1/decisions/{new}", own.auditor).json()
    assert itself["data"]["decision"] == own.ids[0]
    path = f"/api/v1/decisions/{new}/disclosures"
    asked = {"fields": ["context/outcome"], "recipient": "a court"}
    problem(own.post(path, asked, own.auditor), 403, "forbidden")
    receipt = own.post(path, asked, own.content).content
    policy = (own.directory / "policy").read_text("utf-8")
    disclosed = verify_receipt(receipt, policy).disclosed
    assert disclosed == (("context/outcome", b'{"result":{"label":"paid"}}'),)
    assert b"Kim O." not in receipt
