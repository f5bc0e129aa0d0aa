"""From options to an opened log: what several commands share."""

import argparse
import time
from collections.abc import Callable
from typing import TypeVar

from auditlog.config import Config, load_config
from auditlog.core.errors import ConfigurationError, MalformedError
from auditlog.log.directory import LogDirectory, open_log
from auditlog.log.erasing import catch_up

__all__ = ["config_of", "open_chosen", "read_option", "ready"]

_T = TypeVar("_T")


def config_of(options: argparse.Namespace, **more: object) -> Config:
    """Return the configuration: options over environment over defaults."""
    return load_config({"dir": options.dir, **more})


def open_chosen(options: argparse.Namespace) -> LogDirectory:
    """Open the log that ``--dir`` or ``AUDITLOG_DIR`` names, and complete erasures.

    Raises:
        NotFoundError: no log is there.
        ConfigurationError: a part of it is missing.
        StorageError: an erasure is to be completed, and could not be.
    """
    config = config_of(options)
    return ready(open_log(config.dir, policy=config.policy))


def ready(log: LogDirectory) -> LogDirectory:
    """Return an opened log, or close it if it must not be used as it is.

    Raises:
        ConfigurationError: an erasure is due, and this is a copy of the log.
        StorageError: an erasure is to be completed, and could not be.
    """
    try:
        catch_up(log, time.time_ns() // 1000)
    except BaseException:
        log.close()
        raise
    return log


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
