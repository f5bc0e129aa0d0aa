"""The end of a process that recorded by itself: a clean stop, where it ends by itself.

A service stops its log when its server says so. A script, a notebook or a worker has
nobody to say so, so what runs is stopped when the interpreter ends. That is a nicety
and no promise: whoever is killed, or ends by `os._exit`, is admitted by the next start.
"""

import atexit
import os
import sys

__all__ = ["stop_at_exit"]

_FIRST = 100
"""Before what multiprocessing itself ends, which has less."""

_armed_in: int | None = None
"""The process that will stop what it records; None before any does."""


def stop_at_exit() -> None:
    """Stop cleanly whatever records in this process when it ends; may be called again.

    A worker of a pool ends without what `atexit` holds, but tells multiprocessing.
    """
    global _armed_in  # noqa: PLW0603 - what a process registered is the process's
    if _armed_in == os.getpid():
        return
    _armed_in = os.getpid()
    # A forked child has inherited the first registration.
    atexit.unregister(_stop)
    atexit.register(_stop)
    if "multiprocessing.process" in sys.modules:
        from multiprocessing import process, util  # noqa: PLC0415 - only where it is used

        if process.parent_process() is not None:
            util.Finalize(None, _stop, exitpriority=_FIRST)


def _stop() -> None:
    from auditlog.log.runtime import stop_all  # noqa: PLC0415 - with it come threads

    stop_all()
