r"""The digest of a fitted estimator in memory, the same in every process.

Pickles will not do: their bytes depend on the order of sets, on shared references, on
the layout of arrays and on padding that nobody wrote. So the estimator is taken apart
as pickling would, without pickling, and what it is made of is hashed in one form::

    digest  SHA-256("auditlog/estimator/v1\n" || item)
    item    tag(1) || u64 length || content

Numbers, texts and bytes by their value; arrays by type, shape and little-endian bytes
in C order, structured ones field by field, masked ones without what stands under the
mask, which may be anything; sparse matrices as canonical CSR; lists in
their order; sets and dictionaries in the order of their items' bytes; functions and
classes by name only; any other object as what rebuilds it: a name, arguments, state.

So one changed coefficient, parameter or class changes the digest. Not part of it: the
code behind a name, the version of scikit-learn that scikit-learn notes in a state
(versions are details of a model), and how long a search took to fit.
"""

import copyreg
import platform
import re
import struct
import sys
import types
from collections.abc import Callable, Iterable, Mapping
from hashlib import sha256
from typing import Any

from auditlog.core.errors import ConfigurationError, MalformedError
from auditlog.core.record import MAX_INTEGER, canonical_json

__all__ = ["read_estimator"]

_Details = tuple[tuple[str, str], ...]
_HEAD = b"auditlog/estimator/v1\n"
_PROTOCOL = 4
_NOT_STATE = frozenset({"_sklearn_version", "_stop_words_id", "refit_time_"})
"""Attributes that say how or where a state was made, not what it does."""
_RESULTS = "cv_results_"
_NOT_RESULTS = frozenset(
    {"mean_fit_time", "std_fit_time", "mean_score_time", "std_score_time"}
)
"""Likewise in the results of a search. A vocabulary may well have such words."""
_COUNTERS = slice(7, 11)
"""In the state of scikit-learn's search trees: how often they were asked, and how."""
_X87_BITS, _X87_BYTES = 63, 10
"""Of a long double on x86: its mantissa, and all that is not padding."""
_NAMED = (type, types.FunctionType, types.BuiltinFunctionType)
_MAX_VALUE = 4096
"""Characters of the text of one parameter; of a larger one only its type is told."""
_LIBRARY = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,50}")
_MAX_LIBRARIES = 16
_MAX_NAME = 64
_MAX_DEPTH = 100
"""Objects inside each other. The limit of the interpreter may have been raised."""


def read_estimator(
    estimator: Any,
) -> tuple[str, _Details, tuple[tuple[str, bytes], ...]]:
    """Return digest, details and what is to be sealed of a fitted estimator.

    Raises:
        ConfigurationError: it holds something that has no canonical form, which is
            named, or it has no parameters.
    """
    _check_kind(estimator)
    encoder = _Encoder()
    name = type(estimator).__name__
    item = encoder.encode(estimator, name)
    digest = sha256(_HEAD + item).hexdigest()
    details = (
        ("format", "estimator"),
        ("class", _name_of(type(estimator))[:256]),
        ("python.version", platform.python_version()),
        *_versions(encoder.modules),
    )
    parameters = _parameters(estimator.get_params(deep=True))
    return f"sha256:{digest}", details, (("parameters", parameters),)


def _check_kind(estimator: Any) -> None:
    has_parameters = callable(getattr(estimator, "get_params", None))
    if isinstance(estimator, type) or not has_parameters:
        raise ConfigurationError(
            "expected a fitted estimator with get_params, as scikit-learn's have, got "
            f"{type(estimator).__name__}"
        )


