"""Where whom a decision is about stands: each kind of place, and what is none."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.capture.places import Place, RoutePlaces, parse_place
from auditlog.capture.subjects import Sought, Subject
from auditlog.core.errors import ConfigurationError

JSON = "application/json; charset=utf-8"


def found(identifier: str, kind: str = "person") -> Sought:
    return Sought(Subject(kind, identifier))


def in_body(place: str, body: bytes, media_type: str | None = JSON) -> Sought:
    side = parse_place(place).source
    bodies = (body, b"") if side == "request" else (b"", body)
    asked, answered = (media_type, None) if side == "request" else (None, media_type)
    return parse_place(place).find(*bodies, request_type=asked, response_type=answered)


def in_scope(place: str, template: str | None = None, **scope: Any) -> Sought:
    return parse_place(place).look({"path": "/", **scope}, template)


# --- the option -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("path/id", Place("path", "id", "person")),
        ("customer:path/id", Place("path", "id", "customer")),
        ("query/customer-id", Place("query", "customer-id", "person")),
        ("query/a:b", Place("query", "a:b", "person")),
        ("header/x-customer", Place("header", "x-customer", "person")),
        ("request/id", Place("request", "/id", "person")),
        ("a.b-c:response/a/0/~1~0", Place("response", "/a/0/~1~0", "a.b-c")),
    ],
)
def test_a_place_is_read_and_written_alike(text: str, place: Place) -> None:
    assert parse_place(text) == place
    assert str(place) == text
    assert parse_place(str(place)) == place


@pytest.mark.parametrize(
    "text",
    [
        *("", "id", "path", "path/", "query/", "header/", "request", "request/"),
        *("body/id", "Path/id", "header/X-Customer", "header/a b", "query/a\n"),
        *("request/a~2", "request/a~", "response/" + "/".join("abcdefghi")),
        *("Customer:path/id", ":path/id", "a b:path/id", "path:path/id:x".upper()),
    ],
)
def test_what_is_no_place_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        parse_place(text)
    message = str(caught.value)
    assert message.startswith("option 'route_subjects' takes path/<name>, query/<name>")
    assert message.endswith(f"got {text!r}")


def test_the_first_glob_that_matches_counts() -> None:
    places = RoutePlaces([("/a/*", "path/one"), ("*", "query/two")])
    assert str(places.of("/a/{one}")) == "path/one"
    assert str(places.of("/b")) == "query/two"
    assert RoutePlaces([("/a", "path/one")]).of("/b") is None
    assert places
    assert not RoutePlaces([])


def test_what_is_remembered_of_paths_is_bounded() -> None:
    places = RoutePlaces([("*", "path/one")])
    for number in range(5000):
        assert places.of(f"/{number}") is not None
    assert len(places._known) <= 1024


# --- in bodies ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "body", "identifier"),
    [
        ("request/id", b'{"id":"Ada"}', "Ada"),
        ("response/id", b' { "x": 1, "id" : "Ada" } ', "Ada"),
        ("request/id", b'{"id":4711}', "4711"),
        ("request/id", b'{"id":-1}', "-1"),
        (
            "request/id",
            b'{"id":90071992547409931234567890}',
            "9" + "0071992547409931234567890",
        ),
        ("request/id", rb'{"id":"\u00e9\ud83d\ude00"}', "é😀"),
        ("request/a/b/1/c", b'{"a":{"b":[0,{"c":"x"}]}}', "x"),
        ("request/a~1b~0", b'{"a/b~":"x"}', "x"),
        ("request/0", b'["x"]', "x"),
        ("request/instances/0/id", b'{"instances":[{"id":"x"}]}', "x"),
    ],
)
def test_a_text_or_integer_in_json_is_found(
    place: str, body: bytes, identifier: str
) -> None:
    assert in_body(place, body) == found(identifier)


@pytest.mark.parametrize(
    "body",
    [
        *(b"", b"{}", b"[]", b'"id"', b'{"id":null}', b'{"id":""}', b'{"ID":"x"}'),
        *(b'{"id":"Ada"', b'{"id":"Ada","id":"Bob"}', b'{"id":"Ada"}x', b"\xff"),
        *(b'{"id":"Ada","x":NaN}', b'\xef\xbb\xbf{"id":"Ada"}', b'{"a":{"id":"x"}}'),
        b'{"id":"' + b"x" * (1 << 20) + b'"}',
    ],
)
def test_what_the_commitment_does_not_split_names_nobody(body: bytes) -> None:
    assert in_body("request/id", body) == Sought()


@pytest.mark.parametrize("media_type", [None, "text/plain", "application/x-ndjson"])
def test_what_is_not_json_by_its_type_names_nobody(media_type: str | None) -> None:
    assert in_body("request/id", b'{"id":"Ada"}', media_type) == Sought()


@pytest.mark.parametrize(
    "value",
    [b"1.0", b"1e3", b"true", b"{}", b'["Ada"]', rb'"\ud800"', b"1" * 2000],
)
def test_what_is_there_and_no_identifier_is_a_fault(value: bytes) -> None:
    sought = in_body("customer:request/id", b'{"id":%b}' % value)
    said = "subject at customer:request/id: it is neither text nor integer"
    assert sought == Sought(fault=said)


@given(
    st.binary(max_size=60), st.sampled_from(["request/a", "response/0/a", "request/~0"])
)
def test_any_bytes_give_an_answer(body: bytes, place: str) -> None:
    sought = in_body(place, body)
    assert sought.subject is None or sought.fault is None


@given(st.text(max_size=20), st.integers())
def test_what_is_there_is_found_whatever_it_is(text: str, number: int) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        return
    body = json.dumps({"a": text, "b": number}).encode()
    assert in_body("request/a", body) == (found(text) if text else Sought())
    assert in_body("request/b", body) == found(str(number))


# --- in path, query and headers -------------------------------------------------------


@pytest.mark.parametrize(
    ("query", "expected"),
    [
        (b"id=Ada", found("Ada")),
        (b"x=1&id=%C3%A9+1", found("é 1")),
        (b"", Sought()),
        (b"id=", Sought()),
        (b"ID=Ada", Sought()),
        (b"id=a&id=b", Sought(fault="subject at query/id: it is there more than once")),
        (b"id=%FF", Sought(fault="subject at query/id: it cannot be read")),
        (b"id=\xff", Sought(fault="subject at query/id: it cannot be read")),
        (b"a=1&" * 1001, Sought(fault="subject at query/id: it cannot be read")),
    ],
)
def test_a_parameter_of_the_query(query: bytes, expected: Sought) -> None:
    assert in_scope("query/id", query_string=query) == expected


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([(b"X-Customer", b" Ada\t")], found("Ada")),
        ([(b"x-customer", "é".encode())], found("é")),
        ([(b"x-customer", b"")], Sought()),
        ([(b"x-other", b"Ada")], Sought()),
        (
            [(b"x-customer", b"a"), (b"X-CUSTOMER", b"b")],
            Sought(fault="subject at header/x-customer: it is there more than once"),
        ),
        (
            [(b"x-customer", b"\xff")],
            Sought(fault="subject at header/x-customer: it cannot be read"),
        ),
    ],
)
def test_a_header(headers: list[tuple[bytes, bytes]], expected: Sought) -> None:
    assert in_scope("header/x-customer", headers=headers) == expected


@pytest.mark.parametrize(
    ("template", "path", "identifier"),
    [
        ("/c/{id}", "/c/Ada", "Ada"),
        ("/c/{id}/score", "/root/c/Ada/score", "Ada"),
        ("/t/{tenant}/c/{id}", "/t/one/c/Ada", "Ada"),
        ("/f/{id}", "/f/a/b", "a/b"),
        ("/c/{id:uuid}", "/c/7", "7"),
        ("/a.b/{id}", "/a.b/Ada", "Ada"),
    ],
)
def test_without_parameters_of_the_router_the_template_tells(
    template: str, path: str, identifier: str
) -> None:
    assert in_scope("path/id", template, path=path) == found(identifier)


def test_what_the_router_found_wins() -> None:
    sought = in_scope("path/id", "/{id}", path="/007", path_params={"id": 7})
    assert sought == found("7")


@pytest.mark.parametrize(
    ("template", "path"),
    [
        (None, "/c/Ada"),
        ("/c/{other}", "/c/Ada"),
        ("/c/{id}", "/d/Ada"),
        ("/a.b/{id}", "/axb/Ada"),
    ],
)
def test_a_path_without_that_parameter_names_nobody(
    template: str | None, path: str
) -> None:
    assert in_scope("path/id", template, path=path) == Sought()
