"""How a router chooses a route, asked without importing any framework.

There are two ways to ask. `match_app` calls ``route.matches(scope)`` of every route,
as the router will: always right, but a second routing of the request. A `Plan` reads
the compiled patterns of stock routes once; it is possible only where nothing but method
and path decides, and it is several times faster. Both must agree.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any, NamedTuple

__all__ = [
    "Plan",
    "Route",
    "find_router",
    "innermost",
    "match_app",
    "own_default",
    "route_path",
]

_MAX_NESTING = 64
_REST = "/{path}"
_NAMED_GROUP = re.compile(r"\(\?P<\w+>")
_STOCK = frozenset({"starlette.routing", "fastapi.routing"})


class Route(NamedTuple):
    """The route that answers a request."""

    template: str | None
    """As written in code; None where there is no router, or none that we know."""
    endpoint: Any = None
    """What handles it: a function, or an ASGI application."""
    opaque: bool = False
    """Whether the endpoint is an application that may route further, unseen."""


def find_router(app: Any) -> Any | None:
    """Return the first thing with routes, looking through middleware; or None."""
    for _ in range(_MAX_NESTING):
        routes = getattr(app, "routes", None)
        if isinstance(routes, list | tuple) and all(
            hasattr(route, "matches") for route in routes[:1]
        ):
            return app
        app = _inner(app)
        if app is None:
            break
    return None


def innermost(app: Any) -> Any:
    """Return the application that a stack of middleware wraps in the end."""
    for _ in range(_MAX_NESTING):
        inner = _inner(app)
        if inner is None:
            break
        app = inner
    return app


def _inner(app: Any) -> Any | None:
    """Return what a middleware wraps, or the owner of a bound method."""
    inner = getattr(app, "app", None)
    return getattr(app, "__self__", None) if inner is None else inner


def route_path(path: str, root_path: str) -> str:
    """Return the path that a router looks at: without the root path."""
    if not root_path or not path.startswith(root_path):
        return path
    rest = path[len(root_path) :]
    return rest if not rest or rest[0] == "/" else path


def match_app(app: Any, scope: dict[str, Any], prefix: str) -> Route | None:
    """Return the route by which an application answers, asking each of its routes.

    Args:
        app: an ASGI application, looked into through its middleware.
        scope: a copy that may be changed.
        prefix: template of what was matched above it.

    Raises:
        Exception: whatever a foreign route raises.
    """
    router = find_router(app)
    if router is None:
        return Route(prefix + _REST, innermost(app), opaque=True)
    if getattr(router, "root_path", ""):
        scope["root_path"] = router.root_path
    is_partial = False
    for route in router.routes:
        match, child_scope = route.matches(scope)
        if match.name == "FULL":
            return _descend(route, {**scope, **child_scope}, prefix)
        is_partial = is_partial or match.name == "PARTIAL"
    # A wrong method is refused by the route itself, before any default.
    default = None if is_partial else own_default(router)
    return None if default is None else Route(None, default)


def own_default(router: Any) -> Any | None:
    """Return the application's own answer where no route matches; None if it is 404."""
    default = getattr(getattr(router, "router", router), "default", None)
    module = getattr(getattr(default, "__func__", default), "__module__", None)
    return None if module in _STOCK else default


def _descend(route: Any, scope: dict[str, Any], prefix: str) -> Route | None:
    if hasattr(route, "effective_candidates"):
        return _match_included(route, scope, prefix)
    if hasattr(route, "endpoint"):
        return Route(prefix + _template(route), route.endpoint)
    # A mount, whose template ends in the rest of the path, or a host, which has none.
    return match_app(route.app, scope, prefix + _template(route).removesuffix(_REST))


def _match_included(router: Any, scope: dict[str, Any], prefix: str) -> Route | None:
    """Look into a router that newer FastAPI includes without copying its routes."""
    _, child_scope, route, context = router._match(scope)  # noqa: SLF001
    if context is not None and context.starlette_route is None:
        return Route(prefix + context.path_format, context.endpoint)
    return _descend(route, {**scope, **child_scope}, prefix)


def _template(route: Any) -> str:
    return str(getattr(route, "path_format", None) or getattr(route, "path", ""))


