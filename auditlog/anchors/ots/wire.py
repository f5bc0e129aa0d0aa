"""Numbers and byte strings as OpenTimestamps writes them, in their one spelling.

::

    varuint  = LEB128, shortest form: seven bits a byte, the lowest first
    varbytes = varuint *OCTET
"""

from auditlog.core.errors import MalformedError

__all__ = ["Reader", "format_varbytes", "format_varuint"]

_MAX_SHIFT = 28  # the fifth byte is the last that any bound allows


def format_varuint(value: int) -> bytes:
    """Return a number that is not negative."""
    data = bytearray()
    while value > 0x7F:
        data.append(value & 0x7F | 0x80)
        value >>= 7
    data.append(value)
    return bytes(data)


def format_varbytes(value: bytes) -> bytes:
    """Return bytes behind their number."""
    return format_varuint(len(value)) + value


class Reader:
    """Bytes from outside, taken from the front; each method raises MalformedError."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0

    def take(self, size: int) -> bytes:
        """Return so many bytes."""
        taken = self._data[self._at : self._at + size]
        if len(taken) != size:
            raise MalformedError("expected a whole proof, got one that is cut short")
        self._at += size
        return taken

    def byte(self) -> int:
        """Return the next byte."""
        return self.take(1)[0]

    def varuint(self, highest: int) -> int:
        """Return a number up to `highest`."""
        value = shift = 0
        while (byte := self.byte()) > 0x7F and shift < _MAX_SHIFT:
            value |= (byte & 0x7F) << shift
            shift += 7
        value |= byte << shift
        if value > highest or (byte == 0 and shift):
            raise MalformedError(f"expected a number up to {highest}, in shortest form")
        return value

    def varbytes(self, highest: int, lowest: int = 0) -> bytes:
        """Return bytes behind their number, which is within bounds."""
        size = self.varuint(highest)
        if size < lowest:
            raise MalformedError("expected an argument, got none")
        return self.take(size)

    def end(self) -> None:
        """Check that nothing is left."""
        if self._at != len(self._data):
            raise MalformedError("expected nothing after the end of a proof or a part")
