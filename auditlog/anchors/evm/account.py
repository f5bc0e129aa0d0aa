"""The operator's account: a key in a file, read when something is to be signed.

The file holds 32 bytes in hex and is readable by its owner only. The key stays in no
object and no message.
"""

import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from auditlog.core.errors import AuditLogError, ConfigurationError, VerificationError

__all__ = ["Account", "read_secret", "signer_of"]

_KEY = re.compile(rb"(?:0x)?([0-9a-fA-F]{64})\s*")
_LONGEST = 1 << 14


class Account:
    """Signs transactions."""

    def __init__(self, path: Path) -> None:
        """Find out the address.

        Raises:
            ConfigurationError: the file cannot be used, or eth-account is missing.
        """
        self._path = path
        self.address = self._load()[1]
        """20 bytes."""

    def __repr__(self) -> str:
        return f"Account(0x{self.address.hex()})"

    def sign(self, transaction: Mapping[str, Any]) -> bytes:
        """Return a transaction with its signature, as it is sent.

        The same transaction gives the same bytes (RFC 6979).

        Raises:
            AuditLogError: the transaction is none.
            ConfigurationError: the file holds another key than at first, or none.
        """
        signer, address = self._load()
        if address != self.address:
            raise ConfigurationError(
                f"{self._path} was of 0x{self.address.hex()}, and is of "
                f"0x{address.hex()} now"
            )
        try:
            return bytes(signer.sign_transaction(dict(transaction)).raw_transaction)
        except (TypeError, ValueError):
            # Its numbers come from a node.
            raise AuditLogError("no transaction has such numbers") from None

    def _load(self) -> tuple[Any, bytes]:
        try:
            from eth_account import Account as Library  # noqa: PLC0415 # from an extra
        except ImportError:
            raise ConfigurationError(
                "anchors of kind evm need the extra evm of decision-auditlog"
            ) from None
        match = _KEY.fullmatch(read_secret(self._path))
        try:
            signer = (
                Library.from_key(bytes.fromhex(match[1].decode())) if match else None
            )
        except ValueError:
            signer = None
        if signer is None:
            raise ConfigurationError(
                f"expected a private key of 32 bytes in hex in {self._path}"
            )
        return signer, bytes.fromhex(signer.address.removeprefix("0x"))


def signer_of(raw: bytes) -> bytes:
    """Return the address whose key signed a transaction.

    Raises:
        VerificationError: none did.
    """
    from eth_account import Account as Library  # noqa: PLC0415 # from an extra

    try:
        return bytes.fromhex(Library.recover_transaction(raw).removeprefix("0x"))
    # The library says in many ways that a signature is none.
    except Exception:  # noqa: BLE001
        raise VerificationError("the transaction is signed by nobody") from None


def read_secret(path: Path) -> bytes:
    """Return what stands in a small file that only its owner may read.

    Raises:
        ConfigurationError: it cannot be read, or others could read it.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_LONGEST)
            mode = os.fstat(file.fileno()).st_mode
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigurationError(f"{path} can be read by others: chmod 600 {path}")
    return data
