"""Entries, canonical JSON, times: one spelling each, and a refusal of any other."""

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.errors import AuditLogError, MalformedError
from auditlog.core.record import (
    ENTRY_TYPES,
    MAX_DEPTH,
    MAX_ENTRY,
    MAX_INTEGER,
    Entry,
    canonical_json,
    format_entry,
    format_id,
    format_time,
    nested_deeper,
    parse_entry,
    parse_id,
    parse_json,
    parse_time,
)
from tests.receipts import TIME, make_decision, make_id
from tests.vectorset import public, public_files

INTEGERS = st.integers(-MAX_INTEGER, MAX_INTEGER)
SCALARS = st.none() | st.booleans() | INTEGERS | st.text()
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=20,
)
ASCII = st.text(st.characters(max_codepoint=127))


def nested(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = [value]
    return value


def reference(value: Any) -> str:
    """RFC 8785 for values without decimals, written the long way."""
    if isinstance(value, str):
        return '"' + "".join(map(escaped, value)) + '"'
    if isinstance(value, dict):
        ordered = sorted(value.items(), key=lambda pair: pair[0].encode("utf-16-be"))
        pairs = (f"{reference(name)}:{reference(item)}" for name, item in ordered)
        return "{" + ",".join(pairs) + "}"
    if isinstance(value, list):
        return "[" + ",".join(map(reference, value)) + "]"
    if value is None or isinstance(value, bool):
        return {True: "true", False: "false", None: "null"}[value]
    return str(value)


def escaped(char: str) -> str:
    short = {8: "b", 9: "t", 10: "n", 12: "f", 13: "r", 34: '"', 92: "\\"}
    if ord(char) in short:
        return "\\" + short[ord(char)]
    return f"\\u{ord(char):04x}" if char < " " else char


def gap(**changes: Any) -> Entry:
    fields = {"id": make_id(1), "type": "auditlog.gap.v1", "source": "log.example"}
    return Entry(**{**fields, "time": TIME, "data": {"a": 1}, **changes})


# --- canonical JSON -------------------------------------------------------------------


def jcs_inputs() -> list[str]:
    return ["arrays", "french", "structures", "unicode", "values", "weird"]


@pytest.mark.interop
@pytest.mark.parametrize("name", ["arrays", "french", "unicode", "weird"])
def test_public_jcs_vectors_agree(name: str) -> None:
    source = public(f"jcs/testdata/input/{name}.json")
    expected = public(f"jcs/testdata/output/{name}.json")
    assert canonical_json(parse_json(source, limit=10_000)) == expected
    assert parse_json(expected, limit=10_000) == json.loads(source)


@pytest.mark.interop
@pytest.mark.parametrize("name", ["structures", "values"])
def test_public_jcs_vectors_with_decimals_break_our_number_rule(name: str) -> None:
    source = public(f"jcs/testdata/input/{name}.json")
    with pytest.raises(MalformedError, match="expected integers as JSON numbers"):
        parse_json(source, limit=10_000)
    with pytest.raises(MalformedError, match="got a float; decimals are written as"):
        canonical_json(json.loads(source))


@pytest.mark.interop
def test_every_public_jcs_vector_is_covered() -> None:
    files = public_files("jcs/testdata/input", "*.json")
    assert [path.stem for path in files] == jcs_inputs()


@given(VALUES)
def test_canonical_json_agrees_with_the_long_way(value: Any) -> None:
    data = canonical_json(value)
    assert data == reference(value).encode()
    assert parse_json(data, limit=len(data)) == value


def test_keys_sort_by_utf16_code_units() -> None:
    value = {"\ufb33": 1, "\U0001f600": 2, "a": 3}
    expected = '{"a":3,"\U0001f600":2,"\ufb33":1}'
    assert canonical_json(value) == expected.encode()


def test_tuples_are_lists() -> None:
    assert canonical_json((1, [2], "x", None, True)) == b'[1,[2],"x",null,true]'


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (1.0, "got a float"),
        (float("nan"), "got a float"),
        (b"x", "got a bytes"),
        ({1, 2}, "got a set"),
        ([1, {"a": 1.5}], "got a float"),
        (MAX_INTEGER + 1, "integers up to 2"),
        (-MAX_INTEGER - 1, "integers up to 2"),
        ({1: 2}, "strings as JSON object keys"),
        ({"a": 1, None: 2}, "strings as JSON object keys"),
        ("\ud800", "no lone surrogate in JSON"),
        (["\udfff"], "no lone surrogate in JSON"),
        ({"\ud800": 1}, "no lone surrogate in JSON"),
        (nested(MAX_DEPTH + 1), "at most 64 containers deep"),
        (nested(5000), "at most 64 containers deep"),
    ],
)
def test_what_canonical_json_cannot_write_is_refused(value: Any, message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        canonical_json(value)


def test_64_containers_are_not_too_deep() -> None:
    data = canonical_json(nested(MAX_DEPTH))
    assert data == b"[" * 64 + b"1" + b"]" * 64
    assert parse_json(data, limit=200) == nested(MAX_DEPTH)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "expected JSON"),
        (b"{", "expected JSON"),
        (b"{} {}", "expected JSON"),
        (b"[1,]", "expected JSON"),
        (b"[01]", "expected JSON"),
        (b"'a'", "expected JSON"),
        (b'"\x01"', "expected JSON"),
        (b"\xef\xbb\xbf{}", "expected JSON"),
        (b'"\xff"', "expected JSON in UTF-8"),
        (b'"\xed\xa0\x80"', "expected JSON in UTF-8"),
        (b"{}".decode().encode("utf-16"), "expected JSON"),
        (b"NaN", "integers as JSON numbers"),
        (b"[-Infinity]", "integers as JSON numbers"),
        (b"1.0", "integers as JSON numbers"),
        (b"1e3", "integers as JSON numbers"),
        (b"9007199254740992", "integers up to 2"),
        (b"-9007199254740992", "integers up to 2"),
        (b"9" * 5000, "integers up to 2"),
        (b'{"a":1,"a":2}', "unique names"),
        (b'{"a":1,"\\u0061":2}', "unique names"),
        (b'[{"b":{"a":1,"a":1}}]', "unique names"),
        (b'"\\ud800"', "lone surrogate"),
        (b'{"\\uDFFF":1}', "lone surrogate"),
        (b"[" * 65 + b"]" * 65, "64 containers deep"),
        (b"[" * 100_000, "64 containers deep"),
        (b'{"a":' * 100_000, "64 containers deep"),
        (b" " * 200_000 + b"1", "at most 200000 bytes of JSON, got 200001"),
    ],
    ids=repr,
)
def test_what_is_not_strict_json_is_refused(data: bytes, message: str) -> None:
    with pytest.raises(MalformedError, match=message):
        parse_json(data, limit=200_000 if b"  " in data else 600_000)


