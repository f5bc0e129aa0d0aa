"""A node of an EVM chain, asked over JSON-RPC; whatever it says may be a lie.

Answers are taken apart strictly here, and held to the chain's hashes or to other nodes
by those who ask. The path of a URL is often somebody's key to the node: no message
holds more of it than the host.
"""

import contextlib
import json
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from auditlog.anchors.evm.keccak import keccak
from auditlog.anchors.evm.rlp import Item, encode, encode_integer
from auditlog.anchors.http import Endpoint, parse_endpoint, post
from auditlog.core.errors import AuditLogError, ConfigurationError, MalformedError
from auditlog.core.record import parse_json

__all__ = ["Mined", "Node", "NodeError", "StateProof", "parse_node"]

MAX_ANSWER = 1 << 25
"""Bytes in the longest answer: all receipts of a full block are a few million."""

_MAX_MESSAGE = 120

_HEADER = (
    *("parentHash", "sha3Uncles", "miner", "stateRoot", "transactionsRoot"),
    *("receiptsRoot", "logsBloom", "*difficulty", "*number", "*gasLimit", "*gasUsed"),
    *("*timestamp", "extraData", "mixHash", "nonce"),
    # London, Shanghai, Cancun, Prague, and what is announced; absent before them
    *("*baseFeePerGas", "withdrawalsRoot", "*blobGasUsed", "*excessBlobGas"),
    *("parentBeaconBlockRoot", "requestsHash", "blockAccessListHash", "*slotNumber"),
)
"""Fields of a header in their order; numbers have a star."""

_FIRST_FORK = 15

_TRANSACTION = (
    *("*chainId", "*nonce", "*maxPriorityFeePerGas", "*maxFeePerGas", "*gas", "to"),
    *("*value", "input"),
)
"""Fields of a transaction with a dynamic fee, up to its access list."""

_DYNAMIC_FEE = 2


class NodeError(AuditLogError):
    """A node understood, and answered with an error."""

    def __init__(self, message: str, data: str) -> None:
        super().__init__(message)
        self.data = data
        """What a contract said when it reverted, in hex; empty for other errors."""


class Mined(NamedTuple):
    """Where a transaction stands."""

    block: bytes
    """Hash."""
    number: int
    index: int  # type: ignore[assignment]  # hides tuple.index
    succeeded: bool


class StateProof(NamedTuple):
    """What `eth_getProof` gives."""

    account: tuple[bytes, ...]
    storage: tuple[bytes, ...]


def parse_node(url: str) -> Endpoint:
    """Return where a node is asked.

    Raises:
        ConfigurationError: the URL is none; the message does not repeat it.
    """
    try:
        endpoint = parse_endpoint(url)
    except ConfigurationError:
        raise ConfigurationError(
            "expected the http or https URL of a node, without user and query"
        ) from None
    scheme = "https" if endpoint.secure else "http"
    return endpoint._replace(url=f"{scheme}://{endpoint.host}:{endpoint.port}")


