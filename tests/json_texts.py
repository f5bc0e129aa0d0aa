"""JSON bodies as clients really write them, and the naive way to split one."""

import json

from hypothesis import strategies as st

__all__ = ["bodies", "naive_members"]

_SPACE = st.sampled_from(["", "", "", " ", "\n", "\t\r ", "  "])
_NAMES = st.sampled_from(
    ["a", "b", "a/b", "~", "", "instances", "outputs", "dataframe_split", "data", "é"]
)
_SPELLED = st.sampled_from(
    [
        '"\\u0061"',
        '"\\u00e9"',
        '"\\ud83d\\ude00"',
        '"\\ud800"',
        '"\\n"',
        '"\\"{"',
        '"]"',
    ]
)
_SCALARS = st.one_of(
    st.sampled_from(["0", "-0", "1.50", "1e9", "-2E-3", "1E400", "true", "false"]),
    st.sampled_from(["null", '""', '"x"', '"é"', '"\\u00e9"', '"[1,{"', '"\\\\"']),
    st.integers().map(str),
    st.text().map(json.dumps),
    st.text().map(lambda text: json.dumps(text, ensure_ascii=False)),
    _SPELLED,
)


def _name() -> st.SearchStrategy[str]:
    return _NAMES.map(lambda name: json.dumps(name, ensure_ascii=False)) | _SPELLED


@st.composite
def _containers(draw: st.DrawFn, inner: st.SearchStrategy[str]) -> str:
    space, colon, comma = draw(_SPACE), draw(_SPACE), draw(_SPACE)
    items = draw(st.lists(inner, max_size=5))
    if draw(st.booleans()):
        items = [f"{draw(_name())}:{colon}{item}" for item in items]
        return "{" + space + f",{comma}".join(items) + space + "}"
    return "[" + space + f",{comma}".join(items) + space + "]"


def bodies() -> st.SearchStrategy[bytes]:
    """Return texts of JSON: any spacing, spelling and duplicates; also dumped ones."""
    written = st.recursive(_SCALARS, _containers, max_leaves=25)
    values = st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(_NAMES | st.text(), inner),
    )
    dumped = st.builds(
        json.dumps,
        values,
        ensure_ascii=st.booleans(),
        indent=st.sampled_from([None, None, 2]),
        separators=st.sampled_from([(",", ":"), (", ", ": "), (",", ": ")]),
    )
    framed = st.builds(
        lambda a, text, b: a + text + b, _SPACE, written | dumped, _SPACE
    )
    return framed.map(lambda text: text.encode("utf-8", "surrogatepass"))


class _NoneError(Exception):
    pass


def naive_members(
    prefix: str, body: bytes, depth: int
) -> list[tuple[str, bytes]] | None:
    """Split a body character by character (`FORMATS.md` §3), slowly and plainly."""
    if depth < 1 or len(body) > 1 << 20:
        return None
    try:
        found: list[tuple[str, str]] = []
        text = body.decode()
        start = _skip(text, 0)
        end = _value(text, start, 1, [])
        if _skip(text, end) != len(text):
            return None
        _walk(prefix, text[start:end], depth, found, top=True)
    except (_NoneError, UnicodeError):
        return None
    if len(found) > 16_384 or any(len(path.encode()) > 1024 for path, _ in found):
        return None
    return [(path, value.encode()) for path, value in found]


def _walk(
    path: str, text: str, depth: int, found: list[tuple[str, str]], *, top: bool
) -> None:
    """Add the members of one value; `depth` levels of them are to be opened."""
    children: list[tuple[str, str]] = []
    if depth < 1 or text[0] not in "{[":
        return
    _value(text, 0, 1, children)
    if text[0] == "{":
        names = [json.loads(name) for name, _ in children]
        if len(set(names)) != len(names):
            raise _NoneError
        more = {"dataframe_split": 2} | dict.fromkeys(
            ("instances", "inputs", "predictions", "outputs"), 1
        )
        for name, (_, value) in zip(names, children, strict=True):
            name.encode()
            child = f"{path}/{name.replace('~', '~0').replace('/', '~1')}"
            found.append((child, value))
            extra = more.get(name, 0) if top else 0
            _walk(child, value, depth - 1 + extra, found, top=False)
    else:
        for index, (_, value) in enumerate(children):
            found.append((f"{path}/{index}", value))
            _walk(f"{path}/{index}", value, depth - 1, found, top=False)


def _skip(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at


def _value(text: str, at: int, level: int, children: list[tuple[str, str]]) -> int:
    """Return the end of the value at `at`, and what stands directly in it."""
    if text[at : at + 1] == '"':
        return _string(text, at)
    if text[at : at + 1] not in ("{", "["):
        return _literal(text, at)
    if level > 64:
        raise _NoneError
    closer = "}" if text[at] == "{" else "]"
    named = text[at] == "{"
    at = _skip(text, at + 1)
    if text[at : at + 1] == closer:
        return at + 1
    while True:
        name = ""
        if named:
            end = _string(text, at)
            name, at = text[at:end], _skip(text, end)
            if text[at : at + 1] != ":":
                raise _NoneError
            at = _skip(text, at + 1)
        end = _value(text, at, level + 1, [])
        children.append((name, text[at:end]))
        at = _skip(text, end)
        if text[at : at + 1] == closer:
            return at + 1
        if text[at : at + 1] != ",":
            raise _NoneError
        at = _skip(text, at + 1)


def _string(text: str, at: int) -> int:
    if text[at : at + 1] != '"':
        raise _NoneError
    at += 1
    while True:
        char = text[at : at + 1]
        if char == '"':
            return at + 1
        if not char or char < " ":
            raise _NoneError
        if char == "\\":
            at += 1
            char = text[at : at + 1]
            if char == "u":
                digits = text[at + 1 : at + 5]
                if len(digits) < 4 or set(digits) - set("0123456789abcdefABCDEF"):
                    raise _NoneError
                at += 4
            elif not char or char not in '"\\/bfnrt':
                raise _NoneError
        at += 1


def _literal(text: str, at: int) -> int:
    for word in ("true", "false", "null"):
        if text.startswith(word, at):
            return at + len(word)
    start = at
    at += text[at : at + 1] == "-"
    whole = _digits(text, at)
    if whole > at + 1 and text[at] == "0":
        raise _NoneError
    at = whole
    if text[at : at + 1] == ".":
        at = _digits(text, at + 1)
    if text[at : at + 1] in ("e", "E"):
        at += 1
        at += text[at : at + 1] in ("+", "-")
        at = _digits(text, at)
    assert at > start
    return at


def _digits(text: str, at: int) -> int:
    start = at
    while text[at : at + 1] in tuple("0123456789"):
        at += 1
    if at == start:
        raise _NoneError
    return at
