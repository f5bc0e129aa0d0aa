"""The choke point: what it does with each kind of value, and when something fails."""

import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from auditlog.capture.redaction.choke import ChokePoint
from auditlog.capture.redaction.configured import choke_point, choke_point_beyond_http
from auditlog.capture.redaction.redaction import Side
from auditlog.capture.redaction.rules import parse_rules
from auditlog.config import Config, load_config
from auditlog.core.errors import ConfigurationError
from auditlog.core.pieces import TEXT, frame

CANARY = "jane.doe@canary.example"
BODIES: list[tuple[bytes, str | None, bool]] = [
    (b'{"a": "text"}', "application/json", False),
    (b"a=text", "application/x-www-form-urlencoded", False),
    (b"text", "text/plain", False),
    (b"data: text\n\n", "text/event-stream", False),
    (b'data: {"a": "text"}\n\n', "text/event-stream", False),
    (b'{"a": "text"}\n', "application/x-ndjson", False),
    (frame(0, TEXT, b"text"), None, True),
    (
        b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\ntext\r\n--x--\r\n',
        "multipart/form-data; boundary=x",
        False,
    ),
]
KINDS = [
    "json",
    "form",
    "text",
    "events",
    "json-events",
    "lines",
    "frames",
    "multipart",
]


def fails(text: str) -> str:
    raise ValueError(text)


def no_text(text: str) -> Any:
    return text.encode()


def point(*redactors: Any, **rules: Any) -> ChokePoint:
    return ChokePoint(parse_rules(redactors=redactors, **rules))


class Bodies:
    """Sees whole bodies; keeps what it was given."""

    def __init__(self, answer: Callable[[bytes], Any]) -> None:
        self.answer = answer
        self.seen: list[tuple[Side, bytes, str | None]] = []

    def body(self, side: Side, value: bytes, media_type: str | None) -> Any:
        self.seen.append((side, value, media_type))
        return self.answer(value)


@pytest.mark.parametrize("redactor", [fails, no_text])
@pytest.mark.parametrize(("body", "media_type", "framed"), BODIES, ids=KINDS)
def test_a_callable_that_fails_withholds_every_kind_and_is_told_of_once(
    body: bytes,
    media_type: str | None,
    framed: bool,
    redactor: Callable[[str], str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    choke = point(redactor)
    for _ in range(2):
        assert choke.body("request", body, media_type, framed=framed) is None
    assert choke.leaf("annotations", b'{"a":"text"}') is None
    assert choke.leaf("target", b"/text?a=text") is None
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert "redaction failed, so that a value is not stored" in record.message
    assert "text" not in record.message


@pytest.mark.parametrize(("body", "media_type", "framed"), BODIES, ids=KINDS)
@pytest.mark.parametrize(
    "answer",
    [lambda _: 1 // 0, lambda _: "text", lambda _: None],
    ids=["raises", "no bytes", "cannot tell"],
)
def test_what_looks_at_bodies_withholds_every_kind(
    body: bytes, media_type: str | None, framed: bool, answer: Callable[[bytes], Any]
) -> None:
    choke = point(Bodies(answer), patterns=["email"])
    assert choke.body("response", body, media_type, framed=framed) is None


def test_what_looks_at_bodies_sees_them_first_and_messages_one_by_one() -> None:
    bodies = Bodies(lambda value: value.replace(b"HIDE", CANARY.encode()))
    choke = point(bodies, patterns=["email"])
    frames = frame(0, TEXT, b"HIDE") + frame(1, TEXT, b", x")
    after = choke.body("request", frames, None, framed=True)
    assert after == frame(0, TEXT, b"[redacted]") + frame(1, TEXT, b", x")
    stream = b"data: HIDE\n\n"
    after = choke.body("response", stream, "text/event-stream", framed=False)
    assert after == b"data: [redacted]\n\n"
    assert bodies.seen == [
        ("request", b"HIDE", None),
        ("request", b", x", None),
        ("response", stream, "text/event-stream"),
    ]


@pytest.mark.parametrize(("body", "media_type", "framed"), BODIES, ids=KINDS)
def test_where_nothing_is_found_every_kind_is_the_same(
    body: bytes, media_type: str | None, framed: bool
) -> None:
    choke = point(patterns=["email"], keys=["ssn"], fields=["/b"])
    assert choke.body("request", body, media_type, framed=framed) == body
    assert choke.body("request", b"", media_type, framed=framed) == b""


def test_rules_of_one_side_leave_the_other_alone() -> None:
    choke = point(fields=["request/a"])
    body = b'{"a": 1}'
    assert choke.body("response", body, "application/json", framed=False) == body
    redacted = choke.body("request", body, "application/json", framed=False)
    assert redacted == b'{"a": "[redacted]"}'


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("annotations", {"ssn": 1, "a": [CANARY]}, {"ssn": "[redacted]"}),
        ("outcome", {"result": {"label": "x"}}, {"result": {"label": "x"}}),
        ("user", {"id": CANARY}, {"id": "[redacted]"}),
    ],
)
def test_leaves_that_are_json_obey_names_and_patterns(
    name: str, value: dict[str, Any], expected: dict[str, Any]
) -> None:
    choke = point(patterns=["email"], keys=["ssn"], fields=["/result"])
    after = choke.leaf(name, json.dumps(value).encode())
    assert after is not None
    assert json.loads(after) == {
        **value,
        **expected,
        **({"a": ["[redacted]"]} if "a" in value else {}),
    }


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        (
            "target",
            b"/u/jane.doe@canary.example?ssn=1&q=x",
            b"/u/[redacted]?ssn=[redacted]&q=x",
        ),
        ("request.mediatype", b"text/jane.doe@canary.example", b"[redacted]"),
        ("reason", b'{"text":"it is so"}', b'{"text":"it is so"}'),
        (
            "trace",
            b"00-4bf92f3577b34da6a3ce929d0e0e4736",
            b"00-4bf92f3577b34da6a3ce929d0e0e4736",
        ),
        ("request.method", b"\xff", None),
        (
            "subject",
            b'{"id":"jane.doe@canary.example"}',
            b'{"id":"jane.doe@canary.example"}',
        ),
    ],
)
def test_other_leaves(name: str, value: bytes, expected: bytes | None) -> None:
    choke = point(patterns=["email"], keys=["ssn"])
    after = choke.leaf(name, value)
    assert after is None if expected is None else after is not None
    if expected is not None and after is not None:
        assert after.replace(b"%5B", b"[").replace(b"%5D", b"]").endswith(expected)


