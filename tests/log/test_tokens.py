"""Tokens: made once, kept as a hash, holding the rights of a role until they end."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.errors import ConflictError, MalformedError, NotFoundError
from auditlog.log.token_scope import EVERYTHING, Scope, make_scope
from auditlog.log.tokens import (
    ROLES,
    Grant,
    allows,
    create_token,
    grant_of,
    list_tokens,
    revoke_token,
    token_id,
)
from auditlog.storage import TokenRow

NOW = 1_800_000_000.9


class Tokens:
    """A store in memory that enforces the contract: 32-byte hashes, unique."""

    def __init__(self) -> None:
        self.rows: dict[bytes, TokenRow] = {}

    def create_token(
        self,
        hash_: bytes,
        role: str,
        label: str,
        created: int,
        expires: int | None = None,
        scope: str | None = None,
    ) -> None:
        assert len(hash_) == 32
        if hash_ in self.rows:
            raise ConflictError("there already")
        self.rows[hash_] = TokenRow(hash_, role, label, created, expires, scope)

    def token(self, hash_: bytes) -> TokenRow | None:
        assert len(hash_) == 32
        return self.rows.get(hash_)

    def tokens(self) -> list[TokenRow]:
        return sorted(self.rows.values(), key=lambda row: row.created)

    def revoke_token(self, hash_: bytes) -> bool:
        return self.rows.pop(hash_, None) is not None


def refused(store: Tokens, token: str, because: str, now: float = NOW) -> None:
    """Assert that a token is refused, by words that do not hold it."""
    with pytest.raises(NotFoundError) as caught:
        grant_of(store, token, now)
    assert str(caught.value) == because


def test_only_the_hash_of_a_token_is_stored() -> None:
    store = Tokens()
    token = create_token(store, "auditor", label="Ada", now=NOW)
    digest = sha256(token.encode()).digest()
    row = TokenRow(digest, "auditor", "Ada", 1_800_000_000, None, None)
    assert store.rows == {digest: row}
    name = digest.hex()[:12]
    assert grant_of(store, token, NOW) == Grant(name, "Ada", "auditor", EVERYTHING)
    assert token_id(token) == token_id(digest) == name


def test_tokens_differ_and_come_from_32_random_bytes() -> None:
    asked: list[int] = []

    def random(count: int) -> str:
        asked.append(count)
        return "A" * 43

    store = Tokens()
    token = create_token(store, "content", now=NOW, random=random)
    assert (token, asked) == ("alt_" + "A" * 43, [32])
    assert create_token(store, "content", now=NOW) != token
    with pytest.raises(ConflictError, match="there already"):
        create_token(store, "content", now=NOW, random=random)


@pytest.mark.parametrize("role", ["", "admin", "Auditor"])
def test_other_roles_are_refused(role: str) -> None:
    with pytest.raises(
        MalformedError, match="one of auditor, reviewer, content, privacy; got"
    ):
        create_token(Tokens(), role, now=NOW)


@pytest.mark.parametrize("label", ["\x1b[2J", "a\nb", "x" * 101])
def test_labels_that_cannot_be_listed_are_refused(label: str) -> None:
    with pytest.raises(MalformedError, match="at most 100 printable characters"):
        create_token(Tokens(), "auditor", label=label, now=NOW)


@given(st.text())
def test_any_other_text_is_no_token(text: str) -> None:
    store = Tokens()
    create_token(store, "content", now=NOW)
    refused(store, text, "no such token")
    refused(store, f"alt_{text}", "no such token")


def test_a_role_that_we_never_gave_holds_nothing() -> None:
    store = Tokens()
    token = create_token(store, "auditor", now=NOW)
    digest = sha256(token.encode()).digest()
    store.rows[digest] = store.rows[digest]._replace(role="root")
    refused(store, token, "no such token")


def test_a_token_is_refused_from_its_expiry_on() -> None:
    store = Tokens()
    token = create_token(store, "auditor", now=NOW, expires=1_800_000_060)
    assert grant_of(store, token, 1_800_000_059.9).role == "auditor"
    refused(store, token, "the token has expired", 1_800_000_060.0)
    refused(store, token, "the token has expired", 1_900_000_000.0)


def test_a_token_from_before_there_was_an_expiry_keeps_working() -> None:
    store = Tokens()
    token = "alt_" + "B" * 43
    store.create_token(sha256(token.encode()).digest(), "content", "", 0)
    assert grant_of(store, token, 4e9).scope == EVERYTHING


def test_a_scope_comes_back_as_it_was_given() -> None:
    store, scope = Tokens(), make_scope(routes=["/score*"], since="2026-01-01")
    token = create_token(store, "auditor", now=NOW, scope=scope)
    assert grant_of(store, token, NOW).scope == scope != Scope()


@pytest.mark.parametrize(
    "stored", ["", "{}", "null", '{"routes":[]}', '{"route":["*"]}']
)
def test_a_scope_that_cannot_be_read_refuses_everything(stored: str) -> None:
    store = Tokens()
    token = create_token(store, "privacy", now=NOW)
    digest = sha256(token.encode()).digest()
    store.rows[digest] = store.rows[digest]._replace(scope=stored)
    refused(store, token, "the token's scope cannot be read: ask for another")


def test_what_each_role_may_do() -> None:
    rights = {role: {one for one in ROLES if allows(role, one)} for role in ROLES}
    assert rights == {
        "auditor": {"auditor"},
        "reviewer": {"auditor", "reviewer"},
        "content": {"auditor", "content"},
        "privacy": {"auditor", "reviewer", "content", "privacy"},
    }


def test_revoking_by_id_and_by_text() -> None:
    store = Tokens()
    first = create_token(store, "auditor", label="a", now=NOW)
    second = create_token(store, "content", label="b", now=NOW + 1)
    assert [token.label for token in list_tokens(store)] == ["a", "b"]
    assert revoke_token(store, token_id(first)).label == "a"
    refused(store, first, "no such token")
    assert revoke_token(store, second).label == "b"
    assert list_tokens(store) == []
    with pytest.raises(NotFoundError, match="no such token"):
        revoke_token(store, second)


def test_an_id_that_fits_two_tokens_revokes_none() -> None:
    store = Tokens()
    for end in (b"a", b"b"):
        store.create_token(bytes(31) + end, "auditor", "", 0)
    with pytest.raises(MalformedError, match="2 tokens have an id that begins with"):
        revoke_token(store, "0" * 12)
    revoke_token(store, "0" * 62 + "61")
    assert len(store.rows) == 1


@pytest.mark.parametrize("name", ["", "0" * 11, "0" * 65, "A" * 12, "alt_x"])
def test_names_that_are_neither_id_nor_token(name: str) -> None:
    with pytest.raises(MalformedError, match="name a token by its id"):
        revoke_token(Tokens(), name)
