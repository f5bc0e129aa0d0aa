"""Builds ``verify_receipt.pyz``: the offline verifier as one file, reproducibly.

The file holds `auditlog.core`, `auditlog.verifier`, what that loads for anchors and for
forks, and nothing else, uncompressed, in one order, with one date: the same sources
always give the same bytes, so that anybody can build it and compare. It needs Python
and `cryptography`; time stamps of RFC 3161 also the packages that their check names.
"""

import ast
import hashlib
import io
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

__all__ = ["build", "main", "sources"]

_PACKAGE = Path(__file__).resolve().parent
_ROOTS = ("auditlog.verifier", "auditlog.anchors.verdict", "auditlog.monitor.fork")
"""What is loaded by name; the rest is what these import."""
_SHEBANG = b"#!/usr/bin/env python3\n"
_MAIN = b"""\
import sys

if sys.version_info < (3, 11):
    sys.exit("verify_receipt.pyz needs Python 3.11 or newer")
try:
    import cryptography
except ImportError:
    sys.exit("verify_receipt.pyz needs the package cryptography, 48 or newer")

from auditlog.verifier import run

run()
"""
_DATE = (1980, 1, 1, 0, 0, 0)  # the oldest that a zip file can say
_UNIX = 3
_MODE = 0o100644 << 16


def build(out: Path) -> None:
    """Write the verifier to `out`, and make it executable."""
    buffer = io.BytesIO()
    buffer.write(_SHEBANG)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(_files()):
            info = zipfile.ZipInfo(name, _DATE)
            info.create_system = _UNIX
            info.external_attr = _MODE
            archive.writestr(info, data)
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_bytes(buffer.getvalue())
    out.chmod(0o755)


def _files() -> Iterator[tuple[str, bytes]]:
    yield "__main__.py", _MAIN
    for path in sources():
        yield path.relative_to(_PACKAGE.parent).as_posix(), path.read_bytes()


def sources() -> list[Path]:
    """Return the files of the package that the verifier is made of.

    That is the whole core, and every module that it can come to load.
    """
    found = set((_PACKAGE / "core").glob("*.py"))
    waiting = [path for name in _ROOTS for path in _paths(name)]
    while waiting:
        path = waiting.pop()
        if path not in found:
            found.add(path)
            if path.parent == _PACKAGE and path.name == "__init__.py":
                continue  # it loads nothing, and names all for type checkers
            waiting += [one for name in _imported(path) for one in _paths(name)]
    return sorted(found)


def _imported(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _paths(name: str) -> list[Path]:
    """Return the files that hold a module of the package, or what stands in one."""
    first, *rest = name.split(".")
    if first != _PACKAGE.name:
        return []
    folders = [_PACKAGE.joinpath(*rest[:depth]) for depth in range(len(rest) + 1)]
    files = [folder / "__init__.py" for folder in folders]
    files += [folder.with_suffix(".py") for folder in folders[1:]]
    return [path for path in files if path.is_file()]


def main(argv: Sequence[str] | None = None) -> int:
    """Build the file named by the only argument, ``dist/verify_receipt.pyz`` without.

    Args:
        argv: the arguments; None takes those of the process.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if len(arguments) > 1 or arguments[:1] in (["-h"], ["--help"]):
        print("usage: python -m auditlog.build_verifier [FILE]", file=sys.stderr)
        return 2
    out = Path(arguments[0] if arguments else "dist/verify_receipt.pyz")
    try:
        build(out)
    except OSError as error:
        print(f"cannot write {out}: {error.strerror}", file=sys.stderr)
        return 1
    print(f"{hashlib.sha256(out.read_bytes()).hexdigest()}  {out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
