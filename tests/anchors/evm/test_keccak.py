"""Keccak-256, without any library, and with those that may be there."""

import hashlib
from collections.abc import Callable, Iterator

import pytest
from Crypto.Hash import keccak as library
from hypothesis import given
from hypothesis import strategies as st

from auditlog.anchors.evm import keccak as module
from auditlog.anchors.evm.keccak import _by_pycryptodome, _fastest, _keccak, keccak


def of_library(data: bytes) -> bytes:
    return bytes(library.new(digest_bits=256, data=data).digest())


@pytest.mark.parametrize("function", [keccak, _keccak, _by_pycryptodome])
@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470"),
        (b"abc", "4e03657aea45a94fc7d47ba826c8d667c0d1e6e33a64a036ec44f58fa12d6c45"),
        (b"\x80", "56e81f171bcc55a6ff8345e692c0f86e5b48e01b996cadc001622fb5e363b421"),
    ],
)
def test_known_answers(
    function: Callable[[bytes], bytes], data: bytes, expected: str
) -> None:
    assert function(data).hex() == expected


@pytest.mark.parametrize("size", [0, 1, 134, 135, 136, 137, 271, 272, 273, 613])
def test_around_the_ends_of_blocks(size: int) -> None:
    for byte in (b"\0", b"\xff"):
        assert _keccak(byte * size) == of_library(byte * size)


@given(data=st.binary(max_size=600))
def test_any_bytes(data: bytes) -> None:
    assert _keccak(data) == of_library(data)


def test_it_is_not_sha3() -> None:
    assert _keccak(b"abc") != hashlib.sha3_256(b"abc").digest()


class TestChoice:
    @pytest.fixture(autouse=True)
    def _forget(self) -> Iterator[None]:
        _fastest.cache_clear()
        yield
        _fastest.cache_clear()

    @pytest.mark.parametrize("error", [ImportError, ValueError, OSError])
    def test_the_standard_library_is_enough(
        self, monkeypatch: pytest.MonkeyPatch, error: type[Exception]
    ) -> None:
        def missing(data: bytes) -> bytes:
            raise error

        monkeypatch.setattr(module, "_by_openssl", missing)
        monkeypatch.setattr(module, "_by_pycryptodome", missing)
        assert _fastest() is _keccak
        assert keccak(b"abc").hex().startswith("4e03657a")

    def test_a_library_that_answers_something_else_is_not_used(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def sha3(data: bytes) -> bytes:
            return hashlib.sha3_256(data).digest()

        monkeypatch.setattr(module, "_by_openssl", sha3)
        monkeypatch.setattr(module, "_by_pycryptodome", sha3)
        assert _fastest() is _keccak
