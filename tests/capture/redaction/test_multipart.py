"""Each part of a body of parts is looked at alone, and the framing stays."""

import email
import email.policy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.capture.redaction.documents import redact_document
from auditlog.capture.redaction.rules import parse_rules

TYPE = "multipart/form-data; boundary=xYz"
RULES: dict[str, Any] = {"keys": ["ssn"], "patterns": ["email"]}


def _body(*parts: tuple[str, str | bytes], end: bytes = b"--xYz--\r\n") -> bytes:
    found = b""
    for head, content in parts:
        data = content.encode() if isinstance(content, str) else content
        found += b"--xYz\r\n" + head.encode() + b"\r\n\r\n" + data + b"\r\n"
    return found + end


def _field(name: str, more: str = "") -> str:
    return f'Content-Disposition: form-data; name="{name}"{more}'


def _file(name: str, media_type: str, filename: str = "a.bin") -> str:
    return _field(name, f'; filename="{filename}"\r\nContent-Type: {media_type}')


def _stored(body: bytes, media_type: str = TYPE, **rules: Any) -> bytes | None:
    made = parse_rules(**(rules or RULES))
    return redact_document(made, "request", body, media_type)


def test_parts_go_by_name_and_by_what_they_say() -> None:
    body = _body(
        (_field("ssn"), "123"),
        (_field("note"), "to joe@x.de\r\nor not"),
        (_field("plain"), "é"),
        (_field("person[ssn]"), "4"),
        (_field("doc"), '{"ssn": 5, "b": 6}'),
    )
    assert _stored(body) == _body(
        (_field("ssn"), "[redacted]"),
        (_field("note"), "to [redacted]\r\nor not"),
        (_field("plain"), "é"),
        (_field("person[ssn]"), "[redacted]"),
        (_field("doc"), '{"ssn": "[redacted]", "b": 6}'),
    )


def test_a_part_is_read_by_its_own_type() -> None:
    body = _body(
        (_file("a", "application/json"), '{"ssn":1}'),
        (_file("b", "text/plain; charset=latin-1"), "é joe@x.de".encode("latin-1")),
        (_file("c", "application/x-ndjson"), '{"ssn":1}\n{"b":2}\n'),
        (_field("d") + "\r\nContent-Type: application/json", '{"ssn":"\\""}'),
    )
    assert _stored(body) == _body(
        (_file("a", "application/json"), '{"ssn":"[redacted]"}'),
        (_file("b", "text/plain; charset=latin-1"), b"\xe9 [redacted]"),
        (_file("c", "application/x-ndjson"), '{"ssn":"[redacted]"}\n{"b":2}\n'),
        (_field("d") + "\r\nContent-Type: application/json", '{"ssn":"[redacted]"}'),
    )


@pytest.mark.parametrize(
    "part",
    [
        (_file("a", "image/png"), b"\x89PNG"),
        (_file("a", "application/octet-stream"), "text?"),
        (_file("a", "application/json"), "{'broken'}"),
        (_file("a", "multipart/mixed; boundary=q"), "--q\r\n\r\njoe@x.de\r\n--q--"),
        (_field("a"), b"\xff\xfe"),
        (_field("a") + "\r\nContent-Transfer-Encoding: base64", "am9lQHguZGU="),
    ],
)
def test_a_part_that_cannot_be_read_is_taken_out_alone(part: tuple[str, str]) -> None:
    body = _body(part, (_field("b"), "stays"))
    assert _stored(body) == _body((part[0], "[redacted]"), (_field("b"), "stays"))


@pytest.mark.parametrize(
    "head",
    [
        'Content-Disposition: form-data;\r\n name="ssn"',
        'Content-Disposition:\r\n\tform-data; name="ssn"',
        'Content-Disposition: form-data; name = "ssn"',
        'Content-Disposition: form-data, name="ssn"',
        'Content-Disposition: form-data name="ssn"',
        "Content-Disposition: form-data; name=ssné",
        'Content-Disposition: form-data; name=ssn"',
        'Content-Disposition: form-data; name="ssn"; name="a"',
        "Content-Disposition: form-data; name=\"ssn\"; name*=UTF-8''a",
        'Content-Disposition: form-data; name*0="ss"; name*1="n"',
        'Content-Disposition: form-data; name="=?utf-8?B?c3Nu?="',
        'Content-Disposition: form-data; name="ssn"\r\nContent-Disposition: x; name=a',
        'Content-Disposition: form-data; name="a"\r\nContent-Encoding: base64',
    ],
)
def test_a_part_that_two_readers_name_differently_is_taken_out(head: str) -> None:
    stored = _stored(_body((head, "QQQ"), (_field("b"), "stays")))
    assert stored is not None
    assert b"QQQ" not in stored
    assert b"stays" in stored


def test_a_type_with_two_boundaries_has_none() -> None:
    body = _body((_field("ssn"), "1"))
    assert _stored(body, f"{TYPE}; boundary=q") is None


def test_unreadable_parts_are_kept_where_that_was_asked_for() -> None:
    body = _body((_file("a", "image/png"), b"\x89PNG"), (_field("ssn"), "1"))
    stored = _stored(body, **RULES, unreadable="keep")
    assert stored == body.replace(b"\r\n1\r\n", b"\r\n[redacted]\r\n")


