"""Which model decided, where the handler did not say: callable, header, route, static.

The first that knows it wins. A name that comes in a response header may have come from
the request before, so it stands in clear only where configuration lists it
(`FORMATS.md` §1).
"""

import inspect
import re
from collections.abc import Callable, Iterable
from fnmatch import translate
from typing import Any

from auditlog.capture.media import OTHER
from auditlog.config import Config
from auditlog.core.errors import ConfigurationError
from auditlog.log.telling import Named
from auditlog.models.identity import Model
from auditlog.web.asgi import Scope

__all__ = ["ModelSource", "ModelSources", "header_name", "value_of"]

ModelSource = Callable[[Scope], "str | Model | None"]
"""Names the model of a request that ends: ``name``, ``name@version`` or an identity.

From code or configuration, never from the request: without the option `models` it
stands in clear."""

_HEADER = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]*")
_MAX_KNOWN = 1024


class ModelSources:
    """The sources of one middleware, in their order.

    Where one fails the model is unknown: a wrong name is worse than none.

    Args:
        model: the option of that name, an identity, or a callable.
        config: the other sources.
        say: logs what failed, and how.

    Raises:
        ConfigurationError: a source is not as described.
    """

    def __init__(
        self,
        model: str | Model | ModelSource | None,
        config: Config,
        say: Callable[[str, Exception], None],
    ) -> None:
        static = None if config.model is None else Model.parse(config.model)
        self._call: Callable[[Scope], object] | None = None
        if isinstance(model, Model):
            static = model
        elif not (model is None or isinstance(model, str)):
            self._call = _checked(model)
        self.header = header_name("model_header", config.model_header)
        """Name of the response header that names it; empty if none does."""
        self._declared = {text: Model.parse(text) for text in config.models}
        self._routes = [
            (re.compile(translate(glob)), Model.parse(text))
            for glob, text in config.route_models
        ]
        self._by_route: dict[str, Named] = {}
        self._static = Named(static)
        dynamic = self._call or self.header or self._routes
        self.fixed = None if dynamic else self._static
        """What `name` always says; None where it depends on the request."""
        self._say = say

    def name(self, scope: Scope, said: bytes | None, route: str | None) -> Named:
        """Return the model of a request that ends; never raises.

        Args:
            scope: of the request, as it is now.
            said: value of the response header.
            route: template, or None without a router: then the path is looked at.
        """
        found = None if self._call is None else self._called(self._call, scope)
        if found is None and said is not None:
            found = self._from_header(said)
        return found or self._of_route(route or scope["path"])

    def _called(self, source: Callable[[Scope], object], scope: Scope) -> Named | None:
        try:
            named = source(scope)
            return None if named is None else Named(_identity(named))
        except Exception as error:  # noqa: BLE001 - a foreign callable
            self._say("the model callable failed", error)
            return Named(None, fault=f"model callable: {type(error).__name__}")

    def _from_header(self, value: bytes) -> Named:
        try:
            model = Model.parse(value.decode())
        except (ConfigurationError, UnicodeDecodeError):
            # What came is not repeated: it may come from anywhere.
            wrong = ConfigurationError(
                "expected name or name@version, got another text"
            )
            self._say(f"the header {self.header.decode()} names no model", wrong)
            return Named(None, fault="model header: no model's name")
        if model in self._declared.values():
            return Named(model)
        if model.name in self._declared:
            return Named(Model(model.name), literal=model)
        return Named(Model(OTHER), literal=model)

    def _of_route(self, name: str) -> Named:
        if not self._routes:
            return self._static
        if name not in self._by_route:
            if len(self._by_route) >= _MAX_KNOWN:
                self._by_route.clear()
            matching = (
                Named(model) for glob, model in self._routes if glob.match(name)
            )
            self._by_route[name] = next(matching, self._static)
        return self._by_route[name]


def header_name(option: str, text: str) -> bytes:
    """Return the value of an option that names a header.

    Raises:
        ConfigurationError: it is not a header's name in lower case.
    """
    if not _HEADER.fullmatch(text):
        raise ConfigurationError(
            f"option {option!r} takes a header name in lower case, got {text!r}"
        )
    return text.encode()


def value_of(name: bytes, headers: Iterable[Any]) -> bytes | None:
    """Return the first value of a header, named in lower case; None without one."""
    for key, value in headers:
        if len(key) == len(name) and key.lower() == name:
            return bytes(value)
    return None


def _checked(source: object) -> Callable[[Scope], object]:
    if not callable(source) or inspect.iscoroutinefunction(source):
        raise ConfigurationError(
            "option 'model' takes 'name', 'name@version', a Model or a plain "
            f"function of the scope, got {source!r}"
        )
    return source


def _identity(named: object) -> Model:
    if isinstance(named, str):
        return Model.parse(named)
    if isinstance(named, Model):
        return named
    raise ConfigurationError(
        "a model callable returns 'name@version', a Model or None, "
        f"got {type(named).__name__}"
    )