class _Encoder:
    """Gives each value its one form. Of large values it is a hash, not the bytes."""

    def __init__(self) -> None:
        self.modules: set[str] = set()
        """Packages whose classes and functions are in it."""
        self._open: set[int] = set()
        self._kinds: dict[type, Callable[[Any, str], bytes]] = {
            type(None): lambda _value, _where: b"",
            bool: lambda value, _where: b"%x" % value,
            int: lambda value, _where: b"%x" % value,
            float: lambda value, _where: struct.pack("<d", value),
            complex: lambda value, _where: struct.pack("<dd", value.real, value.imag),
            str: lambda value, _where: value.encode("utf-8", "surrogatepass"),
            bytes: lambda value, _where: value,
            bytearray: lambda value, _where: bytes(value),
            list: self._sequence,
            tuple: self._sequence,
            set: self._unordered,
            frozenset: self._unordered,
            dict: self._mapping,
        }
        self._tags = dict(zip(self._kinds, b"NBIFCSYYLTUUD", strict=True))

    def encode(self, value: Any, where: str) -> bytes:
        """Return the item of a value; `where` names it in a message."""
        if id(value) in self._open:
            raise _refused(where, "refers to what it is a part of")
        if len(self._open) == _MAX_DEPTH:
            raise _refused(where, "is nested too deep")
        self._open.add(id(value))
        try:
            tag, content = self._content(value, where)
        finally:
            self._open.discard(id(value))
        return tag.to_bytes() + len(content).to_bytes(8, "big") + content

    def _content(self, value: Any, where: str) -> tuple[int, bytes]:
        kind = type(value)
        if kind in self._kinds:
            return self._tags[kind], self._kinds[kind](value, where)
        if isinstance(value, _NAMED) and not _is_bound(value):
            return ord("G"), self._global(value, where)
        numpy = sys.modules.get("numpy")
        if numpy is not None and isinstance(value, numpy.ma.MaskedArray):
            return ord("K"), self._masked(value, where)
        if numpy is not None and isinstance(value, numpy.ndarray | numpy.generic):
            return ord("A"), self._array(value, where)
        if kind.__module__.startswith("scipy.sparse") and _is_matrix(value):
            return ord("M"), self._sparse(value, where)
        return ord("O"), self._object(value, where)

    def _sequence(self, value: Iterable[Any], where: str) -> bytes:
        return b"".join(
            self.encode(item, f"{where}[{at}]") for at, item in enumerate(value)
        )

    def _unordered(self, value: Iterable[Any], where: str) -> bytes:
        return b"".join(
            sorted(self.encode(item, f"an item of {where}") for item in value)
        )

    def _mapping(self, value: Mapping[Any, Any], where: str) -> bytes:
        items = (
            self.encode(key, f"a key of {where}")
            + self.encode(item, _inner(where, key))
            for key, item in value.items()
        )
        return b"".join(sorted(items))

    def _global(self, value: Any, where: str) -> bytes:
        name = _name_of(value)
        if "<" in name:
            raise _refused(
                where, "is a function or class without a name: define it in a module"
            )
        self.modules.add(name.partition(".")[0])
        return name.encode()

    def _array(self, value: Any, where: str) -> bytes:
        import numpy as np  # noqa: PLC0415 - whoever has an array has it

        self.modules.add("numpy")
        array = np.asarray(value)
        head = self.encode((array.dtype.str, array.shape), where)
        if array.dtype.names is not None:
            names = array.dtype.names
            return head + self._mapping({name: array[name] for name in names}, where)
        if array.dtype.hasobject:
            return head + self._sequence(array.ravel().tolist(), where)
        plain = array.astype(array.dtype.newbyteorder("<"), order="C", copy=False)
        if array.dtype.char in "gG" and np.finfo(np.longdouble).nmant == _X87_BITS:
            plain = np.array(plain).reshape(-1).view(np.uint8)
            plain.reshape(-1, np.dtype("g").itemsize)[:, _X87_BYTES:] = 0
        return head + sha256(plain.tobytes()).digest()

    def _masked(self, value: Any, where: str) -> bytes:
        import numpy as np  # noqa: PLC0415 - whoever has an array has it

        mask, nothing = np.ma.getmaskarray(value), np.zeros((), value.dtype)
        parts = (mask, value.filled(nothing), value.fill_value)
        return self.encode(parts, where)

    def _sparse(self, value: Any, where: str) -> bytes:
        matrix = value.tocsr(copy=True)
        matrix.sum_duplicates()
        parts = (matrix.indptr, matrix.indices, matrix.data)
        return self.encode((value.shape, *parts), where)

    def _object(self, value: Any, where: str) -> bytes:
        rebuilt = _reduced(value, where)
        if isinstance(rebuilt, str):
            if not rebuilt.isidentifier():
                raise _refused(where, "has a name that leads nowhere")
            module = type(value).__module__
            self.modules.add(module.partition(".")[0])
            return self.encode((module, rebuilt), where)
        rebuild, arguments, *more = rebuilt
        state, items, pairs = [*more, None, None, None][:3]
        if hasattr(value, "reset_n_calls") and isinstance(state, tuple):
            state = (*state[: _COUNTERS.start], *state[_COUNTERS.stop :])
        return b"".join(
            (
                self.encode(rebuild, f"the constructor of {where}"),
                self.encode(arguments, f"the arguments of {where}"),
                self.encode(_lasting(state), where),
                self.encode(list(items or ()), where),
                self.encode(dict(pairs or ()), where),
            )
        )