class Node:
    """One endpoint, until a deadline.

    All methods raise plain `AuditLogError` if no useful answer came, which another try
    or another node may give, and `NodeError` if the node answered with an error.
    """

    def __init__(self, endpoint: Endpoint, deadline: float) -> None:
        """Name the endpoint, and a moment on the clock of `time.monotonic`."""
        self._endpoint = endpoint._replace(path="")
        self._path = endpoint.path or "/"
        self._deadline = deadline

    def __repr__(self) -> str:
        return f"Node({self._endpoint.url!r})"

    @property
    def url(self) -> str:
        """Scheme, host and port."""
        return self._endpoint.url

    def call(self, method: str, *params: Any) -> Any:
        """Call a method and return its result."""
        body = {"id": 1, "jsonrpc": "2.0", "method": method, "params": params}
        try:
            response = post(
                self._endpoint,
                self._path,
                json.dumps(body).encode(),
                self._deadline,
                content_type="application/json",
                limit=MAX_ANSWER,
            )
        except MalformedError as error:
            raise AuditLogError(str(error)) from None
        try:
            answer = parse_json(response.body, limit=MAX_ANSWER)
        except MalformedError:
            raise self._useless(method, f"status {response.status}") from None
        if not isinstance(answer, dict) or answer.get("id") != 1:
            raise self._useless(method, f"status {response.status}")
        if answer.get("error") is not None:
            raise self._error(method, answer["error"])
        return answer.get("result")

    def chain_id(self) -> int:
        """Return the number of the chain that the node serves."""
        return self._quantity("eth_chainId", self.call("eth_chainId"))

    def code(self, address: bytes, block: str = "latest") -> bytes:
        """Return the code of a contract, empty where there is none."""
        return self._ask_bytes("eth_getCode", _hex(address), block)

    def nonce(self, address: bytes, block: str | int) -> int:
        """Return how many transactions an account had sent, up to a block."""
        method = "eth_getTransactionCount"
        return self._quantity(method, self.call(method, _hex(address), _name(block)))

    def final_number(self, confirmations: int | None) -> int:
        """Return the number of the newest block that is final.

        Args:
            confirmations: how many blocks make one final, itself included; None for
                what the chain itself calls finalized.
        """
        if confirmations is None:
            block = self._block("eth_getBlockByNumber", "finalized")
            return self._quantity("eth_getBlockByNumber", block.get("number"))
        newest = self._quantity("eth_blockNumber", self.call("eth_blockNumber"))
        return max(0, newest + 1 - confirmations)

    def header(self, block: int | str | bytes) -> bytes:
        """Return the header of a block as RLP, by number, tag or hash."""
        by_hash = isinstance(block, bytes)
        method = "eth_getBlockByHash" if by_hash else "eth_getBlockByNumber"
        found = self._block(method, _name(block))
        try:
            header = _header(found)
            whole = _hex(keccak(header)) == found.get("hash")
        except (TypeError, ValueError):
            raise self._useless(method, "no such header") from None
        if not whole:
            # Or the chain has fields that are not known here.
            raise self._useless(method, "a header of another hash than it says")
        return header

    def mined(self, transaction: bytes) -> Mined | None:
        """Return where a transaction stands, by its hash; None if in no block."""
        method = "eth_getTransactionReceipt"
        receipt = self.call(method, _hex(transaction))
        if receipt is None:
            return None
        try:
            return Mined(
                _bytes(receipt["blockHash"], 32),
                _integer(receipt["blockNumber"]),
                _integer(receipt["transactionIndex"]),
                _integer(receipt["status"]) == 1,
            )
        except (KeyError, TypeError, ValueError):
            raise self._useless(method, "no such receipt") from None

    def receipts(self, block: bytes) -> list[bytes]:
        """Return all receipts of a block, each as it stands in the trie, in order."""
        method = "eth_getBlockReceipts"
        found = self.call(method, _hex(block))
        try:
            ordered = sorted(found, key=lambda one: _integer(one["transactionIndex"]))
            return [_receipt(one) for one in ordered]
        except (KeyError, TypeError, ValueError):
            raise self._useless(method, "no such receipts") from None

    def state_proof(self, contract: bytes, slot: bytes, block: int) -> StateProof:
        """Return proofs for an account and a slot of its storage at a block."""
        method = "eth_getProof"
        found = self.call(method, _hex(contract), [_hex(slot)], _name(block))
        try:
            account = tuple(_bytes(one) for one in found["accountProof"])
            storage = tuple(_bytes(one) for one in found["storageProof"][0]["proof"])
        except (IndexError, KeyError, TypeError, ValueError):
            raise self._useless(method, "no such proof") from None
        empty = encode(b"")  # some say that of the empty trie, whose proof is empty
        return StateProof(account, () if storage == (empty,) else storage)

    def read(self, contract: bytes, call: bytes) -> bytes:
        """Return what a call of a contract answers, in the newest block."""
        message = {"data": _hex(call), "to": _hex(contract)}
        return self._ask_bytes("eth_call", message, "latest")

    def emitters(
        self, contract: bytes, topics: Sequence[bytes], first: int, last: int
    ) -> list[bytes]:
        """Return the hashes of the transactions that made an event, in some blocks."""
        method = "eth_getLogs"
        wanted = {
            "address": _hex(contract),
            "fromBlock": _name(first),
            "toBlock": _name(last),
            "topics": [_hex(topic) for topic in topics],
        }
        found = self.call(method, wanted)
        try:
            return [_bytes(one["transactionHash"], 32) for one in found]
        except (KeyError, TypeError, ValueError):
            raise self._useless(method, "no such events") from None

    def transaction(self, transaction: bytes) -> bytes:
        """Return a transaction of the kind that we make as it was sent, by its hash."""
        method = "eth_getTransactionByHash"
        found = self.call(method, _hex(transaction))
        try:
            raw = _transaction(found)
        except (KeyError, TypeError, ValueError):
            raise self._useless(method, "no such transaction") from None
        if keccak(raw) != transaction:
            raise self._useless(method, "a transaction of another hash than it says")
        return raw

    def gas(self, sender: bytes, to: bytes, call: bytes) -> int:
        """Return what a transaction would take, or how it would fail, as NodeError."""
        message = {"data": _hex(call), "from": _hex(sender), "to": _hex(to)}
        # By default some count what is on its way. That would be too little gas for a
        # transaction that replaces one of the same effect.
        got = self.call("eth_estimateGas", message, "latest")
        return self._quantity("eth_estimateGas", got)

    def base_fee(self) -> int:
        """Return what each gas costs now, in wei."""
        block = self._block("eth_getBlockByNumber", "latest")
        return self._quantity("eth_getBlockByNumber", block.get("baseFeePerGas"))

    def tip(self) -> int | None:
        """Return what block builders want beside; None if the node has no opinion."""
        with contextlib.suppress(NodeError):
            method = "eth_maxPriorityFeePerGas"
            return self._quantity(method, self.call(method))
        return None

    def send(self, raw: bytes) -> None:
        """Hand a signed transaction over."""
        self.call("eth_sendRawTransaction", _hex(raw))

    def _block(self, method: str, block: str) -> Mapping[str, Any]:
        found = self.call(method, block, False)  # without transactions
        if not isinstance(found, dict):
            raise self._useless(method, "no such block")
        return found

    def _ask_bytes(self, method: str, *params: Any) -> bytes:
        try:
            return _bytes(self.call(method, *params))
        except (TypeError, ValueError):
            raise self._useless(method, "no bytes") from None

    def _quantity(self, method: str, value: Any) -> int:
        try:
            return _integer(value)
        except (TypeError, ValueError):
            raise self._useless(method, "no number") from None

    def _useless(self, method: str, got: str) -> AuditLogError:
        return AuditLogError(f"{self.url} gave no useful answer to {method}: {got}")

    def _error(self, method: str, error: Any) -> NodeError:
        found = error if isinstance(error, dict) else {}
        message = found.get("message")
        given = message if isinstance(message, str) else "no message"
        text = "".join(one for one in given if one.isprintable())
        data = found.get("data")
        return NodeError(
            f"{self.url} answered {method} with: {text[:_MAX_MESSAGE]}",
            data if isinstance(data, str) else "",
        )


