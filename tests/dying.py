"""Processes that die by SIGKILL at a chosen step: a call that changes files."""

import os
import signal
import traceback
from collections.abc import Callable, Iterator
from typing import Any

__all__ = ["dies_at", "every_death"]

_STEPS = ("fsync", "link", "open", "pwrite", "rename", "replace", "unlink", "write")
_DONE = 0
_FAILED = 1


def dies_at(step: int, work: Callable[[], object], *, torn: bool = False) -> bool:
    """Run `work` in a forked child that kills itself right before a step of it.

    Args:
        step: which call, from 0.
        work: what to do; it opens for itself what it uses.
        torn: of a call that writes a file from its start on, let half happen.

    Returns:
        Whether the child died; False if it came to its end in fewer steps.
    """
    pid = os.fork()
    if pid == 0:
        status = _FAILED
        try:
            _count_down(step, torn=torn)
            work()
            status = _DONE
        except BaseException:  # noqa: BLE001
            traceback.print_exc()
        finally:
            os._exit(status)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in (_DONE, -signal.SIGKILL), "the work failed by itself"
    return code != _DONE


def every_death(
    begin: Callable[[], Callable[[], object]], *, torn: bool = False
) -> Iterator[int]:
    """Yield after each death of a piece of work that is begun anew each time.

    Args:
        begin: prepares what the work is about, and returns the work.
        torn: see `dies_at`.
    """
    step = 0
    while dies_at(step, begin(), torn=torn):
        yield step
        step += 1


def _count_down(step: int, *, torn: bool) -> None:
    left = [step]

    def counted(name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def dying(*args: Any, **named: Any) -> Any:
            if left[0] == 0:
                if torn and name == "write":
                    call(args[0], bytes(args[1])[: len(args[1]) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            left[0] -= 1
            return call(*args, **named)

        return dying

    for name in _STEPS:
        setattr(os, name, counted(name, getattr(os, name)))
