"""Bodies and model identities."""

import tracemalloc

import pytest

from auditlog.capture.exchange import Body
from auditlog.core.commitment import disclosure_hash, leaf_salt
from auditlog.core.errors import ConfigurationError
from auditlog.models.identity import Model

SECRET = bytes(range(32))
DIGEST = "sha256:" + "0a" * 32


def test_a_body_within_the_limit_is_kept_whole() -> None:
    body = Body(SECRET, 0, 6)
    for chunk in (b"abc", b"", b"def"):
        body.feed(chunk)
    assert (body.kept(), body.size, body.kept_bytes) == (b"abcdef", 6, 6)
    assert body.large is None
    assert body.leaf_hash() is None


def test_one_chunk_is_kept_without_a_copy() -> None:
    body, chunk = Body(SECRET, 0, 1 << 20), bytes(1000)
    body.feed(chunk)
    assert body.kept() is chunk


@pytest.mark.parametrize("leaf", [0, 1])
@pytest.mark.parametrize("limit", [0, 1, 3, 9])
@pytest.mark.parametrize("cut", [1, 2, 3, 10])
def test_past_the_limit_all_is_hashed_and_the_first_bytes_are_kept(
    leaf: int, limit: int, cut: int
) -> None:
    whole, body = b"0123456789", Body(SECRET, leaf, limit)
    for at in range(0, len(whole), cut):
        body.feed(whole[at : at + cut])
    path = ("request", "response")[leaf]
    expected = disclosure_hash(leaf_salt(SECRET, leaf), path, whole)
    assert body.large is not None
    assert body.leaf_hash() == expected
    assert (body.kept(), body.size, body.kept_bytes) == (whole[:limit], 10, limit)


def test_many_small_chunks_cost_little_more_than_their_bytes() -> None:
    body = Body(SECRET, 1, 1 << 20)
    tracemalloc.start()
    for _ in range(100_000):
        body.feed(b"ab")
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert body.size == 200_000
    assert peak < 1_000_000


def test_a_large_body_does_not_stay_in_memory() -> None:
    body, chunk = Body(SECRET, 1, 1 << 10), bytes(1 << 16)
    tracemalloc.start()
    for _ in range(1000):
        body.feed(chunk)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert body.size == 1000 << 16
    assert peak < 1 << 20


@pytest.mark.parametrize(
    ("text", "name", "version"),
    [
        ("credit-risk@3", "credit-risk", "3"),
        ("credit-risk", "credit-risk", None),
        ("org/model@rev@2", "org/model@rev", "2"),
    ],
)
def test_a_model_is_read_from_text(text: str, name: str, version: str | None) -> None:
    assert Model.parse(text) == Model(name, version)


@pytest.mark.parametrize("text", ["", "@3", "name@", "@", "x" * 257, "a\nb", "\ud800"])
def test_a_text_that_names_no_model_is_refused(text: str) -> None:
    with pytest.raises(ConfigurationError, match="1 to 256 printable characters"):
        Model.parse(text)


def test_the_limits_of_a_model_are_inclusive() -> None:
    longest = "é" * 256
    assert Model(longest, longest, DIGEST).version == longest


@pytest.mark.parametrize("value", [3, b"x", None, ["x"]])
def test_a_name_that_is_no_string_is_refused(value: object) -> None:
    with pytest.raises(ConfigurationError, match="a model's name is a string"):
        Model(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", ["", 3, "v" * 257])
def test_a_bad_version_is_refused(value: object) -> None:
    with pytest.raises(ConfigurationError, match="a model's version is a string"):
        Model("m", value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "value",
    ["", "0a" * 32, DIGEST.upper(), DIGEST + "0", DIGEST[:-1], DIGEST + "\n", 7],
)
def test_a_bad_digest_is_refused(value: object) -> None:
    with pytest.raises(ConfigurationError, match="'sha256:' and 64 lower-case hex"):
        Model("m", None, value)  # type: ignore[arg-type]
