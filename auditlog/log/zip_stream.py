"""A zip archive that is written as it is made: nothing of it has to fit in memory."""

import stat
import zipfile
from collections.abc import Callable
from datetime import UTC, datetime
from types import TracebackType
from typing import Self

__all__ = ["ZipStream"]

_MODE = (stat.S_IFREG | 0o600) << 16
_FIRST_YEAR = 1980
"""Before which no date can be said in a zip."""


class ZipStream:
    """Files, one after the other. Left by an exception, it never becomes an archive."""

    def __init__(self, write: Callable[[bytes], object], now: float) -> None:
        """Begin an archive.

        Args:
            write: takes the next bytes.
            now: time of the files, seconds since the epoch.
        """
        made = datetime.fromtimestamp(now, UTC)
        self._time = (max(made.year, _FIRST_YEAR), *made.timetuple()[1:6])
        self._sink = _Sink(write)
        self._zip = zipfile.ZipFile(self._sink, "w", zipfile.ZIP_DEFLATED)

    def add(self, name: str, data: bytes) -> None:
        """Write a file."""
        info = zipfile.ZipInfo(name, self._time)
        info.compress_type = zipfile.ZIP_DEFLATED
        info.external_attr = _MODE
        self._zip.writestr(info, data)

    def __enter__(self) -> Self:
        """Return the archive."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Write the directory, without which nobody takes it for an archive."""
        self._sink.open = kind is None
        self._zip.close()


class _Sink:
    """A file that cannot seek, as `zipfile` takes one."""

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self.open = True
        self._write = write

    def write(self, data: bytes, /) -> int:
        # What a zip writes when it is closed after a failure would make it look whole.
        if self.open:
            self._write(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is kept back."""

    def close(self) -> None:
        """Whoever gave `write` closes what is behind it."""
