"""Tokens that see some decisions only, on every route of the interface, and end."""

import json
import sqlite3
from typing import Any

import pytest
from httpx import Response

from auditlog.core.record import Entry, format_id
from auditlog.log.directory import open_log
from auditlog.log.identity import new_id
from auditlog.log.preparation import plain_item
from auditlog.log.tokens import allows
from tests.filled import ORIGIN, fill_log
from tests.web.served import (
    NOW,
    UNKNOWN,
    Headers,
    Served,
    headers_of,
    problem,
)

ROLES = ("auditor", "reviewer", "content", "privacy")


def listed(served: Served, headers: Headers, query: str = "") -> list[str]:
    response = served.get(f"/api/v1/decisions{query}", headers)
    assert response.status_code == 200, response.text
    return [one["id"] for one in response.json()["decisions"]]


def times(served: Served) -> dict[str, str]:
    found = served.get("/api/v1/decisions", served.auditor).json()["decisions"]
    return {one["id"]: one["time"] for one in found}


# --- every route ----------------------------------------------------------------------

_DECISION = "/api/v1/decisions/{id}"
NEEDS = {
    ("GET", "/tile/{path}"): "auditor",
    ("GET", "/api/v1/decisions"): "auditor",
    ("GET", _DECISION): "auditor",
    ("GET", f"{_DECISION}/receipt"): "auditor",
    ("GET", f"{_DECISION}/accesses"): "content",
    ("GET", f"{_DECISION}/content"): "content",
    ("POST", f"{_DECISION}/disclosures"): "content",
    ("POST", f"{_DECISION}/amendments"): "reviewer",
    ("GET", "/api/v1/erasures"): "privacy",
    ("POST", "/api/v1/erasures"): "privacy",
    ("POST", "/api/v1/exports"): "privacy",
}
"""The lowest role that may, of everything that takes a token."""
PUBLIC = {
    *("/checkpoint", "/livez", "/metrics", "/readyz"),
    *("/api/v1/proofs/consistency", "/api/v1/proofs/inclusion"),
}
BODIES: dict[str, object] = {
    "disclosures": {"recipient": "r", "all": True},
    "amendments": {"kind": "appeal"},
    "erasures": {"subject": "x"},
    "exports": {"subject": "x", "recipient": "r"},
}


def ask(
    served: Served, method: str, path: str, headers: Headers, number: int = 0
) -> Response:
    """Ask for a resource, about the decision of a number, or all entries."""
    url = path.format(id=served.ids[number], path="entries/000.p/1")
    body = BODIES[url.rpartition("/")[2]] if method == "POST" else None
    return served.client.request(method, url, headers=headers, json=body)


def test_every_route_is_in_one_of_these_tables(served: Served) -> None:
    """Whoever adds one says here who may use it, and the tests below ask it."""
    described = served.get("/api/v1/openapi.json").json()["paths"]
    closed = {
        (method.upper(), path)
        for path, methods in described.items()
        for method, said in methods.items()
        if "security" in said
    }
    assert closed == set(NEEDS)
    assert set(described) - {path for _, path in NEEDS} == PUBLIC


@pytest.mark.parametrize(("method", "path"), NEEDS)
def test_nobody_gets_in_by_too_low_a_role(
    served: Served, method: str, path: str
) -> None:
    problem(ask(served, method, path, {}), 401, "unauthorized")
    before = served.size()
    for role in ROLES:
        if not allows(role, NEEDS[method, path]):
            response = ask(served, method, path, getattr(served, role))
            problem(response, 403, "forbidden")
    assert served.size() == before


# --- lists ----------------------------------------------------------------------------


def test_a_list_holds_what_the_scope_covers(served: Served) -> None:
    ids, when = served.ids, times(served)
    for scope, expected in (
        ({"routes": ["/batch"]}, [ids[5], ids[2]]),
        ({"routes": ["/b*", "/nowhere"]}, [ids[5], ids[2]]),
        ({"decisions": [ids[1], ids[4]]}, [ids[4], ids[1]]),
        ({"decisions": [ids[1], ids[2]], "routes": ["/batch"]}, [ids[2]]),
        ({"since": when[ids[4]]}, [ids[5], ids[4]]),
        ({"until": when[ids[2]]}, [ids[1], ids[0]]),
        ({"routes": ["/other"]}, []),
    ):
        assert listed(served, served.narrowed("auditor", **scope)) == expected


def test_a_filter_never_widens_a_scope(served: Served) -> None:
    ids, when = served.ids, times(served)
    batch = served.narrowed("auditor", routes=["/batch"], since=when[ids[3]])
    assert listed(served, batch, "?from=2020-01-01") == [ids[5]]
    assert listed(served, batch, "?route=/score") == []
    assert listed(served, batch, "?model=credit&version=4&to=2999-01-01") == [ids[5]]


def test_pages_of_a_scope_are_whole_and_do_not_move(own: Served) -> None:
    fill_log(own.directory, 6)
    headers = own.narrowed("auditor", routes=["/score"])
    everything = listed(own, headers)
    assert len(everything) == 8
    seen: list[str] = []
    cursor = ""
    while True:
        path = f"/api/v1/decisions?limit=3{cursor}"
        page = own.get(path, headers).json()
        seen += [one["id"] for one in page["decisions"]]
        if not seen[3:]:
            fill_log(own.directory, 3)
        if page["next"] is None:
            break
        assert len(page["decisions"]) == 3
        cursor = f"&cursor={page['next']}"
    assert seen == everything


# --- one decision ---------------------------------------------------------------------

