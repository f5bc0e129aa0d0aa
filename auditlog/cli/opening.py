"""From options to an opened log: what several commands share."""

import argparse
from collections.abc import Callable
from typing import TypeVar

from auditlog.config import Config, load_config
from auditlog.core.errors import ConfigurationError, MalformedError
from auditlog.log.directory import LogDirectory, open_log

__all__ = ["config_of", "open_chosen", "read_option"]

_T = TypeVar("_T")


def config_of(options: argparse.Namespace, **more: object) -> Config:
    """Return the configuration: options over environment over defaults."""
    return load_config({"dir": options.dir, **more})


def open_chosen(options: argparse.Namespace) -> LogDirectory:
    """Open the log that ``--dir`` or ``AUDITLOG_DIR`` names.

    Raises:
        NotFoundError: no log is there.
        ConfigurationError: a part of it is missing.
    """
    config = config_of(options)
    return open_log(config.dir, policy=config.policy)


def read_option(name: str, text: str, parse: Callable[[str], _T]) -> _T:
    """Parse what was typed; a mistake there is one of usage, not malformed evidence.

    Raises:
        ConfigurationError: naming the option.
    """
    try:
        return parse(text)
    except MalformedError as error:
        msg = f"{name}: {error}"
        raise ConfigurationError(msg) from None