def _reduced(value: Any, where: str) -> Any:
    """Return what pickling would keep of an object, without doing it."""
    random = sys.modules.get("numpy.random")
    if random is not None and isinstance(value, random.RandomState):
        return type(value), (), value.get_state(legacy=False)
    special = copyreg.dispatch_table.get(type(value))
    try:
        rebuilt = special(value) if special else value.__reduce_ex__(_PROTOCOL)
        if not isinstance(rebuilt, str):
            _rebuild, _arguments, *_more = rebuilt
    except ConfigurationError:
        raise
    except Exception as error:
        kind = _name_of(type(value))
        raise _refused(where, f"is a {kind}, which cannot be taken apart") from error
    return rebuilt


def _is_bound(value: Any) -> bool:
    """Return whether this is a method in C of some object, which counts as well."""
    owner = getattr(value, "__self__", None)
    is_builtin = isinstance(value, types.BuiltinFunctionType)
    return is_builtin and not isinstance(owner, types.ModuleType | None)


def _is_matrix(value: Any) -> bool:
    """Return whether there is a CSR of it: SciPy has sparse arrays of more axes."""
    return hasattr(value, "tocsr") and value.ndim < 3


def _lasting(state: Any) -> Any:
    """Return a state without what another fit of the same would have otherwise."""
    if type(state) is not dict:
        return state
    kept = {name: state[name] for name in state if name not in _NOT_STATE}
    results = kept.get(_RESULTS)
    if type(results) is dict:
        names = [name for name in results if name not in _NOT_RESULTS]
        kept[_RESULTS] = {name: results[name] for name in names}
    return kept


def _inner(where: str, key: object) -> str:
    named = isinstance(key, str) and key.isidentifier() and len(key) <= _MAX_NAME
    return f"{where}.{key}" if named else f"an item of {where}"


def _name_of(value: Any) -> str:
    module = getattr(value, "__module__", None) or "builtins"
    return f"{module}.{getattr(value, '__qualname__', type(value).__qualname__)}"


def _refused(where: str, why: str) -> ConfigurationError:
    return ConfigurationError(
        f"expected an estimator with a canonical form, but {where[:200]} {why}"
    )


def _versions(modules: set[str]) -> _Details:
    """Return the versions of the packages that an estimator is made of."""
    found = []
    names = [name for name in sorted(modules) if _LIBRARY.fullmatch(name)]
    for name in names[:_MAX_LIBRARIES]:
        version = getattr(sys.modules.get(name), "__version__", None)
        if isinstance(version, str) and version.isprintable() and version:
            found.append((f"{name.lower()}.version", version[:64]))
    return tuple(found)


def _parameters(params: Mapping[str, Any]) -> bytes:
    """Return parameters as canonical JSON; what is no plain value by its type."""
    return canonical_json({str(name): _plain(value) for name, value in params.items()})


def _plain(value: Any) -> Any:
    kind = type(value)
    if isinstance(value, _NAMED):
        return _name_of(value)
    if kind.__module__ == "numpy" and hasattr(value, "item") and not value.shape:
        return _plain(value.item())
    if kind is float or (kind is int and abs(value) > MAX_INTEGER):
        return str(value)
    try:
        if len(canonical_json(value := _nested(value))) <= _MAX_VALUE:
            return value
    except (MalformedError, RecursionError):
        pass
    return f"<{_name_of(kind)}>"


def _nested(value: Any) -> Any:
    if type(value) in {list, tuple}:
        return [_plain(item) for item in value]
    if type(value) is dict:
        return {key: _plain(item) for key, item in value.items()}
    return value
