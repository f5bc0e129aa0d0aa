"""The closed lists of what an entry may say about a message in clear.

Strings in an entry never come from traffic (`FORMATS.md` §1). A media type or method
that is in one of these lists stands in clear; any other is written ``other``, and what
the client or the application sent goes under ``context/request.mediatype``,
``context/response.mediatype`` or ``context/request.method``.
"""

__all__ = [
    "MEDIA_TYPES",
    "METHODS",
    "NO_MEDIA_TYPE",
    "OTHER",
    "media_type_name",
    "method_name",
]

OTHER = "other"
"""Stands for everything that is in none of the lists."""

NO_MEDIA_TYPE = "none"
"""Stands for a message without a Content-Type."""

METHODS = frozenset(
    {
        "CONNECT",
        "DELETE",
        "GET",
        "HEAD",
        "OPTIONS",
        "PATCH",
        "POST",
        "PUT",
        "QUERY",
        "TRACE",
    }
)
"""Methods that stand in clear: those of RFC 9110, PATCH and QUERY."""

MEDIA_TYPES = frozenset(
    {
        "application/cbor",
        "application/cloudevents+json",
        "application/cloudevents-batch+json",
        "application/geo+json",
        "application/gzip",
        "application/json",
        "application/json-seq",
        "application/jsonl",
        "application/ld+json",
        "application/merge-patch+json",
        "application/msgpack",
        "application/octet-stream",
        "application/pdf",
        "application/problem+json",
        "application/protobuf",
        "application/vnd.api+json",
        "application/vnd.apache.arrow.file",
        "application/vnd.apache.arrow.stream",
        "application/vnd.apache.parquet",
        "application/x-ndjson",
        "application/x-protobuf",
        "application/x-www-form-urlencoded",
        "application/xml",
        "application/yaml",
        "application/zip",
        "audio/aac",
        "audio/flac",
        "audio/mp4",
        "audio/mpeg",
        "audio/ogg",
        "audio/wav",
        "audio/webm",
        "image/avif",
        "image/bmp",
        "image/gif",
        "image/jpeg",
        "image/png",
        "image/svg+xml",
        "image/tiff",
        "image/webp",
        "multipart/form-data",
        "multipart/mixed",
        "text/css",
        "text/csv",
        "text/event-stream",
        "text/html",
        "text/markdown",
        "text/plain",
        "text/xml",
        "video/mp4",
        "video/mpeg",
        "video/webm",
    }
)
"""Media types that stand in clear, lower case and without parameters."""


def media_type_name(header: str | None) -> tuple[str, bytes | None]:
    """Return what an entry says of a Content-Type, and the literal if it is hidden.

    Args:
        header: the header's value as sent, as Latin-1; None where there was none.

    Returns:
        A member of `MEDIA_TYPES` and None, `NO_MEDIA_TYPE` and None, or `OTHER` and
        the header's bytes. Parameters such as a charset are not part of the name.
    """
    if header is None:
        return NO_MEDIA_TYPE, None
    # Only what HTTP calls white space, as in `is_json`: NBSP is part of another name.
    name = header.partition(";")[0].strip(" \t").lower()
    if name in MEDIA_TYPES:
        return name, None
    return OTHER, header.encode("latin-1", "replace")


def method_name(method: str) -> str:
    """Return what an entry says of a method: itself if listed, else `OTHER`.

    Methods are case-sensitive (RFC 9110 §9.1): ``post`` is not ``POST``.
    """
    return method if method in METHODS else OTHER
