"""From options to whom something is about, and who asks: for verbs that look for them.

No message of these verbs names a person: it may end in a terminal's scrollback, in a
ticket, in the log of a job.
"""

import argparse
import sys

from auditlog.core.errors import ConfigurationError
from auditlog.log.access import Recipient, make_recipient
from auditlog.log.said import subject_of as checked

__all__ = ["recipient_of", "subject_of"]

_MOST = 1024
_STDIN = "-"


def subject_of(options: argparse.Namespace) -> tuple[str, str]:
    """Return kind and identifier of a subject, from ``--kind`` and ``--subject``.

    Raises:
        ConfigurationError: they are none; the message does not say what came.
    """
    text = options.subject
    if text == _STDIN:
        text = sys.stdin.readline(_MOST * 4).rstrip("\r\n")
    return checked(text, options.kind)


def recipient_of(options: argparse.Namespace) -> Recipient:
    """Return who gets it, and what for, from ``--recipient`` and ``--purpose``.

    Raises:
        ConfigurationError: there is none.
    """
    if options.recipient is None:
        raise ConfigurationError(
            "expected --recipient beside --subject: who looks for what is held on "
            "somebody says who gets it"
        )
    return make_recipient(options.recipient, options.purpose)
