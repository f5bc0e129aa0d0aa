"""Where and how an operator anchors: a table of kind ``evm`` in ``anchors.toml``.

::

    [[anchor]]
    name = "chain"
    kind = "evm"
    rpc = ["https://node.example"]   # nodes; or rpc_file, with one URL on each line,
                                     # where the URLs are secrets
    chain_id = 1
    key_file = "chain.key"           # private key in hex, mode 0600
    contract = "0x…"                 # default: where it is deployed on every chain
    mode = "batch"                   # "advance": may publish sizes and roots, too
    confirmations = "finalized"      # or a number of blocks, for chains without that
    agree = 1                        # nodes that must agree; default: more than half
    max_fee = 200                    # gwei for each gas, at most
    stuck_after = 900                # seconds until an unmined transaction gets dearer
    timeout = 30                     # seconds for everything that is asked at once
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from auditlog.anchors.evm.account import read_secret
from auditlog.anchors.evm.contract import ADDRESS
from auditlog.anchors.evm.node import parse_node
from auditlog.anchors.http import Endpoint
from auditlog.core.errors import ConfigurationError
from auditlog.core.record import MAX_INTEGER

__all__ = ["GWEI", "Options", "parse_options"]

GWEI = 10**9

_KEYS = {
    *("agree", "chain_id", "confirmations", "contract", "key_file", "max_fee", "mode"),
    *("rpc", "rpc_file", "stuck_after", "timeout"),
}
_MAX_NODES = 16


@dataclass(frozen=True, slots=True)
class Options:
    """A table, checked."""

    nodes: tuple[Endpoint, ...]
    chain_id: int
    key_file: Path
    contract: bytes = ADDRESS
    mode: str = "batch"
    """``advance`` lets `auditlog.anchors.evm.history` publish sizes and roots, too."""
    confirmations: int | None = None
    """Blocks that make one final, itself included; None: what the chain finalized."""
    agree: int = 1
    """Nodes that must say the same of a final block."""
    max_fee: int = 200 * GWEI
    """Wei for each gas, at most."""
    stuck_after: int = 900
    """Seconds after which an unmined transaction is made dearer."""
    timeout: int = 30
    """Seconds that a method may take."""


def parse_options(options: Mapping[str, Any], directory: Path) -> Options:
    """Return the options that stand in a table.

    Args:
        options: the table, without `kind` and `name`.
        directory: the log's, where file names start.

    Raises:
        ConfigurationError: a key is missing, unknown or unusable.
    """
    unknown = sorted(options.keys() - _KEYS)
    if unknown:
        raise ConfigurationError(
            f"unknown key {unknown[0]!r} of an anchor of kind evm: expected "
            f"{', '.join(sorted(_KEYS))}"
        )
    nodes = _nodes(options, directory)
    return Options(
        nodes=nodes,
        chain_id=_number(options, "chain_id", MAX_INTEGER),
        key_file=directory / _text(options, "key_file", "the name of a file"),
        contract=_address(options),
        mode=_mode(options),
        confirmations=_confirmations(options),
        agree=_number(options, "agree", len(nodes), len(nodes) // 2 + 1),
        max_fee=_number(options, "max_fee", 10**6, 200) * GWEI,
        stuck_after=_number(options, "stuck_after", 10**6, 900),
        timeout=_number(options, "timeout", 600, 30),
    )


def _nodes(options: Mapping[str, Any], directory: Path) -> tuple[Endpoint, ...]:
    if ("rpc" in options) == ("rpc_file" in options):
        raise ConfigurationError("expected rpc or rpc_file of an anchor of kind evm")
    if "rpc_file" in options:
        path = directory / _text(options, "rpc_file", "the name of a file")
        urls: Any = read_secret(path).decode("ascii", "replace").split()
    else:
        given = options["rpc"]
        urls = [given] if isinstance(given, str) else given
    fits = isinstance(urls, list) and all(isinstance(one, str) for one in urls)
    if not fits or not 0 < len(set(urls)) == len(urls) <= _MAX_NODES:
        raise ConfigurationError(
            f"expected rpc as a URL or a list of 1 to {_MAX_NODES} different ones"
        )
    return tuple(parse_node(url) for url in urls)


def _text(options: Mapping[str, Any], key: str, what: str) -> str:
    value = options.get(key)
    if not isinstance(value, str) or not value:
        raise ConfigurationError(f"expected {key} of an anchor of kind evm as {what}")
    return value


def _number(
    options: Mapping[str, Any], key: str, highest: int, default: int | None = None
) -> int:
    value = options.get(key, default)
    if type(value) is not int or not 1 <= value <= highest:
        raise ConfigurationError(
            f"expected {key} of an anchor of kind evm as a number from 1 to {highest}"
        )
    return value


def _confirmations(options: Mapping[str, Any]) -> int | None:
    if options.get("confirmations", "finalized") == "finalized":
        return None
    if isinstance(options["confirmations"], str):
        raise ConfigurationError(
            'expected confirmations = "finalized" or a number of blocks'
        )
    return _number(options, "confirmations", 10**6)


def _mode(options: Mapping[str, Any]) -> str:
    mode = options.get("mode", "batch")
    if mode not in ("batch", "advance"):
        raise ConfigurationError('expected mode = "batch" or "advance"')
    return str(mode)


def _address(options: Mapping[str, Any]) -> bytes:
    text = _text({"contract": "0x" + ADDRESS.hex(), **options}, "contract", "0x…")
    try:
        address = bytes.fromhex(text.removeprefix("0x"))
    except ValueError:
        address = b""
    if not text.startswith("0x") or len(address) != len(ADDRESS):
        raise ConfigurationError("expected contract as 0x and 20 bytes in hex")
    return address
