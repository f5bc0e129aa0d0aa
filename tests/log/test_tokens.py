"""Tokens: made once, kept as a hash, holding the rights of one of two roles."""

from hashlib import sha256

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.errors import ConflictError, MalformedError, NotFoundError
from auditlog.log.tokens import (
    ROLES,
    allows,
    create_token,
    list_tokens,
    revoke_token,
    role_of,
    token_id,
)

NOW = 1_800_000_000.9


class Tokens:
    """A store in memory that enforces the contract: 32-byte hashes, unique."""

    def __init__(self) -> None:
        self.rows: dict[bytes, tuple[bytes, str, str, int]] = {}

    def create_token(self, hash_: bytes, role: str, label: str, created: int) -> None:
        assert len(hash_) == 32
        if hash_ in self.rows:
            raise ConflictError("there already")
        self.rows[hash_] = (hash_, role, label, created)

    def token_role(self, hash_: bytes) -> str | None:
        assert len(hash_) == 32
        return self.rows[hash_][1] if hash_ in self.rows else None

    def tokens(self) -> list[tuple[bytes, str, str, int]]:
        return sorted(self.rows.values(), key=lambda row: row[3])

    def revoke_token(self, hash_: bytes) -> bool:
        return self.rows.pop(hash_, None) is not None


def test_only_the_hash_of_a_token_is_stored() -> None:
    store = Tokens()
    token = create_token(store, "auditor", label="Ada", now=NOW)
    digest = sha256(token.encode()).digest()
    assert store.rows == {digest: (digest, "auditor", "Ada", 1_800_000_000)}
    assert role_of(store, token) == "auditor"
    assert token_id(token) == digest.hex()[:12]


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
    with pytest.raises(MalformedError, match="role is one of auditor, content; got"):
        create_token(Tokens(), role, now=NOW)


@pytest.mark.parametrize("label", ["\x1b[2J", "a\nb", "x" * 101])
def test_labels_that_cannot_be_listed_are_refused(label: str) -> None:
    with pytest.raises(MalformedError, match="at most 100 printable characters"):
        create_token(Tokens(), "auditor", label=label, now=NOW)


@given(st.text())
def test_any_other_text_has_no_role(text: str) -> None:
    store = Tokens()
    create_token(store, "content", now=NOW)
    assert role_of(store, text) is None
    assert role_of(store, f"alt_{text}") is None


def test_a_role_that_we_never_gave_holds_nothing() -> None:
    store = Tokens()
    token = create_token(store, "auditor", now=NOW)
    digest = sha256(token.encode()).digest()
    store.rows[digest] = (digest, "root", "", 0)
    assert role_of(store, token) is None


def test_each_role_holds_the_rights_of_those_before_it() -> None:
    rights = {
        (role, needed): allows(role, needed) for role in ROLES for needed in ROLES
    }
    assert rights == {
        ("auditor", "auditor"): True,
        ("auditor", "content"): False,
        ("content", "auditor"): True,
        ("content", "content"): True,
    }


def test_revoking_by_id_and_by_text() -> None:
    store = Tokens()
    first = create_token(store, "auditor", label="a", now=NOW)
    second = create_token(store, "content", label="b", now=NOW + 1)
    assert [token.label for token in list_tokens(store)] == ["a", "b"]
    assert revoke_token(store, token_id(first)).label == "a"
    assert role_of(store, first) is None
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