def test_names_of_files_are_searched_and_go_with_their_part() -> None:
    body = _body(
        (_file("a", "text/plain", "joe@x.de.txt"), "x"),
        (_file("b", "text/plain", "joe%40x.de"), "x"),
        (_field("c", "; filename*=UTF-8''joe%40x.de"), "x"),
        (_file("ssn", "text/plain", "123.txt"), "x"),
        ("X-Note: joe@x.de\r\n" + _field("d"), "x"),
    )
    stored = _stored(body)
    assert stored is not None
    for secret in (b"joe", b"123.txt"):
        assert secret not in stored
    assert stored.count(b"[redacted]") == 6
    assert b'name="d"' in stored


def test_a_pointer_begins_with_the_name_of_a_part() -> None:
    body = _body((_field("person"), '{"name": 1, "age": 2}'), (_field("pin"), "3"))
    stored = _stored(body, fields=["/person/name", "request/pin"])
    assert stored == _body(
        (_field("person"), '{"name": "[redacted]", "age": 2}'),
        (_field("pin"), "[redacted]"),
    )


@pytest.mark.parametrize(
    ("body", "media_type"),
    [
        (_body((_field("a"), "b")), "multipart/form-data"),
        (_body((_field("a"), "b")), "multipart/form-data; boundary="),
        (_body((_field("a"), "b")), 'multipart/form-data; boundary="x[z"'),
        (_body((_field("a"), "b")), "multipart/form-data; boundary=" + "x" * 300),
        (_body((_field("a"), "b")), "multipart/form-data; boundary=other"),
        (b"before" + _body((_field("a"), "b")), TYPE),
        (_body((_field("a"), "b")) + b"after", TYPE),
        (_body((_field("a"), "b\n--xYz\n" + _field("ssn") + "\n\n1")), TYPE),
        (_body((_field("a"), "--xYz")), TYPE),
        (_body() + _body((_field("a"), "b")), TYPE),
        (b"nothing of it", TYPE),
        (b"--xYz\r\n\r\n\r\n" * 10_001, TYPE),
    ],
)
def test_what_another_reader_may_see_other_parts_in_is_not_stored(
    body: bytes, media_type: str
) -> None:
    assert _stored(body, media_type) is None


@pytest.mark.parametrize(
    "media_type",
    ['multipart/form-data; boundary="xYz"', "multipart/mixed;BOUNDARY=xYz;charset=x"],
)
def test_the_boundary_may_be_written_in_each_of_its_ways(media_type: str) -> None:
    body = _body((_field("ssn"), "1"))
    assert _stored(body, media_type) == _body((_field("ssn"), "[redacted]"))


def test_a_body_without_anything_to_take_out_is_the_same() -> None:
    body = _body(("", ""), (_field("a"), "b"), (_file("c", "text/plain"), "d\r\n"))
    assert _stored(body) == body
    assert _stored(_body()) == _body()


def test_a_cut_anywhere_shows_no_start_of_a_secret() -> None:
    body = _body(
        (_field("ssn"), "QQQ"),
        (_field("note"), "to QQQ@x.de"),
        (_file("f", "text/plain", "QQQ@x.de"), "QQQ@x.de"),
        (_file("j", "application/json"), json.dumps({"ssn": "QQQ", "b": "QQQ@x.de"})),
        (_field("k"), json.dumps({"ssn": "QQQ", "b": "QQQ@x.de"})),
    )
    assert _stored(body) is not None
    for size in range(len(body)):
        stored = _stored(body[:size])
        assert stored is None or b"Q" not in stored, body[:size]
        if stored:
            assert _stored(stored) == stored


NAMES = st.sampled_from(["a", "ssn", "b c", "é", "joe@x.de"])
CONTENTS = st.sampled_from(["", "1", "x\r\ny", "joe@x.de", '{"ssn":"1"}', "--", "\r\n"])


@given(st.lists(st.tuples(NAMES, CONTENTS), min_size=1, max_size=4))
def test_another_reader_finds_the_same_parts(parts: list[tuple[str, str]]) -> None:
    body = _body(*((_field(name), content) for name, content in parts))
    stored = _stored(body)
    assert stored is not None
    head = f"Content-Type: {TYPE}\r\n\r\n".encode()
    message = email.message_from_bytes(head + stored, policy=email.policy.HTTP)
    found = message.get_payload()
    assert isinstance(found, list)
    assert len(found) == len(parts)
    assert b"joe@" not in stored
    for part, (name, content) in zip(found, parts, strict=True):
        payload = part.get_payload(decode=True)
        if name == "ssn":
            assert payload == b"[redacted]" or not content
        elif content in ("1", "x\r\ny"):
            assert payload == content.encode()


@given(st.binary(max_size=60), st.integers(0, 120))
def test_any_bytes_give_bytes_or_none(data: bytes, at: int) -> None:
    body = _body((_field("ssn"), "1"), (_file("a", "application/json"), "{}"))
    stored = _stored(body[:at] + data + body[at:])
    assert stored is None or isinstance(stored, bytes)


@pytest.mark.parametrize(
    "piece", ["a", "a:", '; a="', "; a=", " ", "\r\n--xYz", "\r\n--xYz ", "\\", "\r\n"]
)
@pytest.mark.parametrize(
    "start", ["", "A: ", 'Content-Disposition: f; a="', "\r\n\r\n"]
)
def test_no_body_takes_more_than_time_in_its_length(start: str, piece: str) -> None:
    # Were anything quadratic here, this would take minutes.
    head = start + piece * (100_000 // len(piece))
    stored = _stored(b"--xYz\r\n" + head.encode() + b"\r\n\r\nx\r\n--xYz--")
    assert stored is None or isinstance(stored, bytes)
