"""Which routes of an application are captured, and why, without serving a request.

It walks the routes that `auditlog.capture.routers` knows to ask, in their order, and
lets `Routes` decide, so that what it says is what a request meets.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

from auditlog.capture.foreign import finder_of
from auditlog.capture.routers import Route, find_router, innermost, own_default
from auditlog.capture.routes import NOT_DECISIONS, Routes

__all__ = ["SurveyedRoute", "survey"]

_REST = "/{path}"
_ANY = ("*",)


class SurveyedRoute(NamedTuple):
    """What becomes of the requests of one route by some of its methods."""

    template: str
    """As it stands in entries; empty where there is no router."""
    methods: tuple[str, ...]
    """``*`` for any; empty for a WebSocket."""
    captured: bool
    why: str
    endpoint: str
    """Module and name of what answers."""


class _Found(NamedTuple):
    template: str
    methods: tuple[str, ...] | None
    endpoint: Any
    opaque: str = ""
    """Why nothing more is known of what is below."""


def survey(
    app: Any,
    *,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    methods: Iterable[str] = (),
    websocket: str = "session",
) -> list[SurveyedRoute]:
    """Return every route that can be seen, in the order in which they are tried.

    Args:
        app: what the middleware wraps, or would wrap.
        include: the option of that name, as are the others.
        exclude: globs over templates; wins over `include`.
        methods: methods to capture; empty takes all but GET, HEAD and OPTIONS.
        websocket: ``session``, ``message`` or ``off``.
    """
    routes = Routes(app, include=include, exclude=exclude)
    wanted = frozenset(method.upper() for method in methods)
    return [
        row
        for one in _all(app)
        for row in (
            [_session(one, routes, websocket)]
            if one.methods == ()
            else _rows(one, routes, wanted)
        )
    ]


def _all(app: Any) -> Iterator[_Found]:
    if finder_of(app) is not None:
        opaque = "as the framework's own router finds for each request"
        yield _Found("", None, innermost(app), opaque)
        return
    router = find_router(app)
    if router is None:
        opaque = "no router that is known: every path is one, globs look at the path"
        yield _Found("", None, innermost(app), opaque)
    else:
        yield from _walk(router, "")


def _rows(
    found: _Found, routes: Routes, wanted: frozenset[str]
) -> Iterator[SurveyedRoute]:
    name = _name(found.endpoint)
    route, why_not = Route(found.template, found.endpoint), None
    if found.template or not found.opaque:
        why_not = routes.why_not(route)
    if why_not is not None:
        methods = found.methods or _ANY
        yield SurveyedRoute(found.template, methods, False, why_not, name)
        return
    why = found.opaque or "matched"
    if found.methods is None:
        yield _any_method(found.template, why, name, wanted)
        return
    for why_not, methods in _by_method(found.methods, route, routes, wanted):
        reason = why_not or why
        yield SurveyedRoute(found.template, methods, why_not is None, reason, name)


def _session(found: _Found, routes: Routes, websocket: str) -> SurveyedRoute:
    """Return what becomes of the WebSockets of a route."""
    route = Route(found.template, found.endpoint)
    why_not = routes.why_not(route, method="")
    if why_not is None and websocket == "off":
        why_not = "option websocket is off"
    why = why_not or f"WebSocket: each {websocket} is a decision"
    return SurveyedRoute(
        found.template, (), why_not is None, why, _name(found.endpoint)
    )


def _any_method(
    template: str, why: str, name: str, wanted: frozenset[str]
) -> SurveyedRoute:
    if wanted:
        return SurveyedRoute(template, tuple(sorted(wanted)), True, why, name)
    but = f"{why}; not {', '.join(sorted(NOT_DECISIONS))}"
    return SurveyedRoute(template, _ANY, True, but, name)


def _by_method(
    methods: Sequence[str], route: Route, routes: Routes, wanted: frozenset[str]
) -> Iterator[tuple[str | None, tuple[str, ...]]]:
    """Return the methods that are captured, and with the reason those that are not."""
    why_not = {
        method: routes.why_not(route, method=method)
        if _is_taken(method, wanted)
        else "method"
        for method in methods
    }
    for reason in sorted(set(why_not.values()), key=lambda one: one or ""):
        group = tuple(method for method in methods if why_not[method] == reason)
        yield reason, group


def _is_taken(method: str, wanted: frozenset[str]) -> bool:
    return method in wanted if wanted else method not in NOT_DECISIONS


def _walk(router: Any, prefix: str) -> Iterator[_Found]:
    for route in router.routes:
        yield from _found(route, prefix)
    default = own_default(router)
    if default is not None:
        opaque = "answers where no route matches; globs look at the path"
        yield _Found("", None, default, opaque)


def _found(route: Any, prefix: str) -> Iterator[_Found]:
    template = prefix + _template(route)
    if hasattr(route, "effective_candidates"):
        for candidate in route.effective_candidates():
            yield from _found(
                getattr(candidate, "starlette_route", None) or candidate, prefix
            )
    elif hasattr(route, "endpoint"):
        methods = getattr(route, "methods", ())
        known = None if methods is None else tuple(sorted(methods))
        any_method = hasattr(route, "methods") and not known
        yield _Found(template, None if any_method else known, route.endpoint)
    else:
        yield from _mounted(route, template.removesuffix(_REST))


def _mounted(mount: Any, prefix: str) -> Iterator[_Found]:
    app = getattr(mount, "app", None)
    router = None if app is None else find_router(app)
    if router is None:
        opaque = "mounted application: its own routes are not visible"
        yield _Found(prefix + _REST, None, innermost(app), opaque)
    else:
        yield from _walk(router, prefix)


def _template(route: Any) -> str:
    return str(getattr(route, "path_format", None) or getattr(route, "path", ""))


def _name(endpoint: Any) -> str:
    named = endpoint if hasattr(endpoint, "__qualname__") else type(endpoint)
    return f"{named.__module__}.{named.__qualname__}"
