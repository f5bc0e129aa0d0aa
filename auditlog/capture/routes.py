"""Which requests are decisions: the application's own routes say so.

The route of a request is found before the application is called. A *template* is the
path as written in code, with the prefixes of included routers and of mounts:
``/tenants/{tenant}/score/{id}``. It is never built from the request's path, because it
stands in clear in the log.
"""

import fnmatch
import functools
import re
from collections.abc import Mapping, Sequence
from typing import Any

from auditlog.capture.foreign import Finder, finder_of
from auditlog.capture.routers import (
    Plan,
    Route,
    find_router,
    innermost,
    match_app,
    route_path,
)

__all__ = ["NOT_DECISIONS", "Routes", "globs"]

Scope = Mapping[str, Any]

_MAX_KNOWN = 1024
_REST = "/{path}"
_STATIC = frozenset({"starlette.staticfiles", "fastapi.staticfiles"})
_DOCUMENTATION = "fastapi.applications"
NOT_DECISIONS = frozenset({"GET", "HEAD", "OPTIONS"})
"""Methods that are not captured unless an option names them."""
_READS = frozenset({"GET", "HEAD"})
_PROBES = frozenset(
    {
        *("/health", "/healthz", "/livez", "/live", "/ready", "/readyz", "/startupz"),
        *("/ping", "/metrics", "/metrics/{path}", "/favicon.ico"),
    }
)
"""Read by orchestrators and monitors, on services that record GET too."""


class Routes:
    """Finds routes for one installation of the middleware.

    Args:
        app: what the middleware wraps.
        include: globs over templates; empty takes all.
        exclude: globs over templates; wins over `include`.
    """

    def __init__(
        self, app: Any, *, include: Sequence[str] = (), exclude: Sequence[str] = ()
    ) -> None:
        self._app = app
        self._include = globs(include)
        self._exclude = globs(exclude)
        # Looked for once: the stack inside a middleware does not change.
        self._router: Any = None
        self._finder: Finder | None = None
        self._has_looked = False
        self._plans: dict[bool, Plan] = {}
        """By whether they are for WebSockets."""
        # Routes without parameters by (method, path), for the common case that the
        # application is at the root. Their template is their path, so that one which
        # outlives its route still says the truth.
        self._known: dict[tuple[str, str], Route | None] = {}

    def find(self, scope: Scope) -> Route | None:
        """Return the route of a request that is to be captured, else None.

        Routes of auditlog itself, of documentation and of static files are never
        captured; a GET of a health probe only if `include` names it. Where there is no
        router that we know every path is, and the globs look at the path.

        Raises:
            Exception: whatever a foreign route object raises.
        """
        if not scope.get("root_path"):
            key = (_method(scope), scope["path"])
            if key in self._known:
                return self._known[key]
        router, top = self._top(scope)
        if router is None:
            found = Route(None, innermost(self._app))
            if self._finder is not None and "router" not in scope:
                foreign = self._finder(scope)
                if foreign is None:
                    return None
                found = foreign
            return self._wanted(found, scope)
        websocket = scope["type"] == "websocket"
        plan = self._plans.get(websocket)
        if plan is None or plan.router is not router or not plan.is_current():
            plan = self._plans[websocket] = Plan(router, websocket=websocket)
            self._known.clear()
        if plan.usable:
            path = route_path(top["path"], plan.root_path or top.get("root_path", ""))
            return self._planned(plan, path, scope)
        return self._wanted_below(match_app(router, dict(top), ""), scope)

    def _top(self, scope: Scope) -> tuple[Any, Scope]:
        """Return the router to begin with, and the scope as it sees it."""
        if "router" in scope:
            # Installed below a mount: only from the top is the whole template known.
            outermost = find_router(scope["router"])
            if outermost is not None:
                root_path = scope.get("app_root_path", scope.get("root_path", ""))
                top = {**scope, "root_path": root_path, "path_params": {}}
                return outermost, top
        if not self._has_looked:
            self._finder = finder_of(self._app)
            self._router = None if self._finder else find_router(self._app)
            self._has_looked = True
        if self._router is None and "app" in scope:
            return find_router(scope["app"]), scope
        return self._router, scope

    def _planned(self, plan: Plan, path: str, scope: Scope) -> Route | None:
        found = plan.find(path, _method(scope))
        route = self._wanted_below(found, scope)
        if found is not None and found.template == scope["path"]:
            if len(self._known) >= _MAX_KNOWN:
                self._known.clear()
            self._known[_method(scope), scope["path"]] = route
        return route

    def _wanted_below(self, found: Route | None, scope: Scope) -> Route | None:
        """Look on from here where the outermost router cannot see how it got here."""
        if "router" in scope and (found is None or found.opaque):
            above = "" if found is None else found.template or ""
            found = match_app(self._app, dict(scope), above.removesuffix(_REST))
        return None if found is None else self._wanted(found, scope)

    def _wanted(self, route: Route, scope: Scope) -> Route | None:
        why_not = self.why_not(route, scope["path"], _method(scope))
        return route if why_not is None else None

    def why_not(self, route: Route, path: str = "", method: str = "POST") -> str | None:
        """Return why requests of a route are never captured; None if they are.

        Args:
            route: what `find` found, or would find.
            path: of the request, which stands in for a template where there is none.
            method: of the request; empty for a WebSocket.
        """
        if never := _never(route.endpoint):
            return never
        name = path if route.template is None else route.template
        if self._exclude is not None and self._exclude.match(name):
            return "excluded by option"
        if self._include is not None:
            included = self._include.match(name)
            return None if included else "not among those to include"
        is_probe = name in _PROBES and method in _READS
        return "read by probes and monitors" if is_probe else None


def _method(scope: Scope) -> str:
    """Return the method of a request; of a WebSocket what is that of no request."""
    method: str = scope.get("method", "")
    return method


def _never(endpoint: Any) -> str | None:
    """Return what an endpoint is that is no decision; None if it may be one."""
    while isinstance(endpoint, functools.partial):
        endpoint = endpoint.func
    module = getattr(endpoint, "__module__", None) or ""
    if module in _STATIC:
        return "static files"
    if module == _DOCUMENTATION:
        return "documentation"
    return "auditlog's own" if f"{module}.".startswith("auditlog.") else None


def globs(patterns: Sequence[str]) -> re.Pattern[str] | None:
    """Return a pattern that any of these globs matches; None if there are none."""
    if not patterns:
        return None
    return re.compile("|".join(fnmatch.translate(pattern) for pattern in patterns))
