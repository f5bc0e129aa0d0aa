"""The digest of a file or directory: all of it, under its names, as it stands."""

import os
import shutil
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from auditlog.core.errors import ConfigurationError, NotFoundError
from auditlog.models import manifest
from auditlog.models.identity import Model
from auditlog.models.manifest import Item, Manifest, read_manifest


def digest_of(root: Path) -> str:
    return read_manifest(root).digest()


@pytest.fixture
def model(tmp_path: Path) -> Path:
    root = tmp_path / "model"
    (root / "code").mkdir(parents=True)
    (root / "weights.bin").write_bytes(b"weights" * 1000)
    (root / "code" / "a.py").write_text("a = 1\n")
    (root / "code.txt").write_text("")
    return root


def test_a_file_has_the_digest_that_sha256sum_prints(tmp_path: Path) -> None:
    path = tmp_path / "model.joblib"
    path.write_bytes(b"x" * 3_000_000)
    assert digest_of(path) == "sha256:" + sha256(b"x" * 3_000_000).hexdigest()
    link = tmp_path / "latest"
    link.symlink_to("model.joblib")
    assert digest_of(link) == digest_of(path)


def test_a_directory_has_the_digest_of_its_manifest(model: Path) -> None:
    lines = [
        (b"", "code.txt"),
        (b"a = 1\n", "code/a.py"),
        (b"weights" * 1000, "weights.bin"),
    ]
    text = "auditlog/model-directory/v1\n" + "".join(
        f"sha256:{sha256(data).hexdigest()} {len(data)} {path}\n"
        for data, path in lines
    )
    assert digest_of(model) == "sha256:" + sha256(text.encode()).hexdigest()


def test_the_digest_of_openssf_model_signing_is_matched() -> None:
    """As model-signing 1.1.1 has it for these files (its subject's digest)."""
    files = (("a-b/x", b"1"), ("a/y", b"2"), ("z", b"3"))
    items = tuple(Item(p, 1, sha256(data).digest()) for p, data in files)
    ours = Manifest(items, is_directory=True).openssf_digest()
    assert ours == OPENSSF


OPENSSF = "sha256:afd6ef93a654a25be00a897ca8fcdb3d74c49460e27086262040a6dbd887cac0"


def _grow(root: Path) -> None:
    (root / "more").write_text("")


def _change(root: Path) -> None:
    (root / "code.txt").write_text("x")


def _rename(root: Path) -> None:
    (root / "weights.bin").rename(root / "weights2.bin")


def _swap(root: Path) -> None:
    data = (root / "weights.bin").read_bytes()
    (root / "weights.bin").write_bytes((root / "code/a.py").read_bytes())
    (root / "code/a.py").write_bytes(data)


def _move(root: Path) -> None:
    (root / "code" / "a.py").rename(root / "a.py")


@pytest.mark.parametrize("change", [_grow, _change, _rename, _swap, _move])
def test_any_change_shows(model: Path, change: Callable[[Path], None]) -> None:
    before = digest_of(model)
    change(model)
    assert digest_of(model) != before


def test_copies_modes_and_times_do_not_show(model: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(model, tmp_path / "other", copy_function=shutil.copy))
    (other / "empty").mkdir()
    (other / "weights.bin").chmod(0o600)
    os.utime(other / "weights.bin", (1, 1))
    assert digest_of(other) == digest_of(model)


def test_links_inside_count_as_what_they_lead_to(model: Path, tmp_path: Path) -> None:
    copied = Path(shutil.copytree(model, tmp_path / "other"))
    (model / "link").symlink_to("weights.bin")
    (model / "code2").symlink_to("code", target_is_directory=True)
    shutil.copy(copied / "weights.bin", copied / "link")
    shutil.copytree(copied / "code", copied / "code2")
    assert digest_of(model) == digest_of(copied)


@pytest.mark.parametrize("target", ["/etc/hosts", "../../secret", "../..", "/"])
def test_links_that_lead_out_are_refused(model: Path, target: str) -> None:
    (model.parent / "secret").write_text("secret")
    (model / "code" / "link").symlink_to(target)
    with pytest.raises(
        ConfigurationError, match="but code/link is a link that leads out of the model"
    ):
        digest_of(model)


