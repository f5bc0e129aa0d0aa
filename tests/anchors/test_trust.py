"""The trust file: what it may say, and that it fails closed."""

import base64
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.anchors.trust import (
    MAX_TRUST,
    Authority,
    Bitcoin,
    Chain,
    Revocation,
    Trust,
    parse_trust,
)
from auditlog.core.errors import MalformedError

ROOT = base64.b64encode(bytes(32)).decode()
AUTHORITY = {"party": "TSA A", "policy": "1.2.3", "root": "a certificate"}
CHAIN: dict[str, Any] = {
    "party": "Ethereum",
    "chain_id": 1,
    "contract": "0x" + "ab" * 20,
    "senders": ["0x" + "cd" * 20],
    "blocks": ["0x" + "ef" * 32],
}
BITCOIN: dict[str, Any] = {"party": "Bitcoin", "headers": {"7": "00" * 80}}
REVOKED: dict[str, Any] = {
    "key": "bank.example/credit+1a2b3c4d",
    "size": 4,
    "root": ROOT,
}
UNTIL = datetime(2031, 1, 1, tzinfo=UTC)
UNTIL_US = 1_924_992_000_000_000
TABLES = {
    "authority": AUTHORITY,
    "chain": CHAIN,
    "bitcoin": BITCOIN,
    "revoked": REVOKED,
}


def toml(value: Any) -> str:
    """Write a value in TOML, for tables of ours."""
    match value:
        case bool():
            return str(value).lower()
        case str():
            plain = value.replace("\\", "\\\\").replace('"', '\\"')
            return '"' + plain.replace("\n", "\\n") + '"'
        case list():
            return f"[{', '.join(map(toml, value))}]"
        case dict():
            inside = ", ".join(
                f"{toml(key)} = {toml(one)}" for key, one in value.items()
            )
            return f"{{ {inside} }}"
        case datetime():
            return value.isoformat()
        case _:
            return str(value)


def file_of(*tables: tuple[str, dict[str, Any]]) -> str:
    lines = []
    for name, table in tables:
        lines.append(f"[[{name}]]")
        lines += [f"{key} = {toml(value)}" for key, value in table.items()]
    return "\n".join(lines) + "\n"


def test_everything_that_it_may_say() -> None:
    more = {"intermediates": ["b", "c"], "revoked": ["d"], "until": UNTIL}
    text = file_of(
        ("authority", AUTHORITY | more),
        ("chain", CHAIN | {"until": UNTIL}),
        ("bitcoin", BITCOIN | {"headers": {"9": "11" * 80, "7": "00" * 80}}),
        ("revoked", REVOKED | {"before": UNTIL}),
    )
    assert parse_trust(text) == Trust(
        (Authority("TSA A", "1.2.3", "a certificate", ("b", "c"), ("d",), UNTIL_US),),
        (
            Chain(
                "Ethereum", 1, b"\xab" * 20, (b"\xcd" * 20,), (b"\xef" * 32,), UNTIL_US
            ),
        ),
        (Bitcoin("Bitcoin", ((7, bytes(80)), (9, b"\x11" * 80))),),
        (Revocation("bank.example/credit+1a2b3c4d", 4, bytes(32), UNTIL_US),),
    )


def test_an_empty_file_trusts_nobody() -> None:
    assert parse_trust("") == parse_trust("# nobody\n") == Trust()


def test_the_example_of_the_documentation() -> None:
    text = (
        '[[authority]]\nparty = "TSA of Example"\npolicy = "1.2.3.4.1"\n'
        "until = 2031-01-01T01:00:00+01:00\n"
        "root = '''-----BEGIN CERTIFICATE-----\nAAAA\n'''\n"
    )
    (authority,) = parse_trust(text).authorities
    assert authority.until == UNTIL_US
    assert authority.root.startswith("-----BEGIN CERTIFICATE-----\n")


def test_hex_may_be_upper_case_as_addresses_are() -> None:
    chain = CHAIN | {"contract": "0x" + "AB" * 20}
    assert parse_trust(file_of(("chain", chain))).chains[0].contract == b"\xab" * 20


def test_several_tables_of_one_party_are_one_party() -> None:
    text = file_of(
        ("authority", AUTHORITY), ("authority", AUTHORITY | {"policy": "1.2.4"})
    )
    assert {one.party for one in parse_trust(text).authorities} == {"TSA A"}


def test_tables_are_taken_apart_by_their_end() -> None:
    text = file_of(
        ("authority", AUTHORITY | {"until": UNTIL}),
        ("authority", AUTHORITY | {"policy": "1.2.4"}),
        ("chain", CHAIN | {"until": UNTIL}),
        ("bitcoin", BITCOIN | {"until": datetime(2032, 1, 1, tzinfo=UTC)}),
        ("revoked", REVOKED),
    )
    trust = parse_trust(text)
    lasting, later, until = trust.by_until()
    assert lasting == (None, Trust(authorities=trust.authorities[1:]))
    assert later == (trust.bitcoin[0].until, Trust(bitcoin=trust.bitcoin))
    assert until == (UNTIL_US, Trust(trust.authorities[:1], trust.chains))
    assert Trust().by_until() == []