@pytest.mark.parametrize(
    "data",
    [b' {"a":1}', b'{"a": 1}', b'{"b":1,"a":1}', b"-0", b'"\\u0061"', b'"\\/"', b"1\n"],
)
def test_another_spelling_is_not_canonical(data: bytes) -> None:
    assert canonical_json(parse_json(data, limit=100)) != data


def test_brackets_in_strings_do_not_nest() -> None:
    data = json.dumps(["[{" * 100, '"[' * 100, "\\"]).encode()
    assert not nested_deeper(data, 1)
    assert parse_json(data, limit=2000)[1] == '"[' * 100


@given(VALUES, st.integers(0, 5))
def test_nesting_is_counted_exactly(value: Any, limit: int) -> None:
    def depth(value: Any) -> int:
        if isinstance(value, dict):
            return 1 + max(map(depth, value.values()), default=0)
        if isinstance(value, list):
            return 1 + max(map(depth, value), default=0)
        return 0

    data = json.dumps(value).encode()
    assert nested_deeper(data, limit) == (depth(value) > limit)


@pytest.mark.parametrize("unit", [b'\\"', b'"', b"\\", b"[{", b'"\\'])
def test_hostile_text_costs_linear_time(unit: bytes) -> None:
    data = b"[" * 65 + b'"' + unit * 500_000
    assert nested_deeper(data, MAX_DEPTH)  # minutes, were it quadratic


@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_give_json_or_our_error(data: bytes) -> None:
    try:
        value = parse_json(data, limit=1000)
    except AuditLogError:
        return
    assert json.loads(data) == value


# --- times and ids --------------------------------------------------------------------


@given(st.integers(0, 253_402_300_799_999_999))
def test_times_round_trip(us: int) -> None:
    assert parse_time(format_time(us)) == us


