"""Commands of the operator: init, checkpoint, key."""

import argparse
import base64
import time

from auditlog.cli.opening import config_of, open_chosen, ready
from auditlog.cli.output import Output
from auditlog.core.checkpoint import parse_checkpoint
from auditlog.core.errors import PendingError
from auditlog.core.note import ED25519, ML_DSA_44, parse_vkey, split_unverified_note
from auditlog.log.directory import create_log, open_log
from auditlog.log.leader import make_checkpoint
from auditlog.log.publication import meets_quorum
from auditlog.log.reader import Reader
from auditlog.log.recovery import recover
from auditlog.log.witnessing import Witnessing

__all__ = [
    "checkpoint",
    "init",
    "key_list",
    "key_vkey",
]

_ALGORITHMS = {ED25519: "Ed25519", ML_DSA_44: "ML-DSA-44"}

_AFTER_INIT = """\

The log {origin} is in {directory}. Above are its public keys: give them to those
who verify. {directory}/policy is a policy file with them, for `auditlog verify`;
name your witnesses there. Keep {directory}/keys secret, and back it up apart from
the data.

Next, with AUDITLOG_DIR={directory}, one line in a FastAPI app:

    app.add_middleware(auditlog.AuditMiddleware)

or with vLLM:

    vllm serve MODEL --middleware auditlog.AuditMiddleware
"""
_PROVISIONAL = (
    "this name is for trying things out, and a log keeps its name for ever: for real "
    "use, make the log with --origin NAME (or AUDITLOG_ORIGIN)"
)


def init(options: argparse.Namespace, out: Output) -> int:
    """Make a log; print its verifier keys."""
    config = config_of(options, origin=options.origin)
    with create_log(config) as log:
        if out.machine:
            known = {"dir": str(config.dir), "origin": log.origin}
            out.document(known | {"vkeys": list(log.vkeys)})
        else:
            out.lines(log.vkeys)
        out.say(_AFTER_INIT.format(origin=log.origin, directory=config.dir))
        if config.origin is None:
            out.warn(_PROVISIONAL)
    return 0


def checkpoint(options: argparse.Namespace, out: Output) -> int:
    """Admit what dead processes left open, sign what waits, print the newest."""
    config = config_of(options)
    with ready(open_log(config.dir, policy=config.policy)) as log:
        log.claim()
        witnessing = Witnessing(log, config, time.time)
        if options.witness:
            # An old copy looks whole from inside; who has seen more is asked first.
            witnessing.ask()
        recover(log, int(time.time() * 1_000_000))
        make_checkpoint(log)
        if options.witness:
            witnessing.ask()
        note = Reader(log).checkpoint()
        policy = log.policy()
        text, signatures = split_unverified_note(note)
        signed = parse_checkpoint(text)
    if out.machine:
        out.document(
            {
                "origin": signed.origin,
                "size": signed.size,
                "root": base64.b64encode(signed.root).decode(),
                "signatures": len(signatures),
                "witnessed": meets_quorum(note, policy),
                "note": note.decode(),
            }
        )
    else:
        out.bytes(note)
    if policy.quorum == "none":
        out.say("unwitnessed: the policy asks for no quorum")
    elif not meets_quorum(note, policy):
        out.warn("the witnesses that the policy demands have not all cosigned it")
        return PendingError.exit_code if options.witness else 0
    return 0


def key_list(options: argparse.Namespace, out: Output) -> int:
    """List the log's public keys."""
    with open_chosen(options) as log:
        verifiers = [parse_vkey(vkey) for vkey in log.vkeys]
    keys = [
        {
            "name": verifier.name,
            "id": verifier.key_id.hex(),
            "algorithm": _ALGORITHMS[verifier.type],
            "vkey": verifier.vkey,
        }
        for verifier in verifiers
    ]
    if out.machine:
        out.document({"keys": keys})
    else:
        names = ("name", "id", "algorithm")
        out.table(names, [[key[name] for name in names] for key in keys])
    return 0


def key_vkey(options: argparse.Namespace, out: Output) -> int:
    """Print the log's verifier keys, one a line, Ed25519 first."""
    with open_chosen(options) as log:
        vkeys = list(log.vkeys)
    if out.machine:
        out.document({"vkeys": vkeys})
    else:
        out.lines(vkeys)
    return 0