# --- it fails closed ------------------------------------------------------------------


def refused(text: str, match: str) -> None:
    with pytest.raises(MalformedError, match=match):
        parse_trust(text)


@pytest.mark.parametrize(
    "text",
    ["x", "[[authority]", "a = 1\na = 2", '[[authority]]\nparty = "\x00"', "\ufeff"],
    ids=range(5),
)
def test_what_is_no_toml(text: str) -> None:
    refused(text, r"^expected TOML as trust file: ")


def test_what_is_too_much() -> None:
    refused(f"a = {'[' * 100_000}", "expected TOML as trust file")
    refused(f"a = {'9' * 5_000}", "expected TOML as trust file")
    refused("#" * (MAX_TRUST + 1), "expected a trust file of up to 16777216 characters")
    with pytest.raises(MalformedError, match="expected a trust file of up to"):
        parse_trust(b"")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("[[authorities]]", "expected a trust file with the fields authority, bitcoin"),
        ("party = 1", "expected a trust file with the fields"),
        ("[authority]", "expected list as authority of a trust file, got dict"),
        ("authority = [1]", "authority 1: expected an authority with the fields"),
        ("revoked = 'x'", "expected list as revoked of a trust file, got str"),
    ],
    ids=range(5),
)
def test_unknown_tables(text: str, match: str) -> None:
    refused(text, match)


@pytest.mark.parametrize("name", TABLES)
def test_unknown_and_missing_keys_name_their_table(name: str) -> None:
    good = (name, TABLES[name])
    match = rf"^trust file, {name} 2: expected an? [a-z ]+ with the fields "
    other = {**TABLES[name], "more": 1}
    refused(file_of(good, (name, other)), match)
    for key in TABLES[name]:
        less = {one: value for one, value in TABLES[name].items() if one != key}
        refused(file_of(good, (name, less)), match)
    for key in TABLES[name]:
        refused(file_of((name, TABLES[name] | {key: 1.5})), f"as {key} of an? ")


@pytest.mark.parametrize(
    ("name", "change", "match"),
    [
        ("authority", {"party": ""}, "expected a printable name"),
        ("authority", {"party": "x" * 101}, "up to 100 letters"),
        ("authority", {"party": "a\tb"}, "expected a printable name"),
        ("authority", {"party": " TSA A"}, "with single spaces inside only"),
        ("authority", {"party": "TSA  A"}, "with single spaces inside only"),
        ("authority", {"party": "TSA\u00a0A"}, "expected a printable name"),
        ("authority", {"party": "TSA \u0041\u0308"}, "as party, in NFC"),
        ("authority", {"policy": "1"}, "expected an OID, got '1'"),
        ("authority", {"policy": "1.02"}, "expected an OID, got '1.02'"),
        ("authority", {"policy": "3.1"}, "expected an OID, got '3.1'"),
        ("authority", {"intermediates": [1]}, "expected a text, got int"),
        ("authority", {"revoked": [["x"]]}, "expected a text, got list"),
        ("authority", {"until": "2031"}, "expected datetime as until of an authority"),
        (
            "authority",
            {"until": datetime(2031, 1, 1)},  # noqa: DTZ001
            "expected a time with its offset",
        ),
        (
            "authority",
            {"until": datetime(1969, 12, 31, tzinfo=UTC)},
            "expected a time, since 1970, from 0",
        ),
        ("chain", {"chain_id": 0}, "expected a chain id from 1"),
        ("chain", {"chain_id": True}, "expected int as chain_id of a chain, got bool"),
        ("chain", {"contract": "ab" * 20}, r"expected 20 bytes in hex as 0x"),
        ("chain", {"contract": "0x" + "ab" * 19}, "expected 20 bytes in hex"),
        ("chain", {"contract": "0x" + "zz" * 20}, "expected 20 bytes in hex"),
        ("chain", {"contract": "0x" + "٣" * 40}, "expected 20 bytes in hex"),
        ("chain", {"senders": []}, "expected at least one sender, got none"),
        ("chain", {"senders": [7]}, "expected a text, got int"),
        ("chain", {"blocks": ["0x00"]}, "expected 32 bytes in hex"),
        (
            "bitcoin",
            {"headers": {"07": "00" * 80}},
            "expected a block height, got '07'",
        ),
        (
            "bitcoin",
            {"headers": {"-1": "00" * 80}},
            "expected a block height, got '-1'",
        ),
        ("bitcoin", {"headers": {"7": "00" * 79}}, "expected 80 bytes in hex"),
        ("bitcoin", {"headers": {"7": 7}}, "expected a text, got int"),
        ("revoked", {"key": "bank.example"}, r"expected a key as name\+id, got 'bank"),
        ("revoked", {"key": "a b+1a2b3c4d"}, r"expected a key as name\+id"),
        ("revoked", {"key": "a+1A2B3C4D"}, r"expected a key as name\+id"),
        ("revoked", {"size": -1}, "expected a size from 0"),
        ("revoked", {"root": "AAAA"}, "expected a hash of 32 bytes, got 3"),
        ("revoked", {"before": 7}, "expected datetime as before of a revocation"),
    ],
    ids=str,
)
def test_values_that_are_none(name: str, change: dict[str, Any], match: str) -> None:
    refused(
        file_of((name, TABLES[name] | change)), rf"^trust file, {name} 1: .*{match}"
    )


