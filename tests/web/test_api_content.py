"""Content over HTTP: read, disclosed, amended; and each time the log says who did."""

import base64
import json
import logging
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from auditlog.core.errors import StorageError
from auditlog.core.verify import verify_receipt
from auditlog.log.check import check_log
from auditlog.log.directory import open_log
from auditlog.log.leader import make_checkpoint
from auditlog.log.tokens import token_id
from tests.filled import ORIGIN, fill_log, record_unsigned
from tests.log.redactions import WordRedaction
from tests.web.served import UNKNOWN, Headers, Served, problem, serving

NO_BODY = {"mediaType": "none", "split": "none", "state": "omitted"}
COURT = {"name": "Court of Ghent", "purpose": "case 7"}


def of(id_: str, what: str) -> str:
    return f"/api/v1/decisions/{id_}/{what}"


def asking(**more: object) -> dict[str, object]:
    return {"recipient": COURT["name"], "purpose": COURT["purpose"], **more}


def user(headers: Headers, role: str) -> dict[str, str]:
    token = headers["Authorization"].removeprefix("Bearer ")
    return {"label": f"a {role}", "token": token_id(token)}


# --- disclosures ----------------------------------------------------------------------


def test_parts_are_opened_for_a_recipient_and_that_is_logged_sealed(
    own: Served,
) -> None:
    before = own.size()
    fields = ["response/decision", "request/age"]
    path = of(own.ids[0], "disclosures")
    response = own.post(path, asking(fields=fields), own.content)
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    named = f'attachment; filename="{own.ids[0]}.receipt.json"'
    assert response.headers["content-disposition"] == named
    policy = (own.directory / "policy").read_text()
    disclosed = dict(verify_receipt(response.content, policy).disclosed)
    assert disclosed == {"request/age": b"41", "response/decision": b'"approve"'}
    (entry,) = own.added(before)
    assert entry["type"] == "auditlog.access.v1"
    assert entry["id"] == response.headers["auditlog-access"]
    commitment = entry["data"].pop("commitment")
    assert (commitment["depth"], commitment["v"]) == (0, 1)
    assert entry["data"] == {
        "channel": "api",
        "decision": own.ids[0],
        "request": NO_BODY,
        "response": NO_BODY,
        "what": "disclosure",
    }
    assert own.opened(entry["id"]) == {
        "paths": ["request/age", "response/decision"],
        "recipient": COURT,
        "user": user(own.content, "content"),
    }
    with open_log(own.directory, read_only=True) as log:
        report = check_log(log)
    assert (report.problems, report.unchecked) == ((), ())


def test_all_opens_what_is_kept_with_the_secret(own: Served) -> None:
    path = of(own.ids[1], "disclosures")
    response = own.post(path, asking(all=True), own.privacy)
    assert response.status_code == 200, response.text
    policy = (own.directory / "policy").read_text()
    verdict = verify_receipt(response.content, policy)
    assert "full opening" in [check.name for check in verdict.checks]
    assert dict(verdict.disclosed)["request"] == b'{"age": 41, "name": "Ada"}'
    paths = own.opened(response.headers["auditlog-access"])["paths"]
    assert paths == [*dict(verdict.disclosed), "secret"]


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({"fields": ["request"]}, "expected a disclosure with the fields recipient"),
        (asking(), 'give either "fields" or "all": true'),
        (asking(fields=["request"], all=True), 'give either "fields" or "all": true'),
        (asking(all=False), 'give either "fields" or "all": true'),
        (asking(all=1), "expected bool as all of a disclosure, got int"),
        (asking(fields="request"), "expected list as fields of a disclosure, got str"),
        (asking(fields=[]), "expected 1 to 1000 fields, each a text"),
        (asking(fields=["request"] * 1001), "expected 1 to 1000 fields"),
        (asking(fields=["request", 1]), "expected 1 to 1000 fields, each a text"),
        (asking(fields=["request"], reason="x"), "expected a disclosure with the"),
        ({"fields": ["request"], "recipient": ""}, "expected a recipient of 1 to 256"),
        ({"fields": ["request"], "recipient": 5}, "expected str as recipient"),
        ({"fields": ["request"], "recipient": "a\nb"}, "in printable characters"),
        (asking(fields=["request"], purpose="p" * 1025), "a purpose of 1 to 1024"),
        ([], "expected a disclosure with the fields"),
    ],
)
def test_another_question_is_refused_and_not_logged(
    served: Served, body: object, detail: str
) -> None:
    before = served.size()
    path = of(served.ids[0], "disclosures")
    refused = problem(served.post(path, body, served.content), 400, "malformed")
    assert detail in refused["detail"]
    assert served.size() == before


