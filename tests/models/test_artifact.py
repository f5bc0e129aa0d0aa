"""What formats of models say about them: read with bounds, and nothing is run."""

import json
import os
import pickle
import struct
import tempfile
import tracemalloc
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import joblib
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression

from auditlog.core.errors import ConfigurationError, NotFoundError
from auditlog.models import artifact
from auditlog.models.formats import details_of_directory
from auditlog.models.identity import Model
from auditlog.models.manifest import read_manifest
from auditlog.models.onnx import onnx_details

MLMODEL = """\
artifact_path: model
flavors:
  python_function:
    env:
      conda: conda.yaml
      virtualenv: python_env.yaml
    loader_module: mlflow.sklearn
    model_path: model.pkl
    predict_fn: predict
    python_version: 3.11.7
  sklearn:
    code: null
    pickled_model: model.pkl
    serialization_format: cloudpickle
    sklearn_version: 1.9.1
mlflow_version: 2.14.1
model_size_bytes: 1234
model_uuid: 4b8b3ad4a9ba4a39b7ecb32e2e1d8b53
run_id: '0a5a4a6f9e5e4a2bb1f4f0f1b2c3d4e5'
signature:
  inputs: '[{"type": "double", "name": "secret_income", "required": true},
    {"type": "double", "name": "age"}]'
  outputs: '[{"type": "tensor", "tensor-spec": {"dtype": "int64", "shape": [-1]}}]'
utc_time_created: '2026-11-01 10:11:12.131415'
"""
CONFIG = {
    "architectures": ["BertForSequenceClassification"],
    "model_type": "bert",
    "hidden_dropout_prob": 0.1,
    "id2label": {"0": "secret-label"},
    "torch_dtype": "float32",
    "transformers_version": "4.40.0",
}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def shown(model: Model) -> dict[str, str]:
    details = dict(model.details)
    assert details.pop("openssf.digest").startswith("sha256:")
    return details


@pytest.fixture
def mlflow(tmp_path: Path) -> Path:
    root = tmp_path / "credit-model"
    root.mkdir()
    (root / "MLmodel").write_text(MLMODEL)
    (root / "model.pkl").write_bytes(b"anything")
    return root


@pytest.fixture
def cached(tmp_path: Path) -> Path:
    """A model in the cache of a hub, as huggingface_hub lays it out."""
    root = tmp_path / "models--bank--credit-bert"
    (root / "blobs").mkdir(parents=True)
    snapshot = root / "snapshots" / COMMIT
    snapshot.mkdir(parents=True)
    (root / "refs").mkdir()
    (root / "refs" / "main").write_text(COMMIT)
    for name, data in (
        ("config.json", json.dumps(CONFIG).encode()),
        ("model.safetensors", b"weights"),
    ):
        (root / "blobs" / name).write_bytes(data)
        (snapshot / name).symlink_to(f"../../blobs/{name}")
    return root


def test_an_mlflow_model_says_its_versions_and_keeps_the_rest_sealed(
    mlflow: Path,
) -> None:
    model = Model.from_path(mlflow)
    assert (model.name, model.version) == ("credit-model", None)
    assert shown(model) == {
        "format": "mlflow",
        "mlflow.flavors": "python_function sklearn",
        "mlflow.model_uuid": "4b8b3ad4a9ba4a39b7ecb32e2e1d8b53",
        "mlflow.run_id": "0a5a4a6f9e5e4a2bb1f4f0f1b2c3d4e5",
        "mlflow.version": "2.14.1",
        "python_function.python_version": "3.11.7",
        "sklearn.sklearn_version": "1.9.1",
    }
    assert model.sealed == (("mlmodel", MLMODEL.encode()),)
    assert "secret_income" not in repr(model)


def test_name_and_version_may_be_given(mlflow: Path) -> None:
    model = Model.from_path(str(mlflow), name="credit", version="3")
    assert (model.name, model.version) == ("credit", "3")
    assert model.digest == Model.from_path(mlflow).digest


def test_values_that_span_lines_are_no_keys(mlflow: Path) -> None:
    text = "description: |\n  flavors:\n    run_id: forged\nflavors:\n  x:\n    y: 'a\n"
    text += "      sklearn_version: forged'\nrun_id: 0a\n"
    (mlflow / "MLmodel").write_text(text)
    details = shown(Model.from_path(mlflow))
    assert details == {"format": "mlflow", "mlflow.flavors": "x", "mlflow.run_id": "0a"}


@pytest.mark.parametrize("where", ["", "snapshots/" + COMMIT])
def test_a_model_of_a_hub_is_named_by_its_place_in_the_cache(
    cached: Path, where: str
) -> None:
    model = Model.from_path(cached / where)
    assert (model.name, model.version) == ("bank/credit-bert", COMMIT)
    assert shown(model) == {
        "format": "huggingface",
        "huggingface.architectures": "BertForSequenceClassification",
        "huggingface.dtype": "float32",
        "huggingface.model_type": "bert",
        "transformers.version": "4.40.0",
    }
    assert model.sealed == (("config", json.dumps(CONFIG).encode()),)