def test_times_look_like_rfc_3339() -> None:
    assert format_time(0) == "1970-01-01T00:00:00.000000Z"
    assert format_time(253_402_300_799_999_999) == "9999-12-31T23:59:59.999999Z"
    assert format_time(1_709_210_096_000_001) == "2024-02-29T12:34:56.000001Z"


@pytest.mark.parametrize("us", [-1, 253_402_300_800_000_000, 10**30])
def test_times_have_a_range(us: int) -> None:
    with pytest.raises(MalformedError, match="expected a time from 1970 to 9999"):
        format_time(us)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-11-23T08:00:00Z",
        "2026-11-23T08:00:00.000Z",
        "2026-11-23T08:00:00.000000",
        "2026-11-23T08:00:00.000000+00:00",
        "2026-11-23T08:00:00.000000z",
        "2026-11-23t08:00:00.000000Z",
        "2026-11-23 08:00:00.000000Z",
        "2026-11-23T08:00:00.000000Z\n",
        "2026-11-23T08:00:60.000000Z",
        "2026-11-23T24:00:00.000000Z",
        "2026-02-29T08:00:00.000000Z",
        "2026-13-01T08:00:00.000000Z",
        "0000-01-01T00:00:00.000000Z",
        "1969-12-31T23:59:59.999999Z",
        "٢٠٢٦-11-23T08:00:00.000000Z",
    ],
)
def test_times_have_one_spelling(text: str) -> None:
    with pytest.raises(MalformedError, match=r"expected a time (such as|from 1970)"):
        parse_time(text)


def test_ids_are_uuids_of_version_7() -> None:
    id_ = bytes.fromhex("0190aaaabbbb7ccc8ddd0123456789ab")
    assert format_id(id_) == "0190aaaa-bbbb-7ccc-8ddd-0123456789ab"
    assert parse_id(format_id(id_)) == id_


@pytest.mark.parametrize(
    "text", ["", "4ccc-8ddd", "7ccc-7ddd", "7CCC-8ddd", "7ccc-cddd"]
)
def test_other_ids_are_refused(text: str) -> None:
    whole = f"0190aaaa-bbbb-{text}-0123456789ab"
    with pytest.raises(MalformedError, match="expected a UUIDv7 in lower case"):
        parse_id(whole)
    with pytest.raises(MalformedError, match="expected a UUIDv7"):
        format_id(bytes.fromhex(whole.replace("-", ""))[:16] if text.islower() else b"")


# --- entries --------------------------------------------------------------------------


def test_an_entry_is_a_canonical_cloudevent() -> None:
    entry = gap(data={"b": [1, "x", None, True], "a": {"from": 0, "to": 3}})
    data = format_entry(entry)
    assert data == (
        b'{"data":{"a":{"from":0,"to":3},"b":[1,"x",null,true]},'
        b'"id":"%b","source":"log.example","specversion":"1.0",'
        b'"time":"2026-11-18T11:06:40.000000Z","type":"auditlog.gap.v1"}'
        % format_id(entry.id).encode()
    )
    assert reference(json.loads(data)).encode() == data
    assert parse_entry(data) == entry


def test_a_decision_carries_its_subject_tag() -> None:
    data = make_decision().entry
    entry = parse_entry(data)
    assert entry.subject is not None
    assert f'"subject":"{entry.subject}"'.encode() in data
    assert format_entry(entry) == data
    with pytest.raises(MalformedError, match="expected a subject tag in a decision"):
        format_entry(replace(entry, subject=None))


