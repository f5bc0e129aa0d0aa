"""The file of anchors: what it may say, and what is refused with which words."""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from auditlog.anchors.attestation import Anchor
from auditlog.core.errors import ConfigurationError, MalformedError
from auditlog.log.anchor_file import KINDS, AnchorFile, anchor_names
from tests.anchoring import KINDS as FAKES
from tests.anchoring import write_anchors


@pytest.fixture
def file(tmp_path: Path) -> AnchorFile:
    return AnchorFile(tmp_path / "anchors.toml", FAKES)


def _write(file: AnchorFile, text: str | bytes) -> None:
    file.path.write_bytes(text if isinstance(text, bytes) else text.encode())


def test_no_file_and_an_empty_one_name_no_anchors(file: AnchorFile) -> None:
    assert file.anchors() == ()
    _write(file, "# none yet\n")
    assert file.anchors() == ()
    assert file.kinds() == {}


def test_anchors_come_in_their_order_with_options_and_directory(
    file: AnchorFile,
) -> None:
    write_anchors(file.path.parent, {"name": "b", "world": "w"}, {"name": "a"})
    names = [anchor.name for anchor in file.anchors()]
    assert names == ["b", "a"] == list(file.kinds())
    assert (file.path.parent / "w").is_dir(), "files are looked for beside it"


def test_the_same_anchors_come_again_until_the_file_changes(file: AnchorFile) -> None:
    write_anchors(file.path.parent, {})
    before = file.anchors()
    assert file.anchors() is before
    write_anchors(file.path.parent, {})
    os.utime(file.path, ns=(1, 1))
    assert file.anchors() is not before
    file.path.unlink()
    assert file.anchors() == ()


TABLE = '[[anchor]]\nkind = "fake"\nname = "{}"\n'
REFUSED: dict[str, tuple[str | bytes, str]] = {
    "not TOML": ("[[anchor", "expected TOML: "),
    "not UTF-8": (b"\xff", "expected TOML: "),
    "nested for ever": ("a = " + "[" * 5000, "expected TOML|expected tables"),
    "one table": (
        "[anchor]\nkind = 'fake'\n",
        r"expected tables \[\[anchor\]\] and no",
    ),
    "unknown table": ("[[ancor]]\n", "and nothing else, got ancor"),
    "unknown key": ("x = 1\n", "and nothing else, got x"),
    "no table": ("anchor = [1]\n", "anchor 1: expected a table"),
    "no kind": ('[[anchor]]\nname = "a"\n', "anchor 1: expected a kind, got None"),
    "no name": ('[[anchor]]\nkind = "fake"\n', "anchor 1: name takes 1 to 64 of"),
    "a number as name": ('[[anchor]]\nkind = "fake"\nname = 1\n', "name takes .*got 1"),
    "capitals": (TABLE.format("A"), "name takes .*got 'A'"),
    "a path": (TABLE.format("../a"), "name takes .*got '../a'"),
    "too long": (TABLE.format("a" * 65), "name takes 1 to 64"),
    "unknown kind": (
        '[[anchor]]\nkind = "x"\nname = "a"\n',
        "anchor a: kind takes one of fake; got 'x'",
    ),
    "unknown option": (
        TABLE.format("a") + "y = 1\n",
        "anchor a: expected mode and",
    ),
    "twice": (
        TABLE.format("a") * 2,
        "anchor 2: expected a name of its own, got 'a'",
    ),
    "too many": (
        "".join(TABLE.format(f"a{n}") for n in range(17)),
        "expected at most 16 anchors, got 17",
    ),
    "too large": ("#" * (1 << 17), "expected at most 65536 bytes"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_is_not_understood_is_refused(file: AnchorFile, what: str) -> None:
    text, message = REFUSED[what]
    _write(file, text)
    for _ in range(2):
        with pytest.raises(ConfigurationError, match=message) as error:
            file.anchors()
        assert str(error.value).startswith(str(file.path))


def test_each_that_cannot_be_used_is_told_by_itself(file: AnchorFile) -> None:
    write_anchors(file.path.parent, {"mode": "sing"}, {"name": "b"})
    (bad, good) = file.each()
    assert isinstance(bad[2], ConfigurationError)
    assert not isinstance(good[2], ConfigurationError)


@pytest.mark.parametrize(
    ("raised", "message"),
    [
        (MalformedError("expected a certificate"), "a1: expected a certificate"),
        (ValueError("key 0xSECRET"), r"a1: a fault of ours \(ValueError\)"),
    ],
)
def test_another_error_of_a_kind_is_one_of_configuration(
    tmp_path: Path, raised: Exception, message: str
) -> None:
    def fails(name: str, options: Mapping[str, Any], directory: Path) -> Anchor:
        raise raised

    write_anchors(tmp_path, {})
    file = AnchorFile(tmp_path / "anchors.toml", {"fake": fails})
    with pytest.raises(ConfigurationError, match=f"anchor {message}") as error:
        file.anchors()
    assert "SECRET" not in str(error.value)


def test_names_are_read_whatever_is_wrong_with_the_kinds(tmp_path: Path) -> None:
    write_anchors(tmp_path, {"kind": "smoke"}, {"name": "b"})
    assert anchor_names(tmp_path / "anchors.toml") == ["a1", "b"]
    (tmp_path / "anchors.toml").write_text("[[")
    assert anchor_names(tmp_path / "anchors.toml") == []


def test_a_directory_in_its_place_is_said(file: AnchorFile) -> None:
    file.path.mkdir()
    with pytest.raises(ConfigurationError, match=r"cannot read .*: Is a directory"):
        file.anchors()


def test_the_kinds_are_those_that_can_be_checked() -> None:
    assert set(KINDS) == {"evm", "ots", "rfc3161"}
