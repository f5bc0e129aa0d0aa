"""Which reader a body is for, and what becomes of one that has none."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.capture.redaction.documents import redact_document
from auditlog.capture.redaction.redaction import Side
from auditlog.capture.redaction.rules import TextRedactor, parse_rules

KEYS: dict[str, Any] = {"keys": ["ssn"]}
BOTH: dict[str, Any] = {"keys": ["ssn"], "patterns": ["email"]}
PATTERNS: dict[str, Any] = {"patterns": ["email"]}
DOCUMENT = b'{"ssn":"1","m":"joe@x.de"}'
STORED = b'{"ssn":"[redacted]","m":"[redacted]"}'


def _stored(
    body: bytes,
    media_type: str | None,
    side: Side = "request",
    *,
    cut: bool = False,
    **rules: Any,
) -> bytes | None:
    return redact_document(parse_rules(**rules), side, body, media_type, cut=cut)


@pytest.mark.parametrize(
    "media_type",
    [
        "application/json",
        "Application/JSON ; charset=utf-8",
        "application/problem+json",
        "application/vnd.api+json;v=1",
        "text/json",
        "application/x-json",
        "application/x-ndjson",
        "application/jsonl",
        "application/json-seq",
        "text/plain",
        "text/plain; charset=utf-16",
        "text/html",
        "text/csv",
        "application/xml",
        "application/x-www-form-urlencoded",
        "application/octet-stream",
        "application/unheard-of",
        "",
        ";",
        None,
    ],
)
def test_json_is_read_whatever_it_is_said_to_be(media_type: str | None) -> None:
    assert _stored(DOCUMENT, media_type, **BOTH) == STORED


@pytest.mark.parametrize(
    "body", [b'{"ssn":1,}', b"{'ssn': 1}", b"ssn: 1", b'{"a":NaN}', b"\xff", b"\x00{}"]
)
@pytest.mark.parametrize("unreadable", ["drop", "keep"])
def test_what_is_said_to_be_json_and_is_none_is_never_stored(
    body: bytes, unreadable: str
) -> None:
    assert _stored(body, "application/json", **KEYS, unreadable=unreadable) is None


@pytest.mark.parametrize("media_type", ["application/x-ndjson", "text/plain", None])
def test_lines_of_json_are_read_one_by_one(media_type: str | None) -> None:
    body = b'{"ssn":1}\r\n\n {"m":"joe@x.de"}\n{"b":[1]}\n'
    stored = b'{"ssn":"[redacted]"}\r\n\n {"m":"[redacted]"}\n{"b":[1]}\n'
    assert _stored(body, media_type, **BOTH) == stored


def test_a_sequence_of_json_is_read_text_by_text() -> None:
    body = b'\x1e{"ssn":\n1}\n\x1e{"b":2}\n'
    stored = b'\x1e{"ssn":\n"[redacted]"}\n\x1e{"b":2}\n'
    assert _stored(body, "application/json-seq", **BOTH) == stored


def test_lines_are_none_where_one_text_goes_over_two_of_them() -> None:
    for body in (b'{"ssn":\n"1"}', b'{"a":1}\n{"ssn":\n"1"', b'{"a":1}\nssn: 1'):
        assert _stored(body, "application/x-ndjson", **KEYS) is None


def test_the_last_line_may_be_cut() -> None:
    stored = _stored(b'{"b":1}\n{"ssn":"1', "application/x-ndjson", **KEYS)
    assert stored == b'{"b":1}\n{"ssn":"[redacted]"'


def test_a_pointer_counts_from_the_root_of_each_line() -> None:
    body = b'{"a":{"b":1}}\n{"a":{"b":2,"c":3}}'
    stored = b'{"a":{"b":"[redacted]"}}\n{"a":{"b":"[redacted]","c":3}}'
    assert _stored(body, "application/jsonl", fields=["/a/b"]) == stored


@pytest.mark.parametrize("media_type", ["text/plain", "text/markdown", None, ""])
def test_prose_is_searched_and_a_key_in_it_is_one_in_quotes(
    media_type: str | None,
) -> None:
    body = "ssn: 1, from joe@x.de, é\r\n".encode()
    assert _stored(body, media_type, **BOTH) == body.replace(b"joe@x.de", b"[redacted]")
    assert _stored(body, media_type, **KEYS) == body
    quoted = b'so: {"ssn": "1", "b": 2}'
    assert _stored(quoted, media_type, **KEYS) == quoted.replace(
        b'"1"', b'"[redacted]"'
    )


@pytest.mark.parametrize(
    "charset", ["latin-1", '"ISO-8859-1"', "windows-1252", "shift_jis"]
)
def test_text_is_read_in_its_charset_and_other_bytes_stay(charset: str) -> None:
    name = charset.strip('"')
    letter = "é" if "jis" not in name else "あ"
    body = f"{letter} joe@x.de {letter}".encode(name)
    stored = _stored(body, f"text/plain; charset={charset}", **PATTERNS)
    assert stored == f"{letter} [redacted] {letter}".encode(name)


@pytest.mark.parametrize(
    "media_type",
    [
        "text/plain; charset=utf-8",
        "text/plain",
        "text/plain; charset=utf-7",
        "text/plain; charset=base64",
        "text/plain; charset=idna",
        "text/plain; charset=nothing",
        "text/plain; charset=utf-16",
        "text/plain; charset=utf-32be",
    ],
)
def test_text_in_no_charset_that_is_known_is_stored_only_if_that_was_asked_for(
    media_type: str,
) -> None:
    body = b"\xff\xfe\x00\xd8 joe@x.de "
    assert _stored(body, media_type, **PATTERNS) is None
    kept = _stored(body, media_type, **PATTERNS, unreadable="keep")
    assert kept == b"\xff\xfe\x00\xd8 [redacted] "


FORM = "application/x-www-form-urlencoded"


@pytest.mark.parametrize("order", ["utf-8", "utf-16-le", "utf-16-be", "utf-32-le"])
@pytest.mark.parametrize("charset", ["utf-16", "utf-16le", "UTF-16BE", "utf-32"])
def test_what_is_said_to_be_utf_16_may_be_anything_and_is_not_stored(
    charset: str, order: str
) -> None:
    body = "to joe@x.de, now".encode(order)
    assert _stored(body, f"text/plain; charset={charset}", **PATTERNS) is None


@pytest.mark.parametrize("media_type", ["text/plain", None, FORM])
@pytest.mark.parametrize("order", ["utf-16-le", "utf-16-be"])
def test_utf_16_that_nobody_speaks_of_is_not_stored(
    order: str, media_type: str | None
) -> None:
    # Some servers read JSON of it, whatever its type.
    body = '{"ssn": "1", "to": "joe@x.de"}'.encode(order)
    assert _stored(body, media_type, **BOTH) is None


@pytest.mark.parametrize("media_type", ["application/json", "text/plain", None, FORM])
def test_a_byte_order_mark_hides_no_json(media_type: str | None) -> None:
    body = b'\xef\xbb\xbf{"s\\u0073n": 1, "to": "joe\\u0040x.de"}'
    assert _stored(body, media_type, **BOTH) == (
        b'\xef\xbb\xbf{"s\\u0073n": "[redacted]", "to": "[redacted]"}'
    )


NAMED_TEXT = [
    ("application/xml", b"<p><ssn>1</ssn>joe@x.de</p>"),
    ("text/xml", b"<ssn>1</ssn>joe@x.de"),
    ("application/soap+xml", b"<ssn>1</ssn>joe@x.de"),
    ("image/svg+xml", b"<ssn>1</ssn>joe@x.de"),
    ("text/csv", b"ssn,mail\n1,joe@x.de\n"),
    ("application/yaml", b"ssn: 1\nmail: joe@x.de\n"),
    ("text/html", b"<input name=ssn value=1>joe@x.de"),
]


@pytest.mark.parametrize(("media_type", "body"), NAMED_TEXT)
def test_text_with_names_that_nobody_reads_is_not_stored_where_names_matter(
    media_type: str, body: bytes
) -> None:
    searched = body.replace(b"joe@x.de", b"[redacted]")
    assert _stored(body, media_type, **BOTH) is None
    assert _stored(body, media_type, fields=["/a"], **PATTERNS) is None
    assert _stored(body, media_type, fields=["response/a"], **PATTERNS) == searched
    assert _stored(body, media_type, **PATTERNS) == searched
    assert _stored(body, media_type, **BOTH, unreadable="keep") == searched


UNREADABLE = [
    ("image/png", b"\x89PNG"),
    ("audio/wav", b"RIFF"),
    ("application/octet-stream", b"text, maybe"),
    ("application/x-protobuf", b"\x0a\x03joe"),
    ("application/pdf", b"%PDF-1.7"),
    (None, b"\xff\xfe\xfd"),
]


@pytest.mark.parametrize(("media_type", "body"), UNREADABLE)
def test_what_nobody_can_look_into_is_stored_only_if_that_was_asked_for(
    media_type: str | None, body: bytes
) -> None:
    assert _stored(body, media_type, **KEYS) is None
    assert _stored(body, media_type, **KEYS, unreadable="keep") == body


def test_where_nothing_is_to_be_redacted_everything_is_stored() -> None:
    assert _stored(b"\x89PNG", "image/png") == b"\x89PNG"
    assert (
        _stored(b"\x89PNG", "image/png", "response", fields=["request/a"]) is not None
    )
    assert _stored(b"", "application/json", **KEYS) == b""


def test_a_text_that_is_cut_says_nothing_of_what_the_cut_went_through() -> None:
    assert _stored(b"to joe@x", "text/plain", **PATTERNS) == b"to joe@x"
    assert _stored(b"to joe@x", "text/plain", cut=True, **PATTERNS) == b"[redacted]"
    # Half a character shows it too.
    assert _stored("joe@ü".encode()[:-1], None, **PATTERNS) == b"[redacted]"


# --- callables ------------------------------------------------------------------------


def _fails(text: str) -> str:
    raise RuntimeError(text)


@pytest.mark.parametrize(
    ("media_type", "body"),
    [
        ("application/json", b'{"a":"b"}'),
        ("application/json", b'{"a":"b'),
        ("application/x-ndjson", b'{"a":"b"}\n'),
        ("application/x-www-form-urlencoded", b"a=b"),
        ("multipart/form-data; boundary=q", b"--q\r\nA: b\r\n\r\nc\r\n--q--"),
        ("text/plain", b"text"),
        ("text/csv", b"text"),
    ],
)
@pytest.mark.parametrize("redactor", [_fails, lambda text: text.encode()])
def test_where_a_callable_fails_nothing_is_stored(
    media_type: str, body: bytes, redactor: TextRedactor
) -> None:
    assert _stored(body, media_type, redactors=[redactor], unreadable="keep") is None


class _Bodies:
    """Looks into images, and takes the first byte of them."""

    def __init__(self, answer: object = ...) -> None:
        self.seen: list[tuple[str, bytes, str | None]] = []
        self._answer = answer

    def body(self, side: Side, value: bytes, media_type: str | None) -> Any:
        self.seen.append((side, value, media_type))
        if isinstance(self._answer, Exception):
            raise self._answer
        return value[1:] if self._answer is ... else self._answer


def test_a_redactor_of_bodies_sees_them_first_and_the_rules_run_over_its_answer() -> (
    None
):
    redactor = _Bodies(b'{"ssn":1}')
    assert _stored(b"<xml>", "text/xml", "response", redactors=[redactor], **KEYS) == (
        b'{"ssn":"[redacted]"}'
    )
    assert redactor.seen == [("response", b"<xml>", "text/xml")]


def test_a_redactor_of_bodies_has_the_last_word_where_no_rule_can_look() -> None:
    assert _stored(b"\x89PNG", "image/png", redactors=[_Bodies()], **KEYS) == b"PNG"
    assert _stored(b"x<ssn/>", "text/xml", redactors=[_Bodies()], **KEYS) == b"<ssn/>"


@pytest.mark.parametrize("answer", [None, "text", 5, ValueError("secret")])
def test_a_redactor_of_bodies_that_gives_no_bytes_lets_nothing_through(
    answer: object,
) -> None:
    assert _stored(b"{}", "application/json", redactors=[_Bodies(answer)]) is None


# --- properties -----------------------------------------------------------------------

TYPES = st.sampled_from(
    [
        "application/json",
        "application/x-ndjson",
        "application/json-seq",
        "application/x-www-form-urlencoded",
        "multipart/form-data; boundary=q",
        "text/plain",
        "text/plain; charset=utf-16",
        "text/plain; charset=shift_jis",
        "text/csv",
        "image/png",
        None,
    ]
) | st.text(max_size=30)
PIECES = st.lists(
    st.sampled_from([b"--q", b"\r\n", b"{", b'"ssn"', b":", b'"', b"\xff", b"joe@x.de",
                     b"=", b"&", b"%4", b"name=", b"[", b"\x1e", b"}", b"a"])
).map(b"".join)  # fmt: skip


@given(st.binary(max_size=60) | PIECES, TYPES, st.booleans())
def test_any_bytes_of_any_kind_give_bytes_or_none(
    body: bytes, media_type: str | None, cut: bool
) -> None:
    for rules in (KEYS, BOTH, PATTERNS, BOTH | {"unreadable": "keep"}):
        stored = _stored(body, media_type, cut=cut, **rules)
        assert stored is None or isinstance(stored, bytes)
        if stored is not None and media_type in ("application/json", "text/plain"):
            assert b"joe@x.de" not in stored or "patterns" not in rules


def test_no_spelling_of_a_secret_is_left() -> None:
    secret = "joe@x.de"
    escaped = "".join(f"\\u{ord(mark):04x}" for mark in secret)
    percent = "".join(f"%{ord(mark):02X}" for mark in secret)
    nested = json.dumps({"a": json.dumps({"b": secret})})
    for media_type, body in (
        ("application/json", f'["{escaped}", "{secret}"]'),
        ("application/json", nested),
        ("application/json", json.dumps([nested])),
        ("application/x-www-form-urlencoded", f"a={percent}&{percent}=b&c={secret}"),
        ("text/plain", secret),
        ("text/plain", f'["{escaped}"]'),
    ):
        stored = _stored(body.encode(), media_type, **PATTERNS)
        assert stored is not None
        for spelling in (secret, escaped, percent, "joe", "x.de", "x\\u002e"):
            assert spelling.encode() not in stored
