"""RFC 6962 §2.1 straight from its definitions: slow, short, sharing no code with us.

It works on entries, not on hashes, and recomputes everything each time.
"""

import hashlib

__all__ = ["MTH", "PATH", "PROOF"]


def MTH(D: list[bytes]) -> bytes:  # noqa: N802, N803
    """Merkle Tree Hash of a list of entries."""
    n = len(D)
    if n == 0:
        return hashlib.sha256(b"").digest()
    if n == 1:
        return hashlib.sha256(b"\x00" + D[0]).digest()
    k = _k(n)
    return hashlib.sha256(b"\x01" + MTH(D[0:k]) + MTH(D[k:n])).digest()


def PATH(m: int, D: list[bytes]) -> list[bytes]:  # noqa: N802, N803
    """Merkle audit path of entry m."""
    n = len(D)
    if n == 1:
        return []
    k = _k(n)
    if m < k:
        return [*PATH(m, D[0:k]), MTH(D[k:n])]
    return [*PATH(m - k, D[k:n]), MTH(D[0:k])]


def PROOF(m: int, D: list[bytes]) -> list[bytes]:  # noqa: N802, N803
    """Merkle consistency proof for the first m entries; 0 < m <= n."""
    return _subproof(m, D, b=True)


def _subproof(m: int, D: list[bytes], *, b: bool) -> list[bytes]:  # noqa: N803
    n = len(D)
    if m == n:
        return [] if b else [MTH(D)]
    k = _k(n)
    if m <= k:
        return [*_subproof(m, D[0:k], b=b), MTH(D[k:n])]
    return [*_subproof(m - k, D[k:n], b=False), MTH(D[0:k])]


def _k(n: int) -> int:
    """Return the largest power of two smaller than n."""
    k = 1
    while k * 2 < n:
        k *= 2
    return k