def config(tmp_path: Path, **options: Any) -> Config:
    return load_config({"dir": tmp_path, **options}, env={})


def test_without_a_rule_there_is_no_choke_point(tmp_path: Path) -> None:
    assert choke_point(config(tmp_path, redact_unreadable="drop"), ()) is None
    assert choke_point_beyond_http(config(tmp_path)) is None


def test_what_the_middleware_adds_applies_to_whatever_else_is_recorded(
    tmp_path: Path,
) -> None:
    choke_point(config(tmp_path / "one"), [str.upper])
    beyond = choke_point_beyond_http(config(tmp_path / "one"))
    assert beyond is not None
    assert beyond.leaf("x", b"abc") == b"ABC"
    assert choke_point_beyond_http(config(tmp_path / "one")) is beyond
    assert choke_point_beyond_http(config(tmp_path / "other")) is None
    further = choke_point_beyond_http(config(tmp_path / "one"), [str.swapcase])
    assert further is not None
    assert further.leaf("x", b"abc") == b"abc"


def test_rules_that_only_code_names_apply_too(tmp_path: Path) -> None:
    # A record that finds its log by the environment knows nothing of that code.
    choke_point(config(tmp_path, redact_keys=["ssn"], redact_patterns=["email"]), ())
    (tmp_path / "link").symlink_to(tmp_path)
    beyond = choke_point_beyond_http(config(tmp_path / "link", redact_keys=["pin"]))
    assert beyond is not None
    said = {"ssn": 1, "pin": 2, "to": CANARY}
    after = beyond.leaf("annotations", json.dumps(said).encode())
    assert after == json.dumps(dict.fromkeys(said, "[redacted]")).encode()


class Panic(BaseException):
    """As what a library in Rust raises."""


def test_a_callable_that_panics_withholds_and_does_not_end_the_thread() -> None:
    def panics(text: str) -> str:
        raise Panic(text)

    choke = point(panics)
    assert choke.body("request", b"a", "text/plain", framed=False) is None
    assert choke.leaf("user", b'"a"') is None


@pytest.mark.parametrize("media_type", ["text/event-stream", "application/x-ndjson"])
def test_a_stream_with_zeros_is_no_text(media_type: str) -> None:
    wide = f"data: {CANARY}\n\n".encode("utf-16-le")
    choke = point(patterns=["email"])
    assert choke.body("response", wide, media_type, framed=False) is None


@pytest.mark.parametrize(
    ("options", "redact", "said"),
    [
        ({"redact_keys": ["--"]}, [], "redact_keys: expected a name"),
        ({"redact_fields": ["name"]}, [], "redact_fields: expected request/"),
        ({"redact_patterns": ["("]}, [], "redact_patterns: expected a regular expr"),
        ({"redact_patterns": ["a*"]}, [], "redact_patterns: expected an expression"),
        ({}, ["text"], "redact: expected a callable or an object with `body`"),
    ],
)
@pytest.mark.parametrize("build", [choke_point, choke_point_beyond_http])
def test_a_rule_that_is_none_is_refused_by_its_option(
    build: Callable[..., object],
    options: dict[str, Any],
    redact: list[Any],
    said: str,
    tmp_path: Path,
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        build(config(tmp_path, **options), redact)
