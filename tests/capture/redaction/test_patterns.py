"""What patterns find, what they leave, and that no text makes them slow or stop."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.capture.redaction.identifiers import FINDERS, HINTS
from auditlog.capture.redaction.patterns import MAX_MATCH, Pattern, parse_pattern
from auditlog.capture.redaction.rules import parse_rules
from auditlog.capture.redaction.text import join, redact_cut_text, redact_text


def _found(name: str, text: str) -> list[str]:
    spans = parse_pattern(name).find(text)
    return [text[start:end] for start, end in join(spans)] if spans else []


ALONE = {
    "card": [
        "4111111111111111",
        "4111 1111 1111 1111",
        "4111-1111-1111-1111",
        "4111\u00a01111\u00a01111\u00a01111",
        "5500005555555559",
        "378282246310005",
        "3782 822463 10005",
        "6011111111111117",
        "2223003122003222",
        "6304000000000000",
        "\uff14" + "\uff11" * 15,
    ],
    "email": [
        "john@example.com",
        "john.doe+tag@sub.example.co.uk",
        "JOHN_DOE@EXAMPLE.COM",
        "o'brien@example.ie",
        "jürgen@bücher.example",
        "a@b.c",
    ],
    "iban": [
        "DE89370400440532013000",
        "DE89 3704 0044 0532 0130 00",
        "de89 3704 0044 0532 0130 00",
        "GB29NWBK60161331926819",
        "FR14 2004 1010 0505 0001 3M02 606",
        "NO93 8601 1117 947",
        "MT84MALT011000012345MTLCAST001S",
    ],
    "ip": [
        "192.168.0.1",
        "8.8.8.8",
        "255.255.255.255",
        "2001:db8::1",
        "2001:0db8:85a3:0000:0000:8a2e:0370:7334",
        "::1",
        "fe80::1ff:fe23:4567:890a",
        "::ffff:192.0.2.1",
    ],
    "phone": [
        "+49 30 123456",
        "+1 (555) 123-4567",
        "+442079460958",
        "0049 30 1234567",
        "+49 (0)30 123456",
        "(555) 123-4567",
        "555-123-4567",
        "555.123.4567",
        "01 23 45 67 89",
        "0170/1234567",
        "(030) 12 34 56 78",
        "020 7946 0958",
        "02079460958",
    ],
}
CASES = [(name, text) for name, texts in ALONE.items() for text in texts]


@pytest.mark.parametrize(("name", "text"), CASES)
def test_an_identifier_is_found_alone_and_in_a_sentence(name: str, text: str) -> None:
    for before, after in (
        ("", ""),
        ("it is ", " as said"),
        ("(", ")"),
        ("<", ">, "),
        ('"', '"'),
        ("x=", "&"),
        ("so: ", "."),
        ("\n", "\n"),
        ("ä ", "; "),
    ):
        assert _found(name, before + text + after) == [text], (before, after)


@pytest.mark.parametrize(("name", "text"), CASES)
def test_two_of_them_are_both_found(name: str, text: str) -> None:
    for between in (", ", "; ", "\n", " and "):
        spans = parse_pattern(name).find(text + between + text)
        covered = {at for start, end in spans for at in range(start, end)}
        second = len(text) + len(between)
        assert covered >= {*range(len(text)), *range(second, second + len(text))}


@pytest.mark.parametrize(("name", "text"), CASES)
def test_a_hint_matches_wherever_the_finder_does(name: str, text: str) -> None:
    assert any(hint.search(text) for hint in HINTS[name])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("card", "4111111111111112"),  # wrong check digit
        ("card", "0.4111111111111111"),  # a fraction
        ("card", "1700000000000"),  # milliseconds
        ("card", "123456789012"),  # too short
        ("card", "41111111111111111111111"),  # too long
        ("email", "john@localhost"),
        ("email", "@example.com"),
        ("email", "a @ b.c"),
        ("iban", "DE88370400440532013000"),
        ("iban", "XX89370400440532013000"),
        ("iban", "DE8937040044"),
        ("ip", "256.1.1.1"),
        ("ip", "1.2.3"),
        ("ip", "1.2.3.4.5"),
        ("ip", "12:30:45"),
        ("ip", "std::vector"),
        ("ip", "a :: b"),
        ("phone", "01/02/2024"),
        ("phone", "2024-01-02"),
        ("phone", "0.123456789012"),
        ("phone", "1234567890"),
        ("phone", "order 12345"),
    ],
)
def test_what_only_looks_like_one_stays(name: str, text: str) -> None:
    assert _found(name, text) == []


def test_a_card_among_other_digits_leaves_no_part_of_itself() -> None:
    rules = parse_rules(patterns=["card"])
    for before in map(str, range(100)):
        redacted = redact_text(rules, f"{before} 4111 1111 1111 1111 9")
        assert "1111" not in redacted


@pytest.mark.parametrize("name", list(FINDERS))
@pytest.mark.parametrize(
    "piece",
    [
        "a",
        "1",
        "0",
        "4 ",
        "a@",
        "@a.",
        "a.",
        "1.",
        ":",
        "a:",
        "+1 ",
        "(0",
        "DE89",
        "- ",
    ],
)
def test_no_text_makes_a_finder_slow(name: str, piece: str) -> None:
    # A finder that were quadratic would take minutes here, not a fraction of a second.
    assert FINDERS[name](piece * (100_000 // len(piece))) is not None


def test_patterns_of_an_operator_are_searched_in_windows() -> None:
    window = 4 * MAX_MATCH
    for place in (0, window - 5, window, window - MAX_MATCH, 2 * window - 7, 50_000):
        text = "." * place + "secret-42" + "." * 60_000
        assert _found(r"secret-\d+", text) == ["secret-42"], place


def test_a_match_as_long_as_the_promise_is_found_at_any_place() -> None:
    secret = "<" + "s" * (MAX_MATCH - 2) + ">"
    for place in range(0, 5 * MAX_MATCH, 1_000):
        text = "." * place + secret + "." * 30_000
        assert _found("<s+>", text) == [secret], place


def test_a_match_longer_than_a_window_goes_piece_by_piece() -> None:
    rules = parse_rules(patterns=["s+"])
    assert set(redact_text(rules, "s" * 100_000)) <= set("[redacted]")


@given(st.text(alphabet="ab1 .@", max_size=60), st.sampled_from(["a+b", "a.", "1|b@"]))
def test_short_texts_are_searched_as_by_the_expression_itself(
    text: str, source: str
) -> None:
    assert _found(source, text) == [found[0] for found in re.finditer(source, text)]


@pytest.mark.parametrize(
    ("source", "floats"),
    [
        ("secret", True),
        (r"\d{3}-\d{2}", True),
        ("(?i)(?:a|b)c", True),
        ("^a", False),
        ("a$", False),
        (r"\Aa", False),
        (r"a\b", False),
        ("(?<!x)a", False),
        ("a++b", False),
        ("(?>a|ab)c", False),
    ],
)
def test_only_a_pattern_that_knows_nothing_of_its_surroundings_has_a_hint(
    source: str, floats: bool
) -> None:
    pattern: Pattern = parse_pattern(source)
    assert (pattern.hint is not None) is floats


@given(st.text(alphabet="[redacted]:2 abx", max_size=40))
def test_a_text_that_is_redacted_stays_as_it_is(text: str) -> None:
    for source in ("a", "ed", r"\w+", r"\]", "[a-z]+", "d]x"):
        rules = parse_rules(patterns=[source, "b x"])
        redacted = redact_text(rules, text)
        assert redact_text(rules, redacted) == redacted


def test_what_already_stands_for_something_taken_out_is_not_taken_out_again() -> None:
    rules = parse_rules(patterns=["[a-z]+", r"\d"])
    assert redact_text(rules, "[redacted] [redacted:2]") == "[redacted] [redacted:2]"
    assert redact_text(rules, "x[redacted]") == "[redacted][redacted]"


def test_of_a_text_that_is_cut_the_end_goes_where_a_match_may_begin() -> None:
    rules = parse_rules(patterns=["card"])
    long = "word " * 2_000
    redacted = redact_cut_text(rules, long + "4111 1111 11")
    assert redacted.startswith(long[:-MAX_MATCH])
    assert redacted.endswith("[redacted]")
    assert "4111" not in redacted
    assert redact_cut_text(rules, redacted) == redacted
    assert redact_cut_text(parse_rules(keys=["a"]), "4111 1111 11") == "4111 1111 11"


def test_a_cut_leaves_no_half_of_a_placeholder() -> None:
    rules = parse_rules(patterns=["X"])
    for after in range(MAX_MATCH - 12, MAX_MATCH + 1):
        redacted = redact_cut_text(rules, "a" * 50 + "X" + "b" * after)
        assert redacted.replace("[redacted]", "").strip("ab") == ""
