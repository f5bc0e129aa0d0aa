"""JSON is redacted where it stands, and nothing else of it changes."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.capture.redaction.json_document import redact_json
from auditlog.capture.redaction.rules import Rules, TextRedactor, parse_rules
from auditlog.capture.redaction.text import FailedRedactorError
from auditlog.core.commitment import members
from tests.capture.redaction.naive import Object, naive_redact, parse, strings
from tests.json_texts import bodies

CARD = "4111111111111111"
RULES = parse_rules(
    keys=["ssn"],
    fields=["/a/*/b", "request/data/0"],
    patterns=[r"canary[0-9]+|[0-9]{3}-[0-9]{2}"],
)


def _redact(body: str | bytes, *, cut: bool = False, **rules: Any) -> str | None:
    made: Rules = parse_rules(**rules)
    data = body.encode() if isinstance(body, str) else body
    stored = redact_json(made, data, made.places["request"], cut=cut)
    return None if stored is None else stored.decode()


# --- by name and by place -------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "stored"),
    [
        ('{"ssn":"123"}', '{"ssn":"[redacted]"}'),
        ('{"SSN" : 123 }', '{"SSN" : "[redacted]" }'),
        ('{"s_s_n":-1.5e3, "b":2}', '{"s_s_n":"[redacted]", "b":2}'),
        ('{"ssn":null}', '{"ssn":"[redacted]"}'),
        ('{"ssn":[1,{"x":"]}"}] ,"b":[]}', '{"ssn":"[redacted]" ,"b":[]}'),
        ('{"ssn":{"ssn":{}}}', '{"ssn":"[redacted]"}'),
        ('{"ss\\u006e":"123"}', '{"ss\\u006e":"[redacted]"}'),
        ('[[{"a":[{"ssn":""}]}]]', '[[{"a":[{"ssn":"[redacted]"}]}]]'),
        ('{"ssn":1,"ssn":2}', '{"ssn":"[redacted]","ssn":"[redacted]"}'),
        ('{"a":"ssn","ssn ":1}', '{"a":"ssn","ssn ":"[redacted]"}'),
        ('{"a":["ssn", ": ", "b"]}', '{"a":["ssn", ": ", "b"]}'),
        ('"ssn"', '"ssn"'),
    ],
)
def test_the_value_of_a_key_goes_whatever_it_is(body: str, stored: str) -> None:
    assert _redact(body, keys=["ssn"]) == stored


@pytest.mark.parametrize(
    ("field", "body", "stored"),
    [
        ("/a", '{"a":1,"b":{"a":2}}', '{"a":"[redacted]","b":{"a":2}}'),
        ("request/a/b", '{"a":{"b":[1]}}', '{"a":{"b":"[redacted]"}}'),
        ("response/a", '{"a":1}', '{"a":1}'),
        ("/1", "[1,2,3]", '[1,"[redacted]",3]'),
        ("/0/x", '[{"x":1},{"x":2}]', '[{"x":"[redacted]"},{"x":2}]'),
        (
            "/*/x",
            '[{"x":1},[5],{"x":2}]',
            '[{"x":"[redacted]"},[5],{"x":"[redacted]"}]',
        ),
        ("/a/*", '{"a":{"x":1,"y":[2]}}', '{"a":{"x":"[redacted]","y":"[redacted]"}}'),
        ("/a~1b/~0", '{"a/b":{"~":1}}', '{"a/b":{"~":"[redacted]"}}'),
        ("/", '{"":1,"a":2}', '{"":"[redacted]","a":2}'),
        ("/a", '{"\\u0061":1}', '{"\\u0061":"[redacted]"}'),
        ("/a", '{"A":1}', '{"A":1}'),
        ("/a/00", '{"a":[1]}', '{"a":[1]}'),
        ("/a/b", '{"a":"b"}', '{"a":"b"}'),
    ],
)
def test_the_value_at_a_place_goes(field: str, body: str, stored: str) -> None:
    assert _redact(body, fields=[field]) == stored


# --- by what it says ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "stored"),
    [
        ('["a joe@x.de b"]', '["a [redacted] b"]'),
        ('["joe\\u0040x.de"]', '["[redacted]"]'),
        ('["\\n\\"joe@x.de\\"\\u00e9"]', '["\\n\\"[redacted]\\"\\u00e9"]'),
        ('["é joe@x.de"]', '["é [redacted]"]'),
        ('["\\ud800 joe@x.de","é"]', '["\\ud800 [redacted]","é"]'),
        ('["joe@","x.de"]', '["joe@","x.de"]'),
        ('{"joe@x.de":1}', '{"[redacted]":1}'),
        ('{"joe\\u0040x.de":{"b":1}}', '{"[redacted]":{"b":1}}'),
        (
            '{"a@x.de":1,"b@x.de":2,"[redacted:2]":3}',
            '{"[redacted]":1,"[redacted:3]":2,"[redacted:2]":3}',
        ),
    ],
)
def test_a_match_in_what_a_string_says_goes(body: str, stored: str) -> None:
    assert _redact(body, patterns=["email"]) == stored


@pytest.mark.parametrize(
    "number",
    [
        CARD,
        f"-{CARD}",
        f"{CARD}.0",
        f"{CARD}.000",
        "4.111111111111111e15",
        "41111111.11111111E8",
        "41111111111111110E-1",
    ],
)
def test_a_number_goes_by_its_digits_however_they_are_written(number: str) -> None:
    assert _redact(f'{{"n": {number} }}', patterns=["card"]) == '{"n": "[redacted]" }'


@pytest.mark.parametrize(
    "number",
    [
        "0.4111111111111111",
        "1e99999999999999",
        "1E-400",
        "1" * 5_000,
        "true",
        "null",
        "-0",
    ],
)
def test_a_number_that_no_pattern_matches_stays_as_it_is(number: str) -> None:
    assert _redact(f"[{number}]", patterns=["card"]) == f"[{number}]"


@pytest.mark.parametrize("pattern", ["^abc$", "abc$", r"\Aabc", "(?<!x)abc", "abc"])
def test_a_pattern_sees_one_string_and_not_the_document(pattern: str) -> None:
    body = '{"k": "abc", "n": ["abc"]}'
    stored = '{"k": "[redacted]", "n": ["[redacted]"]}'
    assert _redact(body, patterns=[pattern]) == stored
    assert _redact('["ab","c"]', patterns=[pattern]) == '["ab","c"]'


# --- JSON in JSON ---------------------------------------------------------------------


def test_a_text_of_json_within_a_string_is_read_as_json() -> None:
    arguments = json.dumps({"ssn": {"x": 1}, "to": "joe@x.de", "n": 5})
    body = json.dumps({"tool": {"arguments": f" {arguments}"}})
    stored = _redact(body, keys=["ssn"], patterns=["email"])
    assert stored is not None
    inner = json.loads(json.loads(stored)["tool"]["arguments"])
    assert inner == {"ssn": "[redacted]", "to": "[redacted]", "n": 5}


def test_an_unfinished_text_of_json_within_a_string_is_read_too() -> None:
    body = json.dumps({"arguments": '{"a": "an answer that st", "ssn": "12'})
    stored = _redact(body, keys=["ssn"], patterns=["card"])
    assert stored == json.dumps(
        {"arguments": '{"a": "an answer that st", "ssn": "[redacted]"'}
    )


def test_texts_of_json_in_each_other_end_somewhere() -> None:
    text = json.dumps({"ssn": "canary1"})
    for level in range(12):
        stored = _redact(text, keys=["ssn"])
        assert stored is not None
        assert "canary1" not in stored, level
        text = json.dumps({"t": text})


def test_prose_that_begins_as_json_does_is_prose() -> None:
    body = json.dumps(["[1] see joe@x.de", "{curly} joe@x.de", "[joe@x.de]"])
    stored = _redact(body, keys=["ssn"], patterns=["email"])
    assert stored is not None
    assert json.loads(stored) == [
        "[1] see [redacted]",
        "{curly} [redacted]",
        "[[redacted]]",
    ]


@pytest.mark.parametrize(
    ("text", "stored"),
    [
        (
            'Here: ```json\n{"ssn": "1 2", "n": 5}\n```',
            'Here: ```json\n{"ssn": "[redacted]", "n": 5}\n```',
        ),
        ("it was {'ssn': 12, 'n': 5}", "it was {'ssn': \"[redacted]\", 'n': 5}"),
        ("no: \"ssn\", 'ssn'", "no: \"ssn\", 'ssn'"),
        ('half: {"ssn": "1 2', 'half: {"ssn": "[redacted]"'),
    ],
)
def test_prose_goes_behind_a_key_in_quotes(text: str, stored: str) -> None:
    body = json.dumps([text], ensure_ascii=False)
    assert _redact(body, keys=["ssn"]) == json.dumps([stored], ensure_ascii=False)


# --- callables ------------------------------------------------------------------------


def test_a_callable_sees_every_string_name_and_number_as_it_is_meant() -> None:
    seen: list[str] = []

    def see(text: str) -> str:
        seen.append(text)
        return text

    body = '{"n\\u0061me": ["\\u00e9", 12, true, "{\\"x\\": 1}"]}'
    assert _redact(body, redactors=[see]) == body
    assert sorted(seen) == ["1", "12", "name", "x", "é"]


def test_what_a_callable_returns_stands_instead() -> None:
    def shout(text: str) -> str:
        return text.replace("joe", "<PERSON>")

    assert _redact('["hi joe", "ann"]', redactors=[shout]) == '["hi <PERSON>", "ann"]'


def _raises(text: str) -> str:
    raise ValueError(text)


@pytest.mark.parametrize(
    ("redactor", "message"),
    [
        (_raises, "^ValueError$"),
        (lambda _: None, "^expected a text, got NoneType$"),
        (lambda text: text.encode(), "^expected a text, got bytes$"),
    ],
)
def test_a_callable_that_fails_says_nothing_of_the_text(
    redactor: TextRedactor, message: str
) -> None:
    with pytest.raises(FailedRedactorError, match=message):
        _redact('["secret"]', redactors=[redactor])


# --- what is no JSON ------------------------------------------------------------------


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b" ",
        b"nothing",
        b'{"a":1,}',
        b"{'ssn':1}",
        b'{"a":1}}',
        b'{"a":1} {',
        b'{"a":1}{"b":2}',
        b'{"a" "b"}',
        b'{"a":NaN}',
        b"[Infinity]",
        b'{"a":01}',
        b'{"a":"\t"}',
        b'{"a":"\\x"}',
        b'{"a":"\\u12g4"',
        b'{"a":"\\x',
        b'{"a":1]',
        b'{"a":t ',
        b'{"a":nul1',
        b'{"a":1.e',
        b'\xef\xbb\xbf{"a":1}',
        b'{"a":"\xff"}',
        b'{"a":1}\xc3',
        b"[" * 65 + b"]" * 65,
        b"[" * 65,
        b"[" * 100_000,
    ],
)
def test_what_is_no_strict_json_cannot_be_read(body: bytes) -> None:
    assert _redact(body, keys=["ssn"], patterns=["email"]) is None


def test_json_as_deep_as_members_go_is_read() -> None:
    body = "[" * 63 + '{"ssn":1}' + "]" * 63
    assert _redact(body, keys=["ssn"]) == body.replace("1", '"[redacted]"')


# --- what was cut ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "stored"),
    [
        ('{"ssn": "12', '{"ssn": "[redacted]"'),
        ('{"ssn": 12', '{"ssn": "[redacted]"'),
        ('{"ssn": false', '{"ssn": "[redacted]"'),
        ('{"ssn": [1, {"a": "', '{"ssn": "[redacted]"'),
        ('{"ssn": ', '{"ssn": '),
        ('{"ssn"', '{"ssn"'),
        ('{"a": "b', '{"a": "b'),
        ('{"a": "b\\u00', '{"a": "b'),
        ('{"a": 12', '{"a": 12'),
        ('{"a": [1,', '{"a": [1,'),
        ('{"a": "{\\"ssn\\": \\"12', '{"a": "{\\"ssn\\": \\"[redacted]\\""'),
        ('{"a": "{\\"ssn\\": \\"12\\', '{"a": "{\\"ssn\\": \\"[redacted]\\""'),
    ],
)
def test_of_what_was_cut_keys_go_as_far_as_there_is_anything(
    body: str, stored: str
) -> None:
    assert _redact(body, keys=["ssn"]) == stored


@pytest.mark.parametrize(
    ("body", "stored"),
    [
        ('{"a": "joe@', '{"a": "[redacted]"'),
        ('{"a": ["x", 4111', '{"a": ["x", "[redacted]"'),
        ('{"jo', '{"[redacted]"'),
        ('{"a": "joe@x.de", "b": tr', '{"a": "[redacted]", "b": tr'),
        ('{"a": "joe@x.de"', '{"a": "[redacted]"'),
    ],
)
def test_of_what_was_cut_the_text_at_the_cut_goes(body: str, stored: str) -> None:
    assert _redact(body, patterns=["email"]) == stored


def test_a_long_text_at_the_cut_is_kept_but_for_its_end() -> None:
    body = '{"prompt": "' + "word joe@x.de " * 2_000 + "4111"
    stored = _redact(body, patterns=["email"])
    assert stored is not None
    assert stored.startswith('{"prompt": "word [redacted] word')
    assert len(stored) > 20_000
    assert "joe" not in stored
    assert "4111" not in stored


def test_a_number_alone_may_be_one_that_was_cut() -> None:
    assert _redact("4111", patterns=["card"]) == "4111"
    assert _redact("4111", patterns=["card"], cut=True) == '"[redacted]"'


def test_half_a_character_shows_that_it_was_cut() -> None:
    assert _redact('["é'.encode()[:-1], keys=["ssn"]) == '["'


# --- properties -----------------------------------------------------------------------


def _stored(body: bytes, *, cut: bool = False) -> bytes | None:
    return redact_json(RULES, body, RULES.places["request"], cut=cut)


def _with_secrets(body: str) -> str:
    """Make secrets of what is often in these bodies, spelled in ways that differ."""
    for plain, secret in (
        ('"data"', '"ssn"'),
        ('"b"', '"\\u0053sn"'),
        ('"x"', '"a canary1 b"'),
        ('"é"', '"c\\u0061nary2"'),
        ("1.50", "111-22"),
        ('"\\\\"', '"é canary3"'),
    ):
        body = body.replace(plain, secret)
    return body


SECRETS = st.builds(lambda body: body.decode(errors="replace"), bodies()).map(
    _with_secrets
)


def _nests(value: Any) -> bool:
    """Whether a string would be read as JSON itself, which is not compared here."""
    return any(text.lstrip(" \t\r\n")[:1] in ("{", "[") for text in strings(value))


@given(bodies().map(lambda body: body.decode(errors="replace")) | SECRETS)
def test_it_says_what_the_plain_way_to_redact_says(text: str) -> None:
    try:
        value = parse(text)
    except ValueError:
        return
    stored = _stored(text.encode())
    assert stored is not None
    if not _nests(value) and not any("canary" in name for name in _names(value)):
        assert parse(stored) == naive_redact(value)
    assert not any("canary" in one for one in strings(parse(stored)))


def _names(value: Any) -> list[str]:
    if isinstance(value, Object):
        return [s for name, one in value.pairs for s in (name, *_names(one))]
    return [s for one in value for s in _names(one)] if isinstance(value, list) else []


@given(SECRETS)
def test_a_member_that_no_rule_touches_keeps_its_bytes(text: str) -> None:
    before = members("request", text.encode(), 8)
    stored = _stored(text.encode())
    if before is None or stored is None:
        return
    after = members("request", stored, 8)
    assert after is not None
    kept = dict(after)
    for path, value in before:
        parsed = parse(value)
        renamed = any("canary" in name for name in [path, *_names(parsed)])
        same = naive_redact(parsed, tuple(_steps(path))) == parsed
        if path in kept and same and not renamed and not _nests(parsed):
            gone = kept[path] == b'"[redacted]"'  # by its own name or place
            assert gone or kept[path] == value


def _steps(path: str) -> list[str]:
    return [step.replace("~1", "/").replace("~0", "~") for step in path.split("/")[1:]]


@given(SECRETS)
def test_what_is_redacted_stays_as_it_is(text: str) -> None:
    stored = _stored(text.encode())
    if stored is not None:
        assert _stored(stored) == stored


@given(bodies())
def test_without_anything_to_take_out_the_bytes_are_the_same(body: bytes) -> None:
    rules = parse_rules(keys=["not there"], fields=["/nor/this"], patterns=["☃{3}"])
    try:
        parse(body.decode())
    except ValueError:
        return
    assert redact_json(rules, body, rules.places["request"]) == body


@given(bodies() | SECRETS.map(str.encode), st.data())
def test_damaged_bodies_give_bytes_or_none_and_never_a_secret(
    body: bytes, data: st.DataObject
) -> None:
    at = data.draw(st.integers(0, len(body)))
    put = data.draw(
        st.sampled_from([b"", b",", b'"', b"[", b"}", b"\\", b"0", b"\xc3"])
    )
    damaged = body[:at] + put + body[at + data.draw(st.integers(0, 2)) :]
    stored = _stored(damaged, cut=data.draw(st.booleans()))
    assert stored is None or b"canary1" not in stored


@given(SECRETS, st.data())
def test_a_cut_anywhere_shows_no_start_of_a_secret(
    text: str, data: st.DataObject
) -> None:
    body = text.encode()
    size = data.draw(st.integers(0, len(body)))
    stored = _stored(body[:size], cut=True)
    if stored is None:
        return
    assert b"canary" not in stored
    assert _stored(stored, cut=True) == stored


def test_a_cut_at_every_byte_of_a_rich_body() -> None:
    arguments = json.dumps({"ssn": "QQQ", "m": "canary7 \u00e9"})
    body = json.dumps(
        {"ssn": ["QQQ"], "x": "é canary77 \n", "a": [{"b": "QQQ", "c": arguments}],
         "n": 5, "y": ["canary7", {"canary8": True}], "data": ["QQQ"]},
        ensure_ascii=False,
    ).encode()  # fmt: skip
    assert _stored(body) is not None
    for size in range(1, len(body)):
        stored = _stored(body[:size], cut=True)
        assert stored is not None
        assert b"Q" not in stored
        assert b"can" not in stored


@given(st.binary(max_size=80), st.booleans())
def test_any_bytes_give_bytes_or_none(body: bytes, cut: bool) -> None:
    stored = _stored(body, cut=cut)
    assert stored is None or isinstance(stored, bytes)


@pytest.mark.parametrize(
    "piece", ["a", '"', "\\", "[", "{", '{"a":', "1", "1,", '"a",', " ", '\\"', "\\u"]
)
@pytest.mark.parametrize("start", ["", "[", '{"a": "', '["'])
def test_no_body_takes_more_than_time_in_its_length(start: str, piece: str) -> None:
    # Were anything quadratic here, this would take a minute.
    body = start + piece * (100_000 // len(piece))
    _stored(body.encode())