@given(
    st.sampled_from(sorted(ENTRY_TYPES)),
    st.dictionaries(
        ASCII,
        st.recursive(
            SCALARS, lambda x: st.lists(x) | st.dictionaries(ASCII, x), max_leaves=9
        ),
    ),
    st.integers(0, 2**53),
    st.text(min_size=1),
)
def test_entries_round_trip(
    type_: str, data: dict[str, Any], time: int, source: str
) -> None:
    entry = Entry(make_id(0), type_, source, time, data, "A" * 22 + "==")
    assert parse_entry(format_entry(entry)) == entry


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"type": "auditlog.gap.v2"}, "expected an entry type of ours"),
        ({"type": ""}, "expected an entry type of ours"),
        ({"source": ""}, "expected the log's origin"),
        ({"source": "\ud800"}, "lone surrogate"),
        ({"id": b""}, "expected a UUIDv7"),
        ({"id": bytes(16)}, "expected a UUIDv7"),
        ({"id": make_id(0) + b"x"}, "expected a UUIDv7"),
        ({"time": -1}, "expected a time from 1970"),
        ({"subject": ""}, "expected 16 bytes in padded base64url"),
        ({"subject": "A" * 22}, "expected 16 bytes in padded base64url"),
        ({"subject": "A" * 21 + "B=="}, "expected 16 bytes in padded base64url"),
        ({"subject": "A" * 21 + "+g=="}, "expected 16 bytes in padded base64url"),
        ({"data": []}, "expected a dict as data"),
        ({"data": {"é": 1}}, "expected ASCII keys"),
        ({"data": {"a": {"\U0001f600": 1}}}, "expected ASCII keys"),
        ({"data": {"a": 0.5}}, "got a float"),
        ({"data": {"a": nested(63)}}, "64 containers deep"),
        ({"data": {"a": "x" * MAX_ENTRY}}, "an entry of at most 65535 bytes"),
    ],
    ids=repr,
)
def test_what_no_entry_may_hold_is_refused(
    changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(MalformedError, match=message):
        format_entry(gap(**changes))


def test_the_largest_entry_is_65535_bytes() -> None:
    spare = MAX_ENTRY - len(format_entry(gap(data={"a": ""})))
    data = format_entry(gap(data={"a": "x" * spare}))
    assert len(data) == MAX_ENTRY
    assert len(parse_entry(data).data["a"]) == spare
    with pytest.raises(MalformedError, match="at most 65535 bytes, got 65536"):
        format_entry(gap(data={"a": "x" * (spare + 1)}))
    with pytest.raises(MalformedError, match="at most 65535 bytes of JSON, got 65536"):
        parse_entry(data + b" ")


def test_entries_with_other_fields_are_refused() -> None:
    event = json.loads(format_entry(gap()))
    for name in event:
        fewer = {key: value for key, value in event.items() if key != name}
        with pytest.raises(MalformedError, match="an entry with the fields data, id"):
            parse_entry(canonical_json(fewer))
    with pytest.raises(MalformedError, match=r"type, subject$"):
        parse_entry(canonical_json({**event, "datacontenttype": "application/json"}))
    with pytest.raises(MalformedError, match="an entry with the fields data, id"):
        parse_entry(b"[]")


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("specversion", "1.1", "expected a canonical entry"),
        ("specversion", 1, "expected str as specversion of an entry, got int"),
        ("time", 5, "expected str as time of an entry, got int"),
        ("type", None, "expected str as type of an entry, got None"),
        ("subject", None, "expected str as subject of an entry, got None"),
        ("id", [], "expected str as id of an entry, got list"),
        ("source", {}, "expected str as source of an entry, got dict"),
        ("time", "2026-11-18T11:06:40Z", "expected a time such as"),
        ("id", "x", "expected a UUIDv7"),
        ("data", "x", "expected dict as data of an entry, got str"),
        ("data", {"é": 1}, "expected ASCII keys"),
    ],
)
def test_entries_with_other_values_are_refused(
    name: str, value: Any, message: str
) -> None:
    event = {**json.loads(format_entry(gap())), name: value}
    with pytest.raises(MalformedError, match=message):
        parse_entry(canonical_json(event))


def test_entries_have_one_spelling() -> None:
    data = format_entry(gap())
    for other in (data + b"\n", b" " + data, data.replace(b":1}", b": 1}")):
        with pytest.raises(MalformedError, match="expected a canonical entry"):
            parse_entry(other)


@given(st.binary() | st.text().map(str.encode))
def test_any_bytes_give_an_entry_or_our_error(data: bytes) -> None:
    with pytest.raises(AuditLogError):
        parse_entry(data)


@given(st.data())
def test_a_damaged_entry_is_another_entry_or_our_error(data: st.DataObject) -> None:
    entry = make_decision().entry
    at = data.draw(st.integers(0, len(entry) - 1))
    damaged = entry[:at] + data.draw(st.binary(max_size=2)) + entry[at + 1 :]
    try:
        parsed = parse_entry(damaged)
    except AuditLogError:
        return
    assert format_entry(parsed) == damaged