def test_links_to_nothing_and_in_circles_are_refused(model: Path) -> None:
    (model / "link").symlink_to("nowhere")
    with pytest.raises(ConfigurationError, match="link is a link to nothing"):
        digest_of(model)
    (model / "link").unlink()
    (model / "link").symlink_to("link")
    with pytest.raises(
        ConfigurationError, match="link is a link to nothing, or in a c"
    ):
        digest_of(model)
    (model / "link").unlink()
    (model / "code" / "up").symlink_to("..", target_is_directory=True)
    (model / "code" / "on").symlink_to("..", target_is_directory=True)
    with pytest.raises(
        ConfigurationError, match="is a directory too deep, or a circle"
    ):
        digest_of(model)


def test_what_is_no_file_is_refused_and_not_waited_for(model: Path) -> None:
    os.mkfifo(model / "pipe")
    expected = "but pipe is neither a file nor a directory"
    with pytest.raises(ConfigurationError, match=expected):
        digest_of(model)
    with pytest.raises(ConfigurationError, match=expected):
        digest_of(model / "pipe")


@pytest.mark.parametrize("name", ["config.json", "model.onnx", "model.pkl"])
def test_nor_is_it_waited_for_where_its_name_is_that_of_a_format(
    tmp_path: Path, name: str
) -> None:
    os.mkfifo(tmp_path / name)
    (tmp_path / "model.safetensors").write_bytes(b"")
    for place in (tmp_path, tmp_path / name):
        with pytest.raises(ConfigurationError, match=f"but {name} is neither a file"):
            Model.from_path(place)


def test_a_path_that_no_system_could_open_is_refused(tmp_path: Path) -> None:
    (tmp_path / "circle").symlink_to("circle")
    with pytest.raises(ConfigurationError, match="Too many levels of symbolic links"):
        digest_of(tmp_path / "circle")
    with pytest.raises(ConfigurationError, match="got one with a zero"):
        Model.from_path(tmp_path / "a\0b")


@pytest.mark.parametrize("name", [b"a\nb", b"\xff", b"a\x7f"])
def test_names_with_two_readings_are_refused(model: Path, name: bytes) -> None:
    Path(os.fsdecode(os.fsencode(model) + b"/" + name)).write_text("")
    with pytest.raises(ConfigurationError, match=r"(control characters|not UTF-8)"):
        digest_of(model)


def test_nothing_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no model at"):
        digest_of(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError, match="got a directory without files"):
        digest_of(tmp_path / "empty")


def test_the_number_of_files_is_bounded(
    model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(manifest, "MAX_FILES", 3)
    with pytest.raises(
        ConfigurationError, match="at most 3 files in a model, got more"
    ):
        digest_of(model)


@pytest.mark.parametrize("change", [_grow, _change, _rename])
def test_what_changes_while_it_is_read_is_noticed(
    model: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    read = manifest._read
    left = [change]

    def reading(name: str, path: Path) -> object:
        found = read(name, path)
        # The last one: all others were read before.
        if name == "weights.bin" and left:
            left.pop()(model)
        return found

    monkeypatch.setattr(manifest, "_read", reading)
    with pytest.raises(ConfigurationError, match="changed while it was read"):
        digest_of(model)


PATHS = st.lists(
    st.text("ab./ ", min_size=1, max_size=8), unique=True, min_size=1, max_size=5
)


@given(PATHS, st.binary(max_size=2), st.data())
def test_no_two_manifests_have_one_digest(
    paths: list[str], content: bytes, data: st.DataObject
) -> None:
    def made(names: list[str]) -> Manifest:
        every = sorted(names, key=str.encode)
        digest = sha256(content).digest()
        return Manifest(
            tuple(Item(name, len(content), digest) for name in every), is_directory=True
        )

    others = data.draw(PATHS)
    same = sorted(paths) == sorted(others)
    assert (made(paths).digest() == made(others).digest()) is same
