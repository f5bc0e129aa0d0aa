"""One contestant under uvicorn, in a process of its own: `latency` starts it."""

import argparse
import contextlib
import sys
from collections.abc import Sequence
from pathlib import Path

import uvicorn

from tests.bench.arms import start_arm
from tests.bench.peers import add_directory
from tests.bench.workload import ENDPOINTS

__all__ = ["main"]


def main(arguments: Sequence[str]) -> None:
    """Serve until the end comes by a signal."""
    parser = argparse.ArgumentParser()
    for name in ("--arm", "--endpoint"):
        parser.add_argument(name, required=True)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--directory", type=Path, required=True)
    parser.add_argument("--peers", type=Path, required=True)
    options = parser.parse_args(arguments)
    add_directory(options.peers)
    endpoint = ENDPOINTS[options.endpoint]()
    running = start_arm(options.arm, endpoint.make(), options.directory)
    with contextlib.ExitStack() as stack:
        stack.callback(running.stop)
        uvicorn.run(
            running.app,
            host="127.0.0.1",
            port=options.port,
            log_level="warning",
            access_log=False,
            lifespan="off",
        )


if __name__ == "__main__":
    main(sys.argv[1:])
