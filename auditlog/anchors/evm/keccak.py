"""Keccak-256 as Ethereum hashes: what `hashlib` has as SHA3-256, but padded as before.

The standard library is enough: `_keccak` is all of it, at 1.4 ms for a block header.
Where OpenSSL (from 3.2) or pycryptodome has the function, it is 200 times as fast, and
taken if it answers as it must.

The state is 25 lanes of 64 bits, ``lanes[x + 5 * y]`` (FIPS 202 §3.1).
"""

import hashlib
from collections.abc import Callable
from functools import cache, reduce
from operator import xor
from typing import Any

__all__ = ["keccak"]

_KNOWN = (b"", "c5d2460186f7233c927e7db2dcc703c0e500b653ca82273b7bfad8045d85a470")
"""The hash of nothing, which stands in every account without code."""

_RATE = 136
"""Bytes taken in by each permutation: 200 less twice the length of the hash."""

_MASK = (1 << 64) - 1


def _round_constants() -> tuple[int, ...]:
    """Return what iota adds in each of the 24 rounds (FIPS 202, algorithm 5)."""
    constants = []
    register = 1
    for _ in range(24):
        constant = 0
        for power in range(7):
            constant |= (register & 1) << ((1 << power) - 1)
            register = register << 1 ^ (register >> 7) * 0x171
        constants.append(constant)
    return tuple(constants)


def _moves() -> tuple[tuple[int, int], ...]:
    """Return whence each lane comes and how far it turns: rho, then pi (§3.2)."""
    offsets = {0: 0}
    x, y = 1, 0
    for step in range(24):
        offsets[x + 5 * y] = (step + 1) * (step + 2) // 2 % 64
        x, y = y, (2 * x + 3 * y) % 5
    sources = [(x + 3 * y) % 5 + 5 * x for y in range(5) for x in range(5)]
    return tuple((source, offsets[source]) for source in sources)


_CONSTANTS = _round_constants()
_MOVES = _moves()


def keccak(data: bytes) -> bytes:
    """Return the Keccak-256 hash of `data`, 32 bytes."""
    return _fastest()(data)


@cache
def _fastest() -> Callable[[bytes], bytes]:
    for function in (_by_openssl, _by_pycryptodome):
        try:
            if function(_KNOWN[0]).hex() == _KNOWN[1]:
                return function
        except (ImportError, OSError, ValueError):
            continue
    return _keccak


def _by_openssl(data: bytes) -> bytes:
    return hashlib.new("keccak-256", data).digest()


def _by_pycryptodome(data: bytes) -> bytes:
    from Crypto.Hash import keccak as library  # noqa: PLC0415 # comes with the extra

    digest: Any = library.new(digest_bits=256, data=data)
    return bytes(digest.digest())


def _keccak(data: bytes) -> bytes:
    padding = bytearray(_RATE - len(data) % _RATE)
    padding[0] |= 0x01  # SHA3-256 has 0x06 here
    padding[-1] |= 0x80
    padded = data + padding
    lanes = [0] * 25
    for start in range(0, len(padded), _RATE):
        for lane in range(_RATE // 8):
            at = start + 8 * lane
            lanes[lane] ^= int.from_bytes(padded[at : at + 8], "little")
        lanes = _permute(lanes)
    return b"".join(lane.to_bytes(8, "little") for lane in lanes[:4])


def _permute(lanes: list[int]) -> list[int]:
    """Return the state after Keccak-f[1600] (FIPS 202 §3.3)."""
    for constant in _CONSTANTS:
        sums = [reduce(xor, lanes[x::5]) for x in range(5)]
        mix = [
            sums[x - 1] ^ (sums[x - 4] << 1 & _MASK | sums[x - 4] >> 63)
            for x in range(5)
        ]
        mixed = [lane ^ mix[at % 5] for at, lane in enumerate(lanes)]  # theta
        moved = [
            mixed[source] << turn & _MASK | mixed[source] >> 64 - turn
            for source, turn in _MOVES
        ]
        lanes = []
        for row in range(0, 25, 5):  # chi
            a, b, c, d, e = moved[row : row + 5]
            lanes += (a ^ ~b & c, b ^ ~c & d, c ^ ~d & e, d ^ ~e & a, e ^ ~a & b)
        lanes[0] ^= constant  # iota
    return lanes
