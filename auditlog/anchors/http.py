"""One HTTP request to a peer that may be hostile: bounded in time and in size.

Standard library only. No redirect is followed, no proxy variable obeyed, no cookie or
compression understood; the whole exchange, TLS handshake and headers included, ends at
a deadline, however slowly the peer drips. Only looking the name up has no limit but
the resolver's own.
"""

import contextlib
import http.client
import io
import socket
import ssl
import time
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from auditlog.core.errors import AuditLogError, ConfigurationError, MalformedError

__all__ = ["MAX_RESPONSE", "Endpoint", "Response", "get", "parse_endpoint", "post"]

MAX_RESPONSE = 1 << 16
"""Bytes in the longest body that is read, unless the caller expects more."""

_PORTS = {"http": 80, "https": 443}
_OCTETS = "application/octet-stream"
_MAX_DIGITS = 9


class Endpoint(NamedTuple):
    """Where requests go: a URL prefix, taken apart."""

    url: str
    """As it was given, for messages."""
    secure: bool
    host: str
    port: int
    path: str
    """Without a final slash."""


class Response(NamedTuple):
    """What came back."""

    status: int
    content_type: str
    """Lowercase, without parameters; empty if there was none."""
    body: bytes
    retry_after: int | None = None
    """Seconds that the peer asks us to wait, whatever they are; None if it did not
    say, or said a date, which would need its clock."""


def parse_endpoint(url: str) -> Endpoint:
    """Take a URL prefix apart.

    Raises:
        ConfigurationError: it is not plain http or https: a user, a query, a fragment
            or characters that do not belong into a URL refuse it.
    """
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        raise ConfigurationError(f"expected a URL, got {url!r}") from None
    plain = url.isascii() and url.isprintable() and " " not in url
    if parts.scheme not in _PORTS or not parts.hostname or not plain:
        raise ConfigurationError(f"expected an http or https URL, got {url!r}")
    if "@" in parts.netloc or "?" in url or "#" in url:
        raise ConfigurationError(f"expected a URL without user or query, got {url!r}")
    secure = parts.scheme == "https"
    port = _PORTS[parts.scheme] if port is None else port
    return Endpoint(url, secure, parts.hostname, port, parts.path.rstrip("/"))


def get(
    endpoint: Endpoint,
    path: str,
    deadline: float,
    *,
    accept: str = "",
    limit: int = MAX_RESPONSE,
    token: str = "",
) -> Response:
    """Send one GET request and read the answer; for the rest see `post`.

    A `token`, visible ASCII, goes along as ``Authorization: Bearer``.
    """
    headers = _headers(accept)
    if token:
        headers["Authorization"] = f"Bearer {token}"
    return _exchange(endpoint, "GET", path, None, headers, deadline, limit)


def post(
    endpoint: Endpoint,
    path: str,
    body: bytes,
    deadline: float,
    *,
    content_type: str = _OCTETS,
    accept: str = "",
    limit: int = MAX_RESPONSE,
) -> Response:
    """Send one POST request and read the answer, whatever its status.

    Args:
        endpoint: where.
        path: added to the prefix; starts with a slash.
        body: the request's body.
        deadline: on the clock of `time.monotonic`.
        content_type: media type of the body.
        accept: media type that is wanted; empty says nothing about it.
        limit: bytes in the longest answer that is read.

    Raises:
        AuditLogError: no answer came in time, or none at all; trying again may help.
        MalformedError: the answer is not HTTP, or its body too long.
    """
    headers = {"Content-Type": content_type} | _headers(accept)
    return _exchange(endpoint, "POST", path, body, headers, deadline, limit)


def _headers(accept: str) -> dict[str, str]:
    return {"User-Agent": "auditlog"} | ({"Accept": accept} if accept else {})