def test_a_copy_of_a_snapshot_has_its_digest(cached: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    copy.mkdir()
    for path in (cached / "snapshots" / COMMIT).iterdir():
        (copy / path.name).write_bytes(path.read_bytes())
    model = Model.from_path(copy)
    assert (model.name, model.version) == ("copy", None)
    assert model.digest == Model.from_path(cached).digest


def test_a_snapshot_whose_links_lead_elsewhere_is_refused(cached: Path) -> None:
    (cached / "secret").write_text("secret")
    (cached / "snapshots" / COMMIT / "link").symlink_to("../../secret")
    with pytest.raises(ConfigurationError, match="link is a link that leads out"):
        Model.from_path(cached)


@pytest.mark.parametrize("main", [None, "", "0" * 40, "../../etc", COMMIT + "0" * 40])
def test_a_cache_without_a_main_version_is_refused(
    cached: Path, main: str | None
) -> None:
    (cached / "refs" / "main").unlink()
    if main is not None:
        (cached / "refs" / "main").write_text(main)
    with pytest.raises(ConfigurationError, match="to name a snapshot that is there"):
        Model.from_path(cached)


class Trap:
    """What runs when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(TRAPPED),)


TRAPPED = Path("/nonexistent/never/made")


def test_a_pickle_is_not_unpickled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trapped = tmp_path / "trapped"
    monkeypatch.setattr(__import__(__name__), "TRAPPED", trapped, raising=False)
    path = tmp_path / "model.pkl"
    path.write_bytes(b"cos\nmkdir\n(V%b\ntR." % str(trapped).encode())
    model = Model.from_path(path)
    assert shown(model) == {"format": "pickle"}
    assert not trapped.exists()
    pickle.loads(path.read_bytes())  # as a check of the trap
    assert trapped.exists()


def test_joblib_files_say_how_they_were_written(tmp_path: Path) -> None:
    estimator = LogisticRegression().fit([[0.0], [1.0]], [0, 1])
    for name, compress in (("a.joblib", 0), ("b.joblib", ("gzip", 3)), ("c.pkl", 0)):
        joblib.dump(estimator, tmp_path / name, compress=compress)
    found = [shown(Model.from_path(path)) for path in sorted(tmp_path.iterdir())]
    assert found == [
        {"format": "joblib", "pickle.protocol": "4"},
        {"format": "joblib", "compression": "gzip"},
        {"format": "pickle", "pickle.protocol": "4"},
    ]


def field(number: int, value: int | bytes) -> bytes:
    """Return a field of a protobuf message."""
    if isinstance(value, int):
        return bytes([number << 3]) + varint(value)
    return bytes([number << 3 | 2]) + varint(len(value)) + value


def varint(value: int) -> bytes:
    more = value >> 7
    return bytes([value & 0x7F | 0x80 * bool(more)]) + (varint(more) if more else b"")


ONNX = (
    field(1, 9)
    + field(2, b"skl2onnx")
    + field(3, b"1.17.0")
    + field(7, bytes(100_000))
    + field(8, field(2, 19))
    + field(8, field(1, b"ai.onnx.ml") + field(2, 3))
)


def test_an_onnx_file_says_its_operators_and_producer(tmp_path: Path) -> None:
    path = tmp_path / "credit.onnx"
    path.write_bytes(ONNX)
    assert shown(Model.from_path(path)) == {
        "format": "onnx",
        "onnx.ir_version": "9",
        "onnx.opset.ai.onnx": "19",
        "onnx.opset.ai.onnx.ml": "3",
        "onnx.producer": "skl2onnx",
        "onnx.producer_version": "1.17.0",
    }


@given(st.binary(max_size=64) | st.integers(0, len(ONNX)).map(lambda n: ONNX[:n]))
def test_any_bytes_as_onnx_give_details_or_none(data: bytes) -> None:
    for name, value in onnx_details(BytesIO(data)):
        assert Model("m", details=((name, "x"),)).details
        assert value is None or isinstance(value, str)


def test_safetensors_and_gguf_say_what_wrote_them(tmp_path: Path) -> None:
    header = json.dumps({"__metadata__": {"format": "pt"}}).encode()
    (tmp_path / "a.safetensors").write_bytes(struct.pack("<Q", len(header)) + header)
    (tmp_path / "b.gguf").write_bytes(b"GGUF" + struct.pack("<I", 3) + bytes(16))
    (tmp_path / "c.bin").write_bytes(b"x")
    found = [shown(Model.from_path(path)) for path in sorted(tmp_path.iterdir())]
    assert found == [
        {"format": "safetensors", "safetensors.framework": "pt"},
        {"format": "gguf", "gguf.version": "3"},
        {"format": "file"},
    ]


def _hostile() -> Iterator[tuple[str, bytes]]:
    deep = b"[" * 100_000
    for name in ("a.onnx", "a.safetensors", "a.gguf", "a.joblib", "a.pkl"):
        for data in (
            b"",
            b"\x80",
            b"\xff" * 100,
            deep,
            bytes(7),
            b"\x0a" + b"\xff" * 9,
        ):
            yield name, data
    yield "a.safetensors", struct.pack("<Q", 1 << 62) + b"{}"
    yield "a.safetensors", struct.pack("<Q", 100_000) + deep
    yield "a.safetensors", struct.pack("<Q", 20) + b'{"__metadata__":[1]}'
    yield "a.gguf", b"GGUF"


@pytest.mark.parametrize(("name", "data"), list(_hostile()))
def test_a_file_that_breaks_its_format_still_has_a_digest(
    tmp_path: Path, name: str, data: bytes
) -> None:
    (tmp_path / name).write_bytes(data)
    model = Model.from_path(tmp_path / name)
    assert model.digest is not None


@given(st.binary(max_size=200) | st.text(":\n af'\"-", max_size=80).map(str.encode))
def test_any_bytes_as_a_configuration_give_details_that_an_entry_can_say(
    data: bytes,
) -> None:
    for name in ("MLmodel", "config.json"):
        with tempfile.TemporaryDirectory() as directory:
            root = Path(directory)
            (root / name).write_bytes(data)
            (root / "model.safetensors").write_bytes(b"")
            details, sealed = details_of_directory(root)
        assert Model("m", details=details, sealed=sealed).details


def test_what_is_too_long_for_a_detail_is_left_out(tmp_path: Path) -> None:
    flavor = "a_flavor_of_our_own_with_a_rather_long_name"
    said = f"flavors:\n  {flavor}:\n    {flavor}_version: 1.2\n"
    said += "".join(f"  {'f' * 60}{number}:\n" for number in range(8))
    (tmp_path / "MLmodel").write_text(f"{said}mlflow_version: 3.1\n")
    model = Model.from_path(tmp_path)
    assert shown(model) == {"format": "mlflow", "mlflow.version": "3.1"}
    (tmp_path / "MLmodel").rename(tmp_path / "model.safetensors")
    config = {"architectures": ["A" * 60] * 8, "model_type": "bert"}
    (tmp_path / "config.json").write_text(json.dumps(config))
    model = Model.from_path(tmp_path)
    assert shown(model) == {"format": "huggingface", "huggingface.model_type": "bert"}


def test_a_line_full_of_spaces_is_read_once(tmp_path: Path) -> None:
    """Its square would be four thousand million steps."""
    line = "mlflow_version: 3" + " " * 65_000
    (tmp_path / "MLmodel").write_text(f"{line}1\n{line[:200]}\n"[: 1 << 16])
    assert shown(Model.from_path(tmp_path))["mlflow.version"] == "3"


def test_a_configuration_that_is_too_large_is_left_out(mlflow: Path) -> None:
    (mlflow / "MLmodel").write_text(MLMODEL + "#" * (1 << 16))
    model = Model.from_path(mlflow)
    assert shown(model) == {"format": "mlflow"}
    assert model.sealed == ()


def test_details_are_of_the_bytes_that_were_hashed(
    mlflow: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are read before the bytes, and once more after them."""
    read = read_manifest

    def reading(*given: Any, **named: Any) -> Any:
        (mlflow / "MLmodel").write_text(MLMODEL.replace("1.9.1", "1.0.0"))
        return read(*given, **named)

    monkeypatch.setattr(artifact, "read_manifest", reading)
    with pytest.raises(ConfigurationError, match="changed while they were read"):
        Model.from_path(mlflow)


def test_nothing_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError, match="no model at"):
        Model.from_path(tmp_path / "nowhere")


def test_a_file_is_called_what_it_was_named_by(
    cached: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even if that is a link into the blobs of a cache; and a place by its name."""
    linked = cached / "snapshots" / COMMIT / "model.safetensors"
    assert Model.from_path(linked).name == "model.safetensors"
    monkeypatch.chdir(cached / "blobs")
    assert Model.from_path(".").name == "blobs"


def test_a_large_file_is_read_in_pieces(tmp_path: Path) -> None:
    path = tmp_path / "large.bin"
    with path.open("wb") as file:
        file.truncate(1 << 26)
    tracemalloc.start()
    try:
        assert Model.from_path(path).digest is not None
        assert tracemalloc.get_traced_memory()[1] < 1 << 23
    finally:
        tracemalloc.stop()
