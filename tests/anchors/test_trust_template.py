"""A template is a trust file, and says what its writer said."""

from dataclasses import replace

from auditlog.anchors.trust import Authority, Chain, Trust, parse_trust
from auditlog.anchors.trust_template import format_template

PEM = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"
AUTHORITY = Authority("tsa-one", "1.2.3", f"\n{PEM}\n", (f"\n{PEM}\n", f"\n{PEM}\n"))
CHAIN = Chain("chain", 1, b"\1" * 20, (b"\2" * 20,), (b"\3" * 32, b"\4" * 32))


def test_it_is_a_trust_file() -> None:
    text = format_template([AUTHORITY], [CHAIN], [])
    parsed = parse_trust(text)
    authority = parsed.authorities[0]
    assert parsed.chains == (CHAIN,)
    assert authority.root.strip() == PEM
    assert [one.strip() for one in authority.intermediates] == [PEM, PEM]
    assert (authority.party, authority.policy) == ("tsa-one", "1.2.3")


def test_accounts_of_one_contract_are_one_table() -> None:
    other = replace(
        CHAIN, party="b", senders=(b"\5" * 20,), blocks=(b"\4" * 32, b"\6" * 32)
    )
    (found,) = parse_trust(format_template([], [CHAIN, other], [])).chains
    assert found.senders == (b"\2" * 20, b"\5" * 20)
    assert found.blocks == (b"\3" * 32, b"\4" * 32, b"\6" * 32)


def test_it_says_that_it_proves_nothing_yet_and_what_is_missing() -> None:
    text = format_template([], [], [900, 7, 900])
    assert parse_trust(text) == Trust()
    assert "What stands here proves nothing to you" in text
    assert "# [[bitcoin]]: headers of 7, 900, from a node of your own" in text
