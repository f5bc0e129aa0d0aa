"""The command routes: what will be captured of an application, and why."""

import argparse
import importlib
import sys
from pathlib import Path
from typing import Any, NamedTuple

from auditlog.capture.places import RoutePlaces
from auditlog.capture.survey import SurveyedRoute, survey
from auditlog.cli.output import Output
from auditlog.config import Config, load_config
from auditlog.core.errors import AuditLogError, ConfigurationError
from auditlog.web.middleware import AuditMiddleware

__all__ = ["routes"]

_MAX_NESTING = 64
_COLUMNS = ("captured", "methods", "template", "why", "subject")


def routes(options: argparse.Namespace, out: Output) -> int:
    """Print the routes of an application; nothing is started, no log is opened."""
    installed = _installed(_load(options.app))
    config = installed.config
    rows = survey(
        installed.app,
        include=config.include,
        exclude=config.exclude,
        methods=config.methods,
        websocket=config.websocket,
    )
    found = [(row, _subject(row, installed)) for row in rows]
    if out.machine:
        known = {"installed": installed.how is not None, "enabled": config.enabled}
        listed = [row._asdict() | {"subject": subject} for row, subject in found]
        out.document(known | {"routes": listed})
        return 0
    out.table(_COLUMNS, [_row(*one) for one in found])
    taken = sum(row.captured for row in rows)
    out.say(f"{taken} of {len(rows)} are captured")
    if installed.how is None:
        out.warn("the middleware is not installed: this is what it would capture")
    elif not config.enabled:
        out.warn("`enabled` is false: nothing is captured at all")
    return 0


def _subject(row: SurveyedRoute, installed: "_Installed") -> str:
    """Return where it comes from whom decisions are about, unless handlers say it."""
    if not row.captured:
        return ""
    sources = ["callable"] if installed.asks else []
    place = RoutePlaces(installed.config.route_subjects).of(row.template)
    if place is not None:
        sources.append(str(place))
    return ", then ".join(sources) or "handler"


def _row(row: SurveyedRoute, subject: str) -> list[object]:
    captured = "yes" if row.captured else "no"
    return [
        captured,
        ",".join(row.methods) or "websocket",
        row.template or "(any path)",
        row.why,
        subject,
    ]


class _Installed(NamedTuple):
    app: Any
    """What the middleware wraps, or the application itself."""
    config: Config
    how: str | None
    """``wrapped`` or ``added``; None where there is no middleware."""
    asks: bool = False
    """Whether a callable names whom decisions are about."""


def _installed(app: Any) -> _Installed:
    """Find our middleware in an application, and with which options."""
    layer = app
    for _ in range(_MAX_NESTING):
        if isinstance(layer, AuditMiddleware):
            asks = layer.asks_for_subjects
            return _Installed(layer.app, layer.config, "wrapped", asks)
        for added in getattr(layer, "user_middleware", ()):
            made = getattr(added, "cls", None)
            if isinstance(made, type) and issubclass(made, AuditMiddleware):
                # Making one starts nothing, and refuses wrong options as a start would.
                one = made(layer, *added.args, **added.kwargs)
                return _Installed(layer, one.config, "added", one.asks_for_subjects)
        layer = getattr(layer, "app", None)
        if layer is None:
            break
    return _Installed(app, load_config(), None)


def _load(name: str) -> Any:
    """Import ``module:attribute``, the current directory first, as servers do.

    Raises:
        ConfigurationError: there is no such thing.
        AuditLogError: importing it fails.
    """
    module_name, _, attributes = name.partition(":")
    if not module_name or not attributes:
        raise ConfigurationError(
            f"expected an application as module:attribute, got {name!r}"
        )
    sys.path.insert(0, str(Path.cwd()))
    try:
        found: Any = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
            raise AuditLogError(
                f"{module_name} needs {error.name}, which is not installed"
            ) from error
        raise ConfigurationError(
            f"no module {module_name!r} here: {Path.cwd()}"
        ) from None
    except Exception as error:
        kind = type(error).__name__
        raise AuditLogError(
            f"importing {module_name} failed: {kind}: {error}"
        ) from error
    for attribute in attributes.split("."):
        try:
            found = getattr(found, attribute)
        except AttributeError:
            msg = f"{module_name} has no {attributes!r}"
            raise ConfigurationError(msg) from None
    return found