@pytest.mark.parametrize(
    ("first", "second", "what"),
    [
        (("authority", AUTHORITY), {"party": "TSA B"}, "authority"),
        (("authority", AUTHORITY), {"until": UNTIL}, "authority"),
        (("authority", AUTHORITY), {"root": "  a  certificate "}, "authority"),
        (("chain", CHAIN), {"party": "Another"}, "contract"),
        (("chain", CHAIN), {"contract": "0x" + "AB" * 20}, "contract"),
        (("bitcoin", BITCOIN), {"headers": {"7": "11" * 80}}, "block of a party"),
        (("revoked", REVOKED), {"size": 5}, "revoked key"),
    ],
    ids=range(7),
)
def test_one_thing_in_two_tables_could_be_read_in_two_ways(
    first: tuple[str, dict[str, Any]], second: dict[str, Any], what: str
) -> None:
    name, table = first
    match = f"^trust file: expected each {what} once, got one twice$"
    refused(file_of(first, (name, table | second)), match)
    refused(file_of((name, table | second), first), match)


def test_one_size_of_a_log_has_one_root_whichever_key_is_revoked() -> None:
    # Or every tree of that size would look like a fork.
    other = REVOKED | {"key": "bank.example/credit+00000000"}
    assert (
        len(parse_trust(file_of(("revoked", REVOKED), ("revoked", other))).revocations)
        == 2
    )
    root = base64.b64encode(b"\1" * 32).decode()
    refused(
        file_of(("revoked", REVOKED), ("revoked", other | {"root": root})),
        "^trust file: expected each size of a log, as last good, once, got one twice$",
    )


def pem(der: bytes, width: int = 64) -> str:
    text = base64.b64encode(der).decode()
    lines = "\n".join(text[at : at + width] for at in range(0, len(text), width))
    return f"-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n"


@pytest.mark.parametrize(
    ("name", "first", "second", "what"),
    [
        ("authority", {}, {"policy": "1.2.4"}, "root"),
        (
            "authority",
            {"root": pem(bytes(100))},
            {"policy": "1.2.4", "root": "Example CA\n" + pem(bytes(100), 76)},
            "root",
        ),
        ("chain", {}, {"contract": "0x" + "12" * 20}, "chain"),
        ("chain", {}, {"chain_id": 5}, "block"),
        ("bitcoin", {}, {"headers": {"8": "00" * 80}}, "Bitcoin chain"),
    ],
    ids=range(5),
)
def test_two_parties_that_are_one_would_let_one_liar_count_twice(
    name: str, first: dict[str, Any], second: dict[str, Any], what: str
) -> None:
    one, other = TABLES[name] | first, TABLES[name] | first | second
    text = file_of((name, one), (name, other | {"party": "Another"}))
    refused(
        text,
        rf"^trust file: expected one party for each {what}, got '{one['party']}' and "
        "'Another': they would count twice$",
    )
    assert parse_trust(file_of((name, one), (name, other))) != Trust()


def test_names_that_differ_in_case_only_would_be_two_parties() -> None:
    other = BITCOIN | {"party": "tsa a"}
    refused(
        file_of(("authority", AUTHORITY), ("bitcoin", other)),
        "expected one party for each name, got 'TSA A' and 'tsa a'",
    )


def test_one_root_in_two_spellings_is_one_authority() -> None:
    one = AUTHORITY | {"root": pem(bytes(100))}
    other = one | {"root": pem(bytes(100), 76), "until": UNTIL}
    text = file_of(("authority", one), ("authority", other))
    refused(text, "^trust file: expected each authority once, got one twice$")


def test_two_contracts_on_one_chain_are_two() -> None:
    other = CHAIN | {"contract": "0x" + "12" * 20}
    same_contract = CHAIN | {"chain_id": 5}
    text = file_of(("chain", CHAIN), ("chain", other), ("chain", same_contract))
    assert len(parse_trust(text).chains) == 3


@given(st.text(max_size=200))
def test_any_text_is_understood_or_refused(text: str) -> None:
    try:
        found = parse_trust(text)
    except MalformedError:
        return
    assert found == Trust()


@given(st.data())
def test_any_damage_is_understood_or_refused(data: st.DataObject) -> None:
    text = file_of(*TABLES.items())
    at = data.draw(st.integers(0, len(text) - 1))
    damaged = text[:at] + data.draw(st.text(max_size=2)) + text[at + 1 :]
    try:
        parse_trust(damaged)
    except MalformedError as error:
        assert str(error)  # noqa: PT017
