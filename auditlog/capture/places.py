r"""Where in a call it stands whom the decision is about: the option `route_subjects`.

::

    place   = [kind ":"] ("path/" name | "query/" name | "header/" name
              | "request" pointer | "response" pointer)
    kind    = [a-z][a-z0-9._-]{0,63}; ``person`` if there is none
    pointer = a JSON pointer (RFC 6901), such as ``/applicant/id``

What stands there is an identifier if it is a text, or in JSON an integer, which is
taken by its digits: ``4711`` and ``"4711"`` are one person. A body is looked into where
`FORMATS.md` §3 would split it into members (JSON by media type, strict, no name twice,
at most 1 MiB); elsewhere it names nobody.
"""

import re
from collections.abc import Iterable, Mapping
from fnmatch import translate
from typing import Any, Literal, NamedTuple, get_args
from urllib.parse import parse_qsl

from msgspec import DecodeError
from msgspec.json import decode

from auditlog.capture.splitting import fast_members
from auditlog.capture.subjects import PERSON, Sought, Subject
from auditlog.core.commitment import is_json
from auditlog.core.errors import ConfigurationError

__all__ = ["Place", "RoutePlaces", "parse_place"]

Source = Literal["path", "query", "header", "request", "response"]

_KIND = re.compile(r"[a-z][a-z0-9._-]{0,63}")
_HEADER = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
_POINTER = re.compile(r"(?:/(?:[^/~]|~[01])*){1,8}")
_INTEGER = re.compile(rb"-?(?:0|[1-9][0-9]{0,1023})")
_PARAMETER = re.compile(r"\{([^{}:]+)[^{}]*\}")
_PARAMETER_IN = re.compile(r"\{[^{}]+\}")
_MAX_PARAMETERS = 1000
_MAX_KNOWN = 1024
_EXPECTED = (
    "path/<name>, query/<name>, header/<name in lower case>, request/<pointer> or "
    "response/<pointer>, with kind: before it where it is no person"
)


class Place(NamedTuple):
    """One place of calls."""

    source: Source
    name: str
    """Of a parameter or header, or a pointer with its first slash."""
    kind: str
    """Of the subjects there."""

    def __str__(self) -> str:
        """Return it as an option writes it."""
        where = f"{self.source}{self.name}" if self.in_body else "/".join(self[:2])
        return where if self.kind == PERSON else f"{self.kind}:{where}"

    @property
    def in_body(self) -> bool:
        """Whether it is in a body, which takes too long for an event loop."""
        return self.source in {"request", "response"}

    def find(
        self,
        request: bytes,
        response: bytes,
        *,
        request_type: str | None,
        response_type: str | None,
    ) -> Sought:
        """See `auditlog.capture.subjects.SubjectFinder.find`."""
        asked = self.source == "request"
        body, media_type = (
            (request, request_type) if asked else (response, response_type)
        )
        if not body or media_type is None or not is_json(media_type):
            return Sought()
        path, depth = f"{self.source}{self.name}", self.name.count("/")
        for member, value in fast_members(self.source, body, depth) or ():
            if member == path:
                return self._of_json(value)
        return Sought()

    def look(self, scope: Mapping[str, Any], template: str | None) -> Sought:
        """Return whom a request is about, by its path, query or headers.

        Args:
            scope: of ASGI, as it is when the answer ends.
            template: of its route, or None.
        """
        try:
            found = self._values(scope, template)
        except (UnicodeDecodeError, ValueError):
            return self._fault("cannot be read")
        if len(found) > 1:
            return self._fault("is there more than once")
        return Sought(Subject(self.kind, found[0])) if found else Sought()

    def _values(self, scope: Mapping[str, Any], template: str | None) -> list[str]:
        if self.source == "query":
            query = bytes(scope.get("query_string", b"")).decode("ascii")
            pairs = parse_qsl(query, errors="strict", max_num_fields=_MAX_PARAMETERS)
            return [value for name, value in pairs if name == self.name]
        if self.source == "header":
            wanted = self.name.encode()
            headers = scope.get("headers", ())
            values = [value for name, value in headers if name.lower() == wanted]
            return [text for v in values if (text := bytes(v).strip(b" \t").decode())]
        return _in_path(scope, template, self.name)

    def _of_json(self, value: bytes) -> Sought:
        if _INTEGER.fullmatch(value):
            return Sought(Subject(self.kind, value.decode()))
        if value in {b"null", b'""'}:
            return Sought()
        try:
            return Sought(Subject(self.kind, decode(value, type=str)))
        except (DecodeError, UnicodeDecodeError):
            return self._fault("is neither text nor integer")

    def _fault(self, what: str) -> Sought:
        # By the option's own words: nothing that came with a call.
        return Sought(fault=f"subject at {self}: it {what}")


def _in_path(scope: Mapping[str, Any], template: str | None, name: str) -> list[str]:
    """Return the parameter of a path, by its router or else by its template."""
    given = scope.get("path_params") or {}
    if name in given:
        # Converted by the router, such as to an int or a UUID.
        return [text] if (text := str(given[name])) else []
    return _by_template(scope["path"], template, name)


def _by_template(path: str, template: str | None, name: str) -> list[str]:
    """Return a parameter where whoever routed the request told us nothing of it.

    Such as behind middleware that passes on a copy of the scope.
    """
    names = _PARAMETER.findall(template or "")
    if names.count(name) != 1:
        return []
    for value in ("[^/]+", ".+"):
        literals = map(re.escape, _PARAMETER_IN.split(template or ""))
        # The path may begin with what the template does not know, a root path.
        match = re.search(f"({value})".join(literals) + r"\Z", path)
        if match is not None:
            return [match[1 + names.index(name)]]
    return []


def parse_place(text: str) -> Place:
    """Read one place.

    Raises:
        ConfigurationError: it is none.
    """
    before, colon, rest = text.partition(":")
    kind, where = (before, rest) if colon and "/" not in before else (PERSON, text)
    source, _, name = where.partition("/")
    if source in {"request", "response"}:
        name = f"/{name}" if name else ""
    known = next((one for one in get_args(Source) if one == source), None)
    if known is None or not _is_name(source, name) or not _KIND.fullmatch(kind):
        raise ConfigurationError(
            f"option 'route_subjects' takes {_EXPECTED}; got {text!r}"
        )
    return Place(known, name, kind)


def _is_name(source: str, name: str) -> bool:
    if source == "header":
        return _HEADER.fullmatch(name) is not None
    if source in {"request", "response"}:
        return _POINTER.fullmatch(name) is not None
    return bool(name) and name.isprintable()


class RoutePlaces:
    """Where whom decisions are about stands, by route.

    Args:
        routes: globs over templates, and the places; the first that matches counts.

    Raises:
        ConfigurationError: a place is none.
    """

    def __init__(self, routes: Iterable[tuple[str, str]]) -> None:
        self._places = [
            (re.compile(translate(glob)), parse_place(text)) for glob, text in routes
        ]
        self._known: dict[str, Place | None] = {}

    def __bool__(self) -> bool:
        """Return whether there is any."""
        return bool(self._places)

    def of(self, route: str) -> Place | None:
        """Return the place for a template, or a path where there is no template."""
        if route not in self._known:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            matching = (place for glob, place in self._places if glob.match(route))
            self._known[route] = next(matching, None)
        return self._known[route]
