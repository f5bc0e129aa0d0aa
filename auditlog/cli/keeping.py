"""Commands that keep the keys of the vault: key rotate, backup, backups, restore."""

import argparse
import time

from auditlog.cli.opening import open_chosen
from auditlog.cli.output import Output
from auditlog.log.rotating import rotate as rotate_keys

__all__ = ["rotate"]


def rotate(options: argparse.Namespace, out: Output) -> int:
    """Rotate the key-encryption key, beside a service that runs or without one."""
    with open_chosen(options) as log:
        log.claim()
        rotated = rotate_keys(log, _now())
    if out.machine:
        out.document(rotated._asdict())
        return 0
    out.lines([f"generation {rotated.generation}"])
    if rotated.begun_before:
        out.say("That finished a rotation which was begun before; none was begun now.")
    out.say(
        "Backups of the keyring need the key before it, which is gone: make a new one "
        "with `auditlog key backup`, and a new copy of keys/vault.key."
    )
    return 0


def _now() -> int:
    return int(time.time() * 1_000_000)
