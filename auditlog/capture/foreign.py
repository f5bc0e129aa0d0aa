"""Routes of Litestar, Quart and Django, asked of their own routers, none imported.

Each is recognised by the name of its class. What answers is the router by which the
framework itself will route, so a request that matches no route is no decision. Django
decides later (middleware may choose another URLconf, or a language), so there a request
that matches nothing yet is captured, without a template.

A template is as the framework writes it: ``/score/{key}``, ``/score/<int:key>``.
"""

import sys
from collections.abc import Callable, Mapping
from typing import Any

from auditlog.capture.routers import Route, innermost, route_path

__all__ = ["Finder", "finder_of"]

Finder = Callable[[Mapping[str, Any]], Route | None]
"""Finds the route of a request; raises whatever a foreign router raises."""

_UNMATCHED = frozenset({404, 405})


def finder_of(app: Any) -> Finder | None:
    """Return what finds the routes of an application; None if it is none of these."""
    inner = innermost(app)
    for kind in type(inner).__mro__:
        make = _FINDERS.get(f"{kind.__module__}.{kind.__qualname__}")
        if make is not None:
            return make(inner)
    return None


def _litestar(app: Any) -> Finder:
    def find(scope: Mapping[str, Any]) -> Route | None:
        path = route_path(scope["path"], scope.get("root_path", ""))
        # As Litestar does before it looks.
        path = "/" + "/".join(part for part in path.split("/") if part)
        try:
            method = scope.get("method")
            found = app.asgi_router.handle_routing(path=path, method=method)
        except Exception as error:
            if getattr(error, "status_code", None) in _UNMATCHED:
                return None
            raise
        # A mounted application has no template, and older versions return none.
        template = found[-1] if isinstance(found[-1], str) else ""
        return Route(template or None, getattr(found[1], "fn", None))

    return find


def _quart(app: Any) -> Finder:
    def find(scope: Mapping[str, Any]) -> Route | None:
        if app.url_map.host_matching or app.subdomain_matching:
            return Route(None)
        path = route_path(scope["path"], scope.get("root_path", ""))
        adapter = app.url_map.bind("localhost")
        websocket = scope["type"] == "websocket"
        try:
            rule, _ = adapter.match(
                path,
                method=scope.get("method"),
                return_rule=True,
                websocket=websocket,
            )
        except Exception as error:
            # Not found, method not allowed, or a redirect to the right spelling.
            if type(error).__module__.startswith("werkzeug."):
                return None
            raise
        return Route(str(rule.rule), app.view_functions.get(rule.endpoint))

    return find


def _django(app: Any) -> Finder:
    def find(scope: Mapping[str, Any]) -> Route | None:
        if scope["type"] == "websocket":
            return None  # Django serves none
        urls: Any = sys.modules["django.urls"]
        path = route_path(scope["path"], scope.get("root_path") or "")
        try:
            match = urls.get_resolver().resolve(path)
        except urls.Resolver404:
            return Route(None)
        return Route(f"/{match.route}", match.func)

    return find


_FINDERS: dict[str, Callable[[Any], Finder]] = {
    "django.core.handlers.asgi.ASGIHandler": _django,
    "litestar.app.Litestar": _litestar,
    "quart.app.Quart": _quart,
}
