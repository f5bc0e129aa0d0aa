"""The ASGI servers, each by its own command line, and clients that look closely."""

import http.client
import json
import socket
from collections import Counter
from collections.abc import Callable, Mapping
from pathlib import Path

from auditlog.config import Config
from auditlog.log.runtime import Runtime
from tests.e2e.processes import Server, free_port
from tests.harness import Log, check_whole_log

__all__ = [
    "ORIGIN",
    "SERVERS",
    "Stream",
    "outcomes",
    "post",
    "recovered",
    "serve",
    "states",
]

ORIGIN = "log.example/servers"
TIMEOUT = 20

SERVERS: dict[str, list[str]] = {
    "uvicorn": ["-m", "uvicorn", "--timeout-graceful-shutdown", "1"],
    "hypercorn": ["-m", "hypercorn", "--graceful-timeout", "1"],
    "granian": ["-m", "granian", "--interface", "asgi", "--workers-kill-timeout", "1"],
}
"""With the time that each gives to what still runs when it stops."""


def serve(
    command: list[str], app: str, directory: Path, env: Mapping[str, str] | None = None
) -> Server:
    """Return a server of `app`, to be entered; its log is ``directory / "audit"``."""
    port = free_port()
    if "hypercorn" in command or "gunicorn" in command:
        where = ["--bind", f"127.0.0.1:{port}"]
    else:
        where = ["--port", str(port)]
    ours = {"AUDITLOG_DIR": str(directory / "audit"), "AUDITLOG_ORIGIN": ORIGIN}
    output = directory / "output.txt"
    return Server([*command, *where, app], port, output, {**ours, **(env or {})})


def recovered(directory: Path) -> Log:
    """Let the next start admit what was left open; return the whole log."""
    Runtime(Config(dir=directory / "audit")).stop()
    return check_whole_log(directory / "audit")


def post(port: int, path: str, body: bytes = b'{"x":1}') -> tuple[int, str | None]:
    """Ask once on a connection of its own; return status and id of the decision.

    Raises:
        OSError, http.client.HTTPException: the answer did not come, or was cut.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request("POST", path, body, {"content-type": "application/json"})
        with connection.getresponse() as response:
            response.read()
            return response.status, response.getheader("decision-id")
    finally:
        connection.close()


def states(log: Log) -> Counter[str]:
    """Count what emitters said, and the reasons of gaps."""
    data = [json.loads(entry)["data"] for entry in log.entries]
    return Counter(
        one.get("state") or one["reason"]
        for one in data
        if "state" in one or "reason" in one
    )


def outcomes(log: Log) -> dict[str, str]:
    """Return how each decision ended, by id."""
    return {one["id"]: one["data"]["outcome"] for one in log.decisions}


class Stream:
    """A client of an answer in chunks that reads as far as it is told."""

    def __init__(self, port: int, path: str) -> None:
        """Ask, and read up to the end of the head."""
        self._socket = socket.create_connection(("127.0.0.1", port), TIMEOUT)
        self.received = b""
        try:
            self._socket.sendall(
                f"POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n"
                "Content-Type: application/json\r\n\r\n{}".encode()
            )
            self.read_until(lambda received: b"\r\n\r\n" in received)
        except BaseException:
            self._socket.close()
            raise

    @property
    def id(self) -> str:
        """Return the id of the decision, as the head has it."""
        head = self.received.partition(b"\r\n\r\n")[0].decode().lower()
        lines = dict(line.split(": ", 1) for line in head.split("\r\n")[1:])
        return lines["decision-id"]

    def read_until(self, enough: Callable[[bytes], bool]) -> None:
        """Read until `enough` is true of all that was received."""
        while not enough(self.received):
            part = self._socket.recv(4096)
            assert part, f"the answer ended early: {self.received!r:.300}"
            self.received += part

    def read_more(self, count: int = 3) -> None:
        """Read so many more events."""
        wanted = self.received.count(b"data:") + count
        self.read_until(lambda received: received.count(b"data:") >= wanted)

    def close(self) -> None:
        """Close the connection."""
        self._socket.close()
