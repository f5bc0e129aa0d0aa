"""The options of an ``[[anchor]]`` table of kind ``rfc3161``, read strictly."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from auditlog.anchors.http import Endpoint, parse_endpoint
from auditlog.anchors.rfc3161.check import MAX_CRLS
from auditlog.anchors.rfc3161.loading import load_root
from auditlog.anchors.trust import Authority
from auditlog.core.errors import AuditLogError, ConfigurationError, MalformedError

__all__ = ["Options", "parse_options", "read_file"]

_REQUIRED: dict[str, type] = {"url": str, "policy": str, "root": str}
_OPTIONAL: dict[str, type] = {"intermediates": str, "crls": list, "timeout": int}
_ARC = "(?:0|[1-9][0-9]{0,30})"
_OID = re.compile(rf"(?:[01]\.(?:[0-9]|[1-3][0-9])|2\.{_ARC})(?:\.{_ARC})+")
_MAX_OID = 200
_MAX_FILE = 1 << 20
_MAX_TIMEOUT = 600


class Options(NamedTuple):
    """What an operator says about an authority."""

    endpoint: Endpoint
    authority: Authority
    crls: tuple[Endpoint | Path, ...]
    timeout: float


def parse_options(name: str, options: Mapping[str, Any], directory: Path) -> Options:
    """Return what stands in a table, without `kind` and `name`.

    Args:
        name: the operator's name for the anchor.
        options: the table.
        directory: against which file names are resolved.

    Raises:
        ConfigurationError: an option is missing, unknown or unusable.
    """
    try:
        _check(options)
        return Options(
            _endpoint("url", options["url"]),
            _authority(name, options, directory),
            tuple(_source(one, directory) for one in options.get("crls", ())),
            float(options.get("timeout", 10)),
        )
    except AuditLogError as error:
        raise ConfigurationError(f"anchor {name}: {error}") from None


def read_file(path: Path) -> bytes:
    """Return what is in a file that the operator named.

    Raises:
        ConfigurationError: it cannot be read, or is too long.
    """
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_FILE + 1)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from None
    if len(data) > _MAX_FILE:
        raise ConfigurationError(f"expected {path} to have up to {_MAX_FILE} bytes")
    return data


def _check(options: Mapping[str, Any]) -> None:
    known = {**_REQUIRED, **_OPTIONAL}
    for key in options:
        if key not in known:
            raise ConfigurationError(
                f"unknown option {key[:40]!r}, expected {', '.join(known)}"
            )
    for key, kind in known.items():
        if key not in options and key in _REQUIRED:
            raise ConfigurationError(f"expected the option {key}")
        if key in options and type(options[key]) is not kind:
            raise ConfigurationError(
                f"expected {kind.__name__} as {key}, got {type(options[key]).__name__}"
            )
    if not 0 < options.get("timeout", 1) <= _MAX_TIMEOUT:
        raise ConfigurationError(
            f"expected a timeout of 1 to {_MAX_TIMEOUT} seconds, "
            f"got {options['timeout']}"
        )
    crls = options.get("crls", [])
    if len(crls) > MAX_CRLS or not all(type(one) is str and one for one in crls):
        raise ConfigurationError(f"expected up to {MAX_CRLS} URLs or files as crls")
    policy = options["policy"]
    if len(policy) > _MAX_OID or not _OID.fullmatch(policy):
        raise ConfigurationError(
            f"expected an OID in dots as policy, got {policy[:40]!r}"
        )


def _authority(name: str, options: Mapping[str, Any], directory: Path) -> Authority:
    root = _certificates("root", directory / options["root"])
    if len(root) != 1:
        raise ConfigurationError(f"expected one certificate as root, got {len(root)}")
    try:
        load_root(root[0])
    except MalformedError as error:
        raise ConfigurationError(f"root: {error}") from None
    others: tuple[str, ...] = ()
    if "intermediates" in options:
        others = _certificates("intermediates", directory / options["intermediates"])
    return Authority(name, options["policy"], root[0], others)


def _endpoint(key: str, url: str) -> Endpoint:
    try:
        return parse_endpoint(url)
    except ConfigurationError as error:
        raise ConfigurationError(f"{key}: {error}") from None


def _source(text: str, directory: Path) -> Endpoint | Path:
    if "://" in text:
        return _endpoint("crls", text)
    read_file(directory / text)  # early, while somebody is looking
    return directory / text


def _certificates(key: str, path: Path) -> tuple[str, ...]:
    """Return the certificates of a file, each in PEM."""
    try:
        found = x509.load_pem_x509_certificates(read_file(path))
    except ValueError:
        raise ConfigurationError(
            f"expected certificates in PEM as {key}, got something else in {path}"
        ) from None
    return tuple(one.public_bytes(Encoding.PEM).decode() for one in found)
