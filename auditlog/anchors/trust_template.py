"""Writes a trust file for those who do not know what to write into theirs.

It holds what an operator believes, and says of itself. A verifier who takes it over as
it is believes the operator, and nobody else.
"""

import json
from collections.abc import Iterable

from auditlog.anchors.trust import Authority, Chain

__all__ = ["format_template"]

_WARNING = """\
# Whom the operator of this log asked about time. What stands here proves nothing to you
# as long as you have it from the operator: hold each root, contract, address and block
# hash against what you get elsewhere.
"""


def format_template(
    authorities: Iterable[Authority], chains: Iterable[Chain], heights: Iterable[int]
) -> str:
    """Return a trust file that `auditlog.anchors.trust.parse_trust` takes.

    Args:
        authorities: as the operator believes them.
        chains: likewise; those of one contract are written as one.
        heights: of Bitcoin blocks whose headers a verifier must add.
    """
    tables = [_WARNING, *map(_authority, authorities)]
    known: dict[tuple[int, bytes], list[Chain]] = {}
    for chain in chains:
        known.setdefault((chain.chain_id, chain.contract), []).append(chain)
    tables += [_chain(same) for same in known.values()]
    wanted = ", ".join(map(str, sorted(set(heights))))
    if wanted:
        tables.append(f"# [[bitcoin]]: headers of {wanted}, from a node of your own\n")
    return "\n".join(tables)


def _authority(authority: Authority) -> str:
    lines = [
        "# The root from the authority itself, or from who lists it",
        "[[authority]]",
        f"party = {json.dumps(authority.party)}",
        f"policy = {json.dumps(authority.policy)}",
        f"root = '''\n{authority.root.strip()}\n'''",
    ]
    if authority.intermediates:
        texts = ",\n".join(
            f"'''\n{one.strip()}\n'''" for one in authority.intermediates
        )
        lines.append(f"intermediates = [{texts}]")
    return "".join(f"{line}\n" for line in lines)


def _chain(same: list[Chain]) -> str:
    first = same[0]
    senders = dict.fromkeys(one for chain in same for one in chain.senders)
    blocks = dict.fromkeys(one for chain in same for one in chain.blocks)
    lines = [
        "# Each block's hash from nodes of others than the operator's, or your own",
        "[[chain]]",
        f"party = {json.dumps(first.party)}",
        f"chain_id = {first.chain_id}",
        f"contract = {json.dumps('0x' + first.contract.hex())}",
        f"senders = {json.dumps(['0x' + one.hex() for one in senders])}",
        "blocks = [",
        *(f'  "0x{one.hex()}",' for one in blocks),
        "]",
    ]
    return "".join(f"{line}\n" for line in lines)