def _header(block: Mapping[str, Any]) -> bytes:
    items: list[Item] = []
    for number, field in enumerate(_HEADER):
        value = block.get(field.lstrip("*"))
        if value is None and number >= _FIRST_FORK:
            break
        quantity = field.startswith("*")
        items.append(encode_integer(_integer(value)) if quantity else _bytes(value))
    return encode(items)


def _transaction(found: Mapping[str, Any]) -> bytes:
    """Return one with a dynamic fee and without an access list (EIP-1559)."""
    items: list[Item] = []
    for field in _TRANSACTION:
        value = found[field.lstrip("*")]
        items.append(_number(value) if field.startswith("*") else _bytes(value))
    if found["accessList"] or _integer(found["type"]) != _DYNAMIC_FEE:
        raise ValueError
    signature = [_number(found[field]) for field in ("yParity", "r", "s")]
    return bytes([_DYNAMIC_FEE]) + encode([*items, [], *signature])


def _number(value: Any) -> bytes:
    """Return a number of up to 256 bits as RLP has it."""
    if not isinstance(value, str) or not 2 < len(value) <= 66 or value[:2] != "0x":
        raise ValueError
    return encode_integer(int(value, 16))


def _receipt(receipt: Mapping[str, Any]) -> bytes:
    logs: Sequence[Any] = receipt["logs"]
    body = encode(
        [
            encode_integer(_integer(receipt["status"])),
            encode_integer(_integer(receipt["cumulativeGasUsed"])),
            _bytes(receipt["logsBloom"]),
            [
                [
                    _bytes(log["address"]),
                    [_bytes(topic) for topic in log["topics"]],
                    _bytes(log["data"]),
                ]
                for log in logs
            ],
        ]
    )
    kind = _integer(receipt.get("type", "0x0"))
    return bytes([kind]) * (kind > 0) + body


def _name(block: int | str | bytes) -> str:
    if isinstance(block, bytes):
        return _hex(block)
    return hex(block) if isinstance(block, int) else block


def _hex(data: bytes) -> str:
    return "0x" + data.hex()


def _bytes(value: Any, size: int | None = None) -> bytes:
    if not isinstance(value, str) or not value.startswith("0x"):
        raise TypeError
    data = bytes.fromhex(value[2:])
    if size not in (None, len(data)):
        raise ValueError
    return data


def _integer(value: Any) -> int:
    if not isinstance(value, str) or not value.startswith("0x"):
        raise TypeError
    if len(value) > 18:  # a number that takes more than 64 bits is none of ours
        raise ValueError
    return int(value, 16)