def _exchange(
    endpoint: Endpoint,
    method: str,
    path: str,
    body: bytes | None,
    headers: dict[str, str],
    deadline: float,
    limit: int,
) -> Response:
    connection = _Connection(endpoint, deadline)
    try:
        connection.request(method, endpoint.path + path, body, headers)
        with contextlib.closing(connection.getresponse()) as response:
            data = response.read(limit + 1)
            missing = response.length or 0
    except TimeoutError:
        raise AuditLogError(f"{endpoint.url} did not answer in time") from None
    except http.client.RemoteDisconnected:
        raise AuditLogError(f"{endpoint.url} closed without an answer") from None
    except http.client.IncompleteRead:
        raise AuditLogError(f"{endpoint.url} cut its answer short") from None
    except http.client.HTTPException as error:
        kind = type(error).__name__
        raise MalformedError(f"{endpoint.url} does not speak HTTP: {kind}") from None
    except (OSError, UnicodeError) as error:
        raise AuditLogError(f"cannot reach {endpoint.url}: {error}") from None
    finally:
        connection.close()
    if len(data) > limit:
        raise MalformedError(f"{endpoint.url} answered more than {limit} bytes")
    if missing:
        raise AuditLogError(f"{endpoint.url} cut its answer short")
    content_type = response.headers.get("Content-Type", "")
    media_type = content_type.partition(";")[0].strip().lower()
    wait = _seconds(response.headers.get("Retry-After", "").strip())
    return Response(response.status, media_type, data, wait)


def _seconds(text: str) -> int | None:
    plain = text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS
    return int(text) if plain else None


class _Connection(http.client.HTTPConnection):
    """A connection on which every step ends at one deadline."""

    def __init__(self, endpoint: Endpoint, deadline: float) -> None:
        super().__init__(endpoint.host, endpoint.port)
        self._endpoint = endpoint
        self._deadline = deadline

    def connect(self) -> None:
        """Connect and do the TLS handshake."""
        sock = _connect(self._endpoint.host, self._endpoint.port, self._deadline)
        self.sock = sock
        if self._endpoint.secure:
            context = ssl.create_default_context()
            sock.settimeout(_remaining(self._deadline))
            self.sock = context.wrap_socket(sock, server_hostname=self._endpoint.host)
        self.sock.settimeout(_remaining(self._deadline))

    def response_class(  # type: ignore[override]  # http.client calls it as a factory
        self, sock: socket.socket, *args: Any, **kwargs: Any
    ) -> http.client.HTTPResponse:
        """Read the answer through the deadline."""
        reader = _Reader(sock, self._deadline)
        return http.client.HTTPResponse(reader, *args, **kwargs)  # type: ignore[arg-type]


class _Lines(io.BufferedReader):
    """Lines that end: `http.client` takes a cut header for the last one.

    A refusal without its headers would be another refusal.
    """

    _begun = False

    def readline(self, size: int | None = -1, /) -> bytes:
        line = super().readline(size)
        cut = not line.endswith(b"\n") and len(line) != size
        # Nothing at all is a connection that was closed, which has its own name.
        if cut and (line or self._begun):
            raise http.client.IncompleteRead(line)
        self._begun = True
        return line


class _Reader(io.RawIOBase):
    """The receiving side of a socket; each read waits until the deadline at most."""

    def __init__(self, sock: socket.socket, deadline: float) -> None:
        self._sock = sock
        self._raw = sock.makefile("rb", buffering=0)
        self._deadline = deadline

    def makefile(self, mode: str) -> io.BufferedReader:
        """Stand in for the socket, of which `http.client` wants just this."""
        return _Lines(self)

    def close(self) -> None:
        self._raw.close()
        super().close()

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        self._sock.settimeout(_remaining(self._deadline))
        return self._raw.readinto(buffer)


def _connect(host: str, port: int, deadline: float) -> socket.socket:
    """Try the addresses of a host; each may take half of the time that is left."""
    failure: OSError = TimeoutError()
    for family, kind, protocol, _, address in socket.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    ):
        sock = socket.socket(family, kind, protocol)
        try:
            sock.settimeout(_remaining(deadline) / 2)
            sock.connect(address)
        except OSError as error:
            failure = error
            sock.close()
        else:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            return sock
    raise failure


def _remaining(deadline: float) -> float:
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError
    return seconds