class _Step(NamedTuple):
    """One pattern of a plan: it ends in a route, or goes on below a mount."""

    pattern: re.Pattern[str]
    methods: frozenset[str] | None
    route: Route
    below: "_Steps | None"


class _Steps:
    """Patterns in the order of their routes; the first that matches wins."""

    __slots__ = ("_all", "_first")

    def __init__(self, steps: Sequence[_Step]) -> None:
        self._all = steps
        # All patterns as one, a group each, so that a long list is tried in C.
        parts = [_NAMED_GROUP.sub("(?:", step.pattern.pattern) for step in steps]
        simple = all(re.compile(part).groups == 0 for part in parts)
        joined = "|".join(f"({part})" for part in parts)
        self._first = re.compile(joined) if simple and parts else None

    def find(self, path: str, method: str) -> Route | None:
        """Return the route for a path and a method."""
        start = 0
        if self._first is not None:
            found = self._first.match(path)
            if found is None:
                return None
            start = (found.lastindex or 1) - 1
        for pattern, methods, route, below in islice(self._all, start, None):
            match = pattern.match(path)
            if match is None:
                continue
            if below is not None:
                return below.find("/" + match["path"], method)
            if methods is None or method in methods:
                return route
        return None


class _NotPlainError(Exception):
    """Something else than method and path decides which route matches."""


class Plan:
    """The patterns of a router and of everything below it, read once.

    Attributes:
        router: whose routes these are.
        websocket: whether these are the routes of WebSockets, or those of requests.
        root_path: the application's own, which wins over the server's; mostly empty.
        usable: False where something else than method and path decides.
    """

    __slots__ = ("_lists", "_steps", "root_path", "router", "usable", "websocket")

    def __init__(self, router: Any, *, websocket: bool = False) -> None:
        self.router = router
        self.websocket = websocket
        self._lists: list[tuple[Any, Sequence[Any], int]] = []
        self._steps = _Steps(())
        self.root_path: str = getattr(router, "root_path", "")
        self.usable = True
        try:
            self._steps = _Steps(list(self._compile(router, "")))
        except _NotPlainError:
            self.usable = False

    def is_current(self) -> bool:
        """Whether no route was added or removed since the plan was made."""
        for owner, routes, count in self._lists:
            if len(routes) != count or owner.routes is not routes:
                return False
        return True

    def find(self, path: str, method: str) -> Route | None:
        """Return the route for a path below the root path, and a method.

        A WebSocket has no method, whatever is given.
        """
        return self._steps.find(path, method)

    def _compile(self, router: Any, prefix: str) -> Iterator[_Step]:
        self._watch(router)
        for route in router.routes:
            yield from self._steps_of(route, prefix)

    def _watch(self, owner: Any) -> None:
        if own_default(owner) is not None:
            raise _NotPlainError
        self._lists.append((owner, owner.routes, len(owner.routes)))

    def _steps_of(self, route: Any, prefix: str) -> Iterator[_Step]:
        if hasattr(route, "host") or type(route).matches.__module__ not in _STOCK:
            raise _NotPlainError
        if hasattr(route, "effective_candidates"):
            yield from self._included(route, prefix)
        elif not hasattr(route, "endpoint"):
            yield self._mounted(route, prefix)
        elif hasattr(route, "methods") is not self.websocket:
            methods = getattr(route, "methods", None)
            taken = frozenset(methods) if methods else None
            found = Route(prefix + _template(route), route.endpoint)
            yield _Step(route.path_regex, taken, found, None)

    def _included(self, router: Any, prefix: str) -> Iterator[_Step]:
        self._watch(router.original_router)
        for candidate in router.effective_candidates():
            original = getattr(candidate, "original_route", candidate)
            if type(original).matches.__module__ not in _STOCK:
                raise _NotPlainError
            route = getattr(candidate, "starlette_route", None) or candidate
            yield from self._steps_of(route, prefix)

    def _mounted(self, mount: Any, prefix: str) -> _Step:
        prefix += _template(mount).removesuffix(_REST)
        router = find_router(mount.app)
        if router is None:
            found = Route(prefix + _REST, innermost(mount.app), opaque=True)
            return _Step(mount.path_regex, None, found, None)
        if getattr(router, "root_path", ""):
            raise _NotPlainError
        below = _Steps(list(self._compile(router, prefix)))
        return _Step(mount.path_regex, None, Route(None), below)