ABOUT_ONE = [key for key in NEEDS if key[1].startswith(_DECISION)]


def test_what_is_outside_does_not_exist_by_the_same_words(served: Served) -> None:
    id_, before = served.ids[0], served.size()
    for scope in (
        {"routes": ["/batch"]},
        {"decisions": [served.ids[1]]},
        {"until": "1970-01-02"},
    ):
        headers = served.narrowed("privacy", **scope)
        for method, path in ABOUT_ONE:
            response = ask(served, method, path, headers)
            detail = problem(response, 404, "not-found")["detail"]
            assert detail == f"no decision {id_} in log {ORIGIN}"
    assert served.size() == before


def test_what_is_inside_is_answered(own: Served) -> None:
    scope: dict[str, Any] = {"routes": ["/sc*"], "decisions": [own.ids[0]]}
    headers = own.narrowed("privacy", **scope, since="2020-01-01")
    for method, path in ABOUT_ONE:
        response = ask(own, method, path, headers)
        assert response.status_code in {200, 201}, response.text


@pytest.mark.parametrize(
    ("method", "path"), sorted({*NEEDS} - {*ABOUT_ONE, ("GET", "/api/v1/decisions")})
)
def test_what_is_about_everything_takes_a_token_without_a_scope(
    served: Served, method: str, path: str
) -> None:
    before = served.size()
    headers = served.narrowed("privacy", routes=["*"])
    problem(ask(served, method, path, headers), 403, "forbidden")
    assert served.size() == before


def test_an_entry_about_a_decision_is_as_visible_as_the_decision(own: Served) -> None:
    amended = own.post(
        f"/api/v1/decisions/{own.ids[0]}/amendments", {"kind": "appeal"}, own.reviewer
    ).json()["id"]
    path = f"/api/v1/decisions/{amended}"
    inside = own.narrowed("content", routes=["/score"])
    outside = own.narrowed("content", routes=["/batch"])
    assert own.get(path, inside).status_code == 200
    problem(own.get(path, outside), 404, "not-found")
    by_id = own.narrowed("content", decisions=[own.ids[0]])
    assert own.get(path, by_id).status_code == 200
    read = f"/api/v1/decisions/{own.ids[0]}/content"
    assert own.get(read, inside).status_code == 200
    (access, *_) = own.get(read.replace("content", "accesses"), inside).json()[
        "accesses"
    ]
    problem(own.get(f"/api/v1/decisions/{access['id']}", outside), 404, "not-found")


def test_an_entry_about_a_decision_that_is_not_there_is_seen_without_a_scope_only(
    own: Served,
) -> None:
    id_, now = new_id(1_800_000_000_000_000), 1_800_000_000_000_000
    data = {"channel": "cli", "decision": UNKNOWN, "what": "content"}
    with open_log(own.directory) as log:
        entry = Entry(id_, "auditlog.access.v1", log.origin, now, data)
        log.store.append([plain_item(entry)])
    path = f"/api/v1/decisions/{format_id(id_)}"
    assert own.get(path, own.auditor).status_code == 200
    response = own.get(path, own.narrowed("auditor", routes=["*"]))
    detail = problem(response, 404, "not-found")["detail"]
    assert detail == f"no decision {format_id(id_)} in log {ORIGIN}"


def test_entries_about_no_decision_are_seen_without_a_scope_only(
    served: Served,
) -> None:
    start = next(one for one in served.added(0) if one["type"] == "auditlog.emitter.v1")
    path = f"/api/v1/decisions/{start['id']}"
    assert served.get(path, served.auditor).status_code == 200
    for scope in (
        {"routes": ["*"]},
        {"since": "1970-01-01"},
        {"decisions": [start["id"]]},
    ):
        problem(served.get(path, served.narrowed("auditor", **scope)), 404, "not-found")


@pytest.mark.parametrize("role", ROLES)
def test_bundles_are_for_those_who_see_everything(served: Served, role: str) -> None:
    path = f"/tile/entries/000.p/{served.size() - 1}"
    response = served.get(path, served.narrowed(role, routes=["*"]))
    detail = problem(response, 403, "forbidden")["detail"]
    assert (
        detail == "the token sees some decisions only; this needs one without a scope"
    )
    assert 'error="insufficient_scope"' in response.headers["www-authenticate"]


# --- expiry ---------------------------------------------------------------------------


def test_a_token_that_expired_is_refused_everywhere(served: Served) -> None:
    with open_log(served.directory) as log:
        late = headers_of(log, "privacy", expires=NOW - 86_400 * 365 * 5)
        lasting = headers_of(log, "privacy", expires=NOW + 86_400 * 365 * 50)
    assert served.get("/api/v1/decisions", lasting).status_code == 200
    for method, path in NEEDS:
        response = ask(served, method, path, late)
        detail = problem(response, 401, "unauthorized")["detail"]
        assert detail == "the token has expired"
        assert 'error="invalid_token"' in response.headers["www-authenticate"]


def test_a_scope_that_was_tampered_with_opens_nothing(own: Served) -> None:
    headers = own.narrowed("privacy", routes=["/batch"])
    with sqlite3.connect(own.directory / "log.sqlite3") as database:
        database.execute("UPDATE tokens SET scope = ? WHERE scope IS NOT NULL", ["{}"])
    database.close()
    response = own.get("/api/v1/decisions", headers)
    detail = problem(response, 401, "unauthorized")["detail"]
    assert detail == "the token's scope cannot be read: ask for another"
    assert "batch" not in json.dumps(detail)
