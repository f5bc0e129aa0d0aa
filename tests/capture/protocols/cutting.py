"""Answers cut at every byte, and damaged: what every protocol is tried with."""

from collections.abc import Iterator

import msgspec
from hypothesis import strategies as st

from auditlog.capture.reading import ModelProtocol, Reading, Traffic

_WORDS = (
    b"null",
    b"{}",
    b"[]",
    b'"',
    b"\\",
    b"\xff",
    b"\r\n\r\n",
    b"\n",
    b"1e999",
    b"-1",
    b'"\\ud800"',
    b"NaN",
    b"[" * 2000,
    b"9" * 5000,
)


def cuts(traffic: Traffic) -> Iterator[tuple[bytes, Traffic]]:
    """Yield the exchange as it would be had its answer ended earlier, with that end."""
    for end in range(len(traffic.response)):
        sent = traffic.response[:end]
        yield sent, msgspec.structs.replace(traffic, response=sent)


def damaged(body: bytes) -> st.SearchStrategy[bytes]:
    """Draw a body in which bytes are replaced, dropped or come twice."""
    spots = st.integers(0, len(body))
    words = st.one_of(st.sampled_from(_WORDS), st.binary(max_size=8))
    edits = st.lists(st.tuples(spots, spots, words), min_size=1, max_size=3)
    return edits.map(lambda some: _edited(body, some))


def _edited(body: bytes, edits: list[tuple[int, int, bytes]]) -> bytes:
    for one, other, word in edits:
        body = body[: min(one, other)] + word + body[max(one, other) :]
    return body


def read(protocol: ModelProtocol, traffic: Traffic) -> Reading | None:
    """Read as the registry does: only what is claimed; and it must be writable."""
    reading = protocol.read(traffic) if protocol.claims(traffic) else None
    # What nobody claims may still be read, by option; that must not fail either.
    for one in (reading, protocol.read(traffic)):
        if one is not None:
            msgspec.json.encode(one)
    return reading
