"""`auditlog anchor trust`: a trust file for verifiers to begin with."""

import argparse

from auditlog.anchors.attestation import Anchor
from auditlog.anchors.evm.anchor import EvmAnchor
from auditlog.anchors.outline import outline_of
from auditlog.anchors.rfc3161.anchor import TimeStampAnchor
from auditlog.anchors.trust_template import format_template
from auditlog.cli.opening import config_of
from auditlog.cli.output import Output
from auditlog.core.record import parse_json
from auditlog.log.anchor_answer import MAX_EVIDENCE
from auditlog.log.anchor_file import AnchorFile
from auditlog.log.anchor_ledger import Ledger
from auditlog.log.directory import LogDirectory, open_log

__all__ = ["trust"]

_NEWEST = 1000
"""Attestations of each anchor whose blocks are named."""


def trust(options: argparse.Namespace, out: Output) -> int:
    """Print what a verifier may fill in, as a trust file."""
    config = config_of(options)
    with open_log(config.dir, policy=config.policy) as log:
        anchors = AnchorFile(log.paths.anchors).anchors()
        said = {anchor.name: _said(log, anchor) for anchor in anchors}
    chains = [
        anchor.believed(*(bytes.fromhex(str(one["hash"])[2:]) for one in said[name]))
        for anchor in anchors
        for name in [anchor.name]
        if isinstance(anchor, EvmAnchor)
    ]
    heights = [
        int(one["block"])
        for anchor in anchors
        if anchor.kind == "ots"
        for one in said[anchor.name]
    ]
    authorities = [one.authority for one in anchors if isinstance(one, TimeStampAnchor)]
    text = format_template(authorities, chains, heights)
    if out.machine:
        out.document({"trust": text})
    else:
        out.text(text)
    return 0


def _said(log: LogDirectory, anchor: Anchor) -> list[dict[str, str | int]]:
    """Return what the newest final attestations of an anchor say of themselves."""
    ledger, found = Ledger(log.store, log.origin), []
    rows = log.store.attestations_by(anchor.name, state="final")
    for row in [one for one in rows if one.kind == anchor.kind][-_NEWEST:]:
        evidence = parse_json(row.evidence, limit=MAX_EVIDENCE)
        found.append(outline_of(row.kind, ledger.digest(row.size), evidence))
    return [one for one in found if one]
