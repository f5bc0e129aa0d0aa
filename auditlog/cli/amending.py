"""The command amend: say later what became known of a decision."""

import argparse
import time
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation

from auditlog.capture.redaction.configured import choke_point_beyond_http
from auditlog.cli.opening import config_of, open_chosen, read_option
from auditlog.cli.output import Output
from auditlog.core.errors import ConfigurationError
from auditlog.core.record import format_id, parse_id
from auditlog.log.amending import append_amendment
from auditlog.log.amendment import amendment

__all__ = ["amend"]


def amend(options: argparse.Namespace, out: Output) -> int:
    """Add an entry about a decision, beside a service that runs or after it is gone."""
    read_option("ID", options.id, parse_id)
    said = amendment(
        options.id,
        options.kind,
        by=options.by,
        reason=options.reason,
        label=options.label,
        score=None if options.score is None else _score(options.score),
        attributes=_attributes(options.attribute),
    )._replace(redaction=choke_point_beyond_http(config_of(options)))
    with open_chosen(options) as log:
        log.claim()
        now = int(time.time() * 1_000_000)
        id_ = format_id(append_amendment(log, said, now))
    if out.machine:
        out.document({"id": id_, "decision": options.id, "kind": options.kind})
    else:
        out.lines([id_])
        out.say(
            "It is accepted. A service that runs on the log brings it under a "
            "checkpoint, or `auditlog checkpoint` does."
        )
    return 0


def _score(text: str) -> Decimal:
    try:
        return Decimal(text)
    except InvalidOperation:
        raise ConfigurationError(
            "--score: expected a decimal number, got other text"
        ) from None


def _attributes(given: Sequence[str]) -> dict[str, str]:
    """Return ``NAME=TEXT`` options by name.

    Raises:
        ConfigurationError: one has no ``=``, or a name is given twice.
    """
    pairs = [text.partition("=") for text in given]
    found = {name: text for name, _, text in pairs}
    if len(found) != len(given) or not all(equals for _, equals, _ in pairs):
        raise ConfigurationError("--attribute takes NAME=TEXT, and each name once")
    return found