@pytest.mark.parametrize(
    ("content", "detail"),
    [
        (b"", "expected JSON"),
        (b'{"recipient":"a","recipient":"b","all":true}', "twice"),
        (b'{"recipient":"a","all":true} x', "expected JSON"),
        (b'\xff{"recipient":"a","all":true}', "expected JSON in UTF-8"),
        (b'{"recipient":NaN}', "expected"),
        (b"[" * 100_000, "containers deep"),
    ],
)
def test_a_body_is_strict_json(served: Served, content: bytes, detail: str) -> None:
    headers = served.content | {"Content-Type": "application/json; charset=utf-8"}
    path = of(served.ids[0], "disclosures")
    response = served.client.post(path, content=content, headers=headers)
    assert detail in problem(response, 400, "malformed")["detail"]


def test_a_body_is_json_by_its_type_and_not_too_large(served: Served) -> None:
    path = of(served.ids[0], "disclosures")
    form = served.client.post(path, data={"all": "true"}, headers=served.content)
    assert problem(form, 415, "unsupported")["detail"] == (
        "expected a body of application/json"
    )
    large = asking(fields=["request/" + "x" * 1024] * 300)
    refused = problem(served.post(path, large, served.content), 413, "too-large")
    assert refused["detail"] == "expected a body of at most 262144 bytes"


def test_an_unknown_path_tells_nothing_of_what_was_captured(served: Served) -> None:
    before = served.size()
    body = asking(fields=["request/iban"])
    response = served.post(of(served.ids[0], "disclosures"), body, served.content)
    detail = problem(response, 404, "not-found")["detail"]
    assert detail.startswith("nothing was captured at 'request/iban'")
    assert "name" not in detail.replace("named", "")
    assert served.size() == before


def test_it_is_pending_until_it_is_included(own: Served) -> None:
    id_ = record_unsigned(own.directory)
    # Its content is not kept, so that nothing else can be wrong with it.
    response = own.post(of(id_, "disclosures"), asking(all=True), own.content)
    problem(response, 404, "not-found")
    signed = own.post(of(own.ids[0], "disclosures"), asking(all=True), own.content)
    new = signed.headers["auditlog-access"]
    again = own.post(
        of(new, "disclosures"), asking(fields=["context/paths"]), own.content
    )
    assert (again.status_code, again.json()["level"]) == (202, "accepted")
    assert again.headers["retry-after"] == "2"
    before = own.size()
    with open_log(own.directory) as log:
        make_checkpoint(log)
    again = own.post(
        of(new, "disclosures"), asking(fields=["context/paths"]), own.content
    )
    assert again.status_code == 200
    assert len(own.added(before)) == 1


