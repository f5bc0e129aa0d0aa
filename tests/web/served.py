"""A log behind the reading interface, over a real socket."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from httpx import Client, Response

from auditlog.log.directory import LogDirectory, open_log
from auditlog.log.reader import Reader
from auditlog.log.token_scope import make_scope
from auditlog.log.tokens import create_token
from auditlog.web.api import create_app
from tests.filled import fill_log
from tests.harness import read_log
from tests.witnesses import running

__all__ = [
    "NOW",
    "UNKNOWN",
    "Headers",
    "Served",
    "client_of",
    "headers_of",
    "problem",
    "serving",
]

UNKNOWN = "01995e6c-0000-7000-8000-000000000000"
NOW = 1_800_000_000
Headers = dict[str, str]


class Served(NamedTuple):
    """A log with six decisions, served."""

    client: Client
    directory: Path
    ids: list[str]
    auditor: Headers
    content: Headers
    reviewer: Headers
    privacy: Headers

    def post(self, path: str, body: object, headers: Headers | None = None) -> Response:
        """Send JSON; never raises for a status."""
        return self.client.post(path, json=body, headers=headers)

    def narrowed(self, role: str, **scope: Any) -> Headers:
        """Return a new token of a role with a scope; see `make_scope`."""
        with open_log(self.directory) as log:
            return headers_of(log, role, scope=make_scope(**scope))

    def added(self, before: int) -> list[dict[str, Any]]:
        """Return the entries from number `before` on."""
        entries = read_log(self.directory).entries[before:]
        return [json.loads(one) for one in entries]

    def size(self) -> int:
        """Return how many entries there are."""
        return len(read_log(self.directory).entries)

    def opened(self, id_: str) -> dict[str, Any]:
        """Return what is sealed in an entry, by the name of its leaf."""
        with open_log(self.directory, read_only=True) as log:
            context = Reader(log).content(id_).context
        return {name: json.loads(value) for name, value in context.items()}

    def get(self, path: str, headers: Headers | None = None) -> Response:
        """Ask; never raises for a status."""
        return self.client.get(path, headers=headers)


def headers_of(log: LogDirectory, role: str, **more: Any) -> Headers:
    """Return the header with a new token, which is labelled by its role."""
    token = create_token(log.store, role, label=f"a {role}", now=NOW, **more)
    return {"Authorization": f"Bearer {token}"}


@contextmanager
def client_of(app: object) -> Iterator[Client]:
    """Serve an app over a real socket."""
    with running(app) as url, Client(base_url=url) as client:
        yield client


@contextmanager
def serving(directory: Path) -> Iterator[Served]:
    """Serve a log of six decisions."""
    ids = fill_log(directory)
    with open_log(directory) as log:
        roles = ("auditor", "content", "reviewer", "privacy")
        tokens = [headers_of(log, role) for role in roles]
    with client_of(create_app(directory)) as client:
        yield Served(client, directory, ids, *tokens)


def problem(response: Response, status: int, kind: str) -> dict[str, Any]:
    """Assert that a response is a problem of RFC 9457 and return it."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/problem+json"
    assert response.headers["cache-control"] == "no-store"
    body: dict[str, Any] = response.json()
    assert set(body) == {"type", "title", "status", "detail"}
    assert body["type"] == f"tag:auditlog.invalid,2026:{kind}"
    assert body["status"] == status
    return body
