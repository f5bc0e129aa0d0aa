"""The command model: what a model's files are, as the log would name them."""

import argparse

from auditlog.cli.output import Output
from auditlog.models.identity import Model

__all__ = ["digest"]


def digest(options: argparse.Namespace, out: Output) -> int:
    """Print the identity of a file or directory; no log is needed."""
    model = Model.from_path(options.path)
    if out.machine:
        named = {"name": model.name, "version": model.version}
        out.document({**named, "digest": model.digest, "details": dict(model.details)})
        return 0
    out.fields(
        [
            ("digest", model.digest),
            ("name", model.name),
            ("version", model.version),
            *model.details,
        ]
    )
    return 0