def test_nothing_is_handed_out_that_cannot_be_logged(
    own: Served, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(*_: object) -> int:
        raise StorageError("the disk is full")

    monkeypatch.setattr("auditlog.storage.sqlite.SqliteStore.append", fail)
    with caplog.at_level(logging.ERROR, "auditlog.web"):
        for response in (
            own.post(of(own.ids[0], "disclosures"), asking(all=True), own.content),
            own.get(of(own.ids[0], "content"), own.content),
            own.get(of(own.ids[0], "content?part=request"), own.content),
        ):
            problem(response, 503, "unavailable")
            assert "Ada" not in response.text


def test_damaged_content_is_refused_and_said_to_be_so(
    own: Served, caplog: pytest.LogCaptureFixture
) -> None:
    with sqlite3.connect(own.directory / "log.sqlite3") as database:
        database.execute("UPDATE vault SET sealed = zeroblob(length(sealed))")
    database.close()
    before = own.size()
    with caplog.at_level(logging.ERROR, "auditlog.web"):
        for response in (
            own.post(of(own.ids[0], "disclosures"), asking(all=True), own.content),
            own.get(of(own.ids[0], "content"), own.content),
        ):
            body = problem(response, 500, "damaged")
            assert "`auditlog check` says where" in body["detail"]
    assert "what is stored does not hold" in caplog.text
    assert own.size() == before


# --- content --------------------------------------------------------------------------


def test_content_is_shown_as_the_command_line_shows_it_and_logged(own: Served) -> None:
    before = own.size()
    response = own.get(of(own.ids[0], "content"), own.content)
    assert response.status_code == 200
    assert response.headers["cache-control"] == "no-store"
    shown = response.json()["content"]
    assert shown["request"] == {"capped": False, "text": '{"age": 41, "name": "Ada"}'}
    assert shown["context"]["target"]["text"] == "/score?lang=en"
    (entry,) = own.added(before)
    assert (entry["data"]["what"], entry["data"]["decision"]) == ("content", own.ids[0])
    assert own.opened(entry["id"]) == {
        "paths": ["request", "response", "context/target"],
        "user": user(own.content, "content"),
    }


def test_one_part_is_raw_and_cannot_act_in_a_browser(own: Served) -> None:
    before = own.size()
    response = own.get(of(own.ids[0], "content?part=response"), own.content)
    assert response.content == b'{"decision":"approve","score":0.87}'
    headers = response.headers
    assert headers["content-type"] == "application/octet-stream"
    assert headers["content-disposition"] == "attachment"
    assert headers["content-security-policy"] == "default-src 'none'; sandbox"
    assert headers["x-content-type-options"] == "nosniff"
    assert (headers["cache-control"], headers["auditlog-capped"]) == (
        "no-store",
        "false",
    )
    (entry,) = own.added(before)
    assert own.opened(entry["id"])["paths"] == ["response"]
    refused = own.get(of(own.ids[0], "content?part=request/age"), own.content)
    problem(refused, 404, "not-found")
    assert own.size() == before + 1


def test_of_what_was_redacted_the_copy_is_handed_out(own: Served) -> None:
    redaction = WordRedaction(b"Ada", withhold=["response"])
    (id_,) = fill_log(own.directory, 1, redaction=redaction)
    before = own.size()
    shown = own.get(of(id_, "content"), own.content).json()["content"]
    assert shown["request"]["text"] == '{"age": 41, "name": "[redacted]"}'
    assert (shown["request"]["redacted"], shown["response"]) == (
        True,
        {"withheld": True},
    )
    (entry,) = own.added(before)
    assert own.opened(entry["id"])["paths"] == [
        *("context/redaction", "context/stored.request", "context/target")
    ]
    for side, became in (("request", "redacted"), ("response", "withheld")):
        refused = own.get(of(id_, f"content?part={side}"), own.content)
        said = problem(refused, 404, "not-found")["detail"]
        assert f"'{side}': it was {became} when it was recorded" in said
    assert own.size() == before + 1


# --- who read it ----------------------------------------------------------------------


def test_who_saw_a_decision_is_listed_newest_first(own: Served) -> None:
    id_ = own.ids[0]
    own.get(of(id_, "content"), own.privacy)
    given = own.post(of(id_, "disclosures"), asking(fields=["request"]), own.content)
    own.get(of(own.ids[1], "content"), own.content)
    before = own.size()
    listed = own.get(of(id_, "accesses"), own.content).json()
    assert listed["id"] == id_
    first, second = listed["accesses"]
    assert first.pop("time") > second.pop("time")
    assert first == {
        "id": given.headers["auditlog-access"],
        "what": "disclosure",
        "channel": "api",
        "about": id_,
        "sealed": True,
        "user": user(own.content, "content"),
        "recipient": COURT,
        "paths": ["request"],
    }
    assert (second["what"], second["user"]) == ("content", user(own.privacy, "privacy"))
    assert own.size() == before
    problem(own.get(of(id_, "accesses"), own.auditor), 403, "forbidden")


def test_readings_of_an_amendment_are_readings_of_the_decision(
    own: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    id_ = own.ids[0]
    amended = own.post(
        of(id_, "amendments"), {"kind": "appeal", "reason": "r"}, own.reviewer
    )
    own.get(of(amended.json()["id"], "content"), own.content)
    (access,) = own.get(of(id_, "accesses"), own.content).json()["accesses"]
    assert access["about"] == amended.json()["id"]
    assert access["paths"] == ["request", "response", "context/reason", "context/user"]
    own.get(of(id_, "content?part=request"), own.content)
    told = own.get(of(id_, "accesses"), own.content).json()["accesses"]
    assert [one["about"] for one in told] == [id_, amended.json()["id"]]
    # However many amendments there are, it is that many that are opened.
    monkeypatch.setattr("auditlog.log.access_list._MOST", 1)
    assert own.get(of(id_, "accesses"), own.content).json()["accesses"] == told[:1]


# --- amendments -----------------------------------------------------------------------


def test_a_reviewer_amends_and_the_token_is_kept_beside_the_name(own: Served) -> None:
    body = {"kind": "override", "by": "Kim O.", "reason": "income verified"}
    body |= {"label": "paid"}
    more: dict[str, Any] = {"score": "0.75", "attributes": {"ticket": 7}}
    response = own.post(of(own.ids[0], "amendments"), body | more, own.reviewer)
    assert response.status_code == 201, response.text
    new = response.json()["id"]
    assert response.headers["location"] == f"../{new}"
    assert response.json() == {
        "id": new,
        "decision": own.ids[0],
        "kind": "override",
        "level": "accepted",
    }
    assert own.opened(new) == {
        "annotations": {"ticket": 7},
        "outcome": {"result": {"label": "paid", "score": "0.75"}},
        "reason": {"text": "income verified"},
        "user": {"by": "Kim O.", "token": user(own.reviewer, "reviewer")},
    }
    shown = own.get(f"/api/v1/decisions/{own.ids[0]}", own.auditor).json()
    assert [one["id"] for one in shown["amendments"]] == [new]


def test_an_amendment_is_redacted_before_it_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AUDITLOG_REDACT_PATTERNS", "email")
    with serving(tmp_path / "audit") as own:
        body = {"kind": "appeal", "reason": "write to ada@example.org"}
        response = own.post(of(own.ids[0], "amendments"), body, own.reviewer)
        assert response.status_code == 201, response.text
        said = json.dumps(own.opened(response.json()["id"]))
    assert "ada@example.org" not in said
    assert "write to" in said


@pytest.mark.parametrize(
    ("body", "detail"),
    [
        ({}, "expected an amendment with the fields kind, by, reason"),
        ({"kind": "erasure"}, "expected a kind of amendment out of appeal, correction"),
        ({"kind": "appeal", "decision": UNKNOWN}, "expected an amendment with the"),
        ({"kind": "appeal", "by": 7}, "expected str as by of an amendment, got int"),
        ({"kind": "appeal", "by": ""}, "expected who amends of 1 to 1024 characters"),
        ({"kind": "appeal", "label": []}, "expected a label as text, number or bool"),
        ({"kind": "appeal", "score": "x"}, "expected a score as a decimal number"),
        ({"kind": "appeal", "score": True}, "expected a score as a decimal number"),
        ({"kind": "appeal", "score": "NaN"}, "expected a score as a finite number"),
        ({"kind": "appeal", "score": 0.5}, "expected"),
        ({"kind": "appeal", "attributes": {"auditlog.x": 1}}, "names of attributes"),
    ],
)
def test_another_amendment_is_refused(
    served: Served, body: object, detail: str
) -> None:
    before = served.size()
    path = of(served.ids[0], "amendments")
    refused = problem(served.post(path, body, served.reviewer), 400, "malformed")
    assert detail in refused["detail"]
    assert served.size() == before


@pytest.mark.parametrize("role", ["auditor", "content"])
def test_who_only_reads_amends_nothing(served: Served, role: str) -> None:
    headers = getattr(served, role)
    body = {"kind": "appeal"}
    response = served.post(of(served.ids[0], "amendments"), body, headers)
    detail = problem(response, 403, "forbidden")["detail"]
    assert detail == f"the token's role is {role}; this needs reviewer"


def test_a_reviewer_reads_no_content(served: Served) -> None:
    for path in ("content", "accesses"):
        response = served.get(of(served.ids[0], path), served.reviewer)
        problem(response, 403, "forbidden")
    body = asking(all=True)
    response = served.post(of(served.ids[0], "disclosures"), body, served.reviewer)
    problem(response, 403, "forbidden")


@pytest.mark.parametrize(
    ("what", "body"),
    [("disclosures", asking(all=True)), ("amendments", {"kind": "appeal"})],
)
def test_what_is_posted_needs_a_token_and_a_decision(
    served: Served, what: str, body: object
) -> None:
    response = served.post(of(UNKNOWN, what), body)
    problem(response, 401, "unauthorized")
    assert response.headers["www-authenticate"] == 'Bearer realm="auditlog"'
    refused = served.post(of(UNKNOWN, what), body, served.privacy)
    detail = problem(refused, 404, "not-found")["detail"]
    assert detail == f"no decision {UNKNOWN} in log {ORIGIN}"
    refused = served.post(of("x", what), body, served.privacy)
    assert "a UUIDv7" in problem(refused, 400, "malformed")["detail"]
    problem(served.get(of(UNKNOWN, what), served.privacy), 405, "refused")


def test_the_description_says_what_each_takes(served: Served) -> None:
    paths = served.get("/api/v1/openapi.json").json()["paths"]
    for what, needed in (("disclosures", "recipient"), ("amendments", "kind")):
        described = paths[f"/api/v1/decisions/{{id}}/{what}"]["post"]
        schema = described["requestBody"]["content"]["application/json"]["schema"]
        assert schema["required"] == [needed]
        assert schema["additionalProperties"] is False
        assert described["security"] == [{"token": []}]


def test_no_token_reaches_a_log(own: Served, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        own.post(of(own.ids[0], "disclosures"), asking(all=True), own.content)
        own.get(of(UNKNOWN, "content"), own.content)
        own.get(of(own.ids[0], "content"), {"Authorization": "Bearer alt_" + "Z" * 43})
    token = own.content["Authorization"].removeprefix("Bearer ")
    assert token not in caplog.text
    assert "Z" * 43 not in caplog.text
    stored = (own.directory / "log.sqlite3").read_bytes()
    assert token.encode() not in stored
    assert json.dumps(base64.b64encode(token.encode()).decode()).encode() not in stored
