"""A small HTTP client: what the demo's callers, auditor and operator speak with."""

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from demo_service.processes import DemoError

__all__ = ["Reply", "answers", "http"]

_SECONDS = 30
# No proxy: everything is on the loopback address.
_OPENER = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class Reply(NamedTuple):
    """What a server answered."""

    status: int
    headers: Mapping[str, str]
    """By name in lower case."""
    body: bytes

    @property
    def text(self) -> str:
        """The body as text."""
        return self.body.decode(errors="replace")

    def json(self) -> Any:
        """Return the body, read as JSON."""
        return json.loads(self.body)

    def expect(self, status: int) -> "Reply":
        """Return the reply itself.

        Raises:
            DemoError: it has another status.
        """
        if self.status != status:
            msg = f"expected HTTP status {status}, got {self.status}: {self.text[:300]}"
            raise DemoError(msg)
        return self


def http(
    url: str,
    body: Any = None,
    *,
    token: str | None = None,
    media_type: str = "application/json",
) -> Reply:
    """Ask a server of the demo; any status is a reply.

    Args:
        url: where.
        body: bytes to post as they are, or a value to post as JSON; None gets.
        token: bearer token.
        media_type: of the body.

    Raises:
        OSError: nobody answers there.
    """
    data = (
        body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
    )
    headers = {"Content-Type": media_type} if data is not None else {}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url, data, headers)  # noqa: S310  our own address
    try:
        with _OPENER.open(request, timeout=_SECONDS) as answer:
            return _reply(answer.status, answer)
    except urllib.error.HTTPError as error:
        with error:
            return _reply(error.code, error)


def _reply(status: int, answer: Any) -> Reply:
    headers = {name.lower(): value for name, value in answer.headers.items()}
    return Reply(status, headers, answer.read())


def answers(url: str) -> Callable[[], bool]:
    """Return what says whether anybody answers at a URL, whatever the answer is."""

    def attempt() -> bool:
        try:
            http(url)
        except OSError:
            return False
        return True

    return attempt
