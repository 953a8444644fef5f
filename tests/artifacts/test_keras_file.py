"""Files of Keras 2, and HDF5 files, as the Keras of that time wrote them.

tests/golden/keras2 was written by tf_keras 2.21, which is Keras 2. `predictions.npz` has its
predictions for `np.random.default_rng(0).random((4, ...), np.float32)`.
"""

import json
import shutil
import zipfile
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from lenet_edge.artifacts.file_check import check_format
from lenet_edge.artifacts.keras_file import keras_version, loadable, read_preprocessing
from lenet_edge.artifacts.preprocessing import PIXELS
from lenet_edge.errors import ModelFileError
from lenet_edge.inspection import layers_of
from tests.conftest import LenetEdge

KERAS2 = Path(__file__).parents[1] / "golden/keras2"
# transfer: a nested graph; teachable: nested as Teachable Machine's keras_model.h5; layers: the
# layers whose settings changed.
FILES = ("transfer.keras", "teachable.h5", "layers.keras", "layers.hdf5")


@pytest.mark.costly
@pytest.mark.parametrize("name", [*FILES, "HDF5.keras", "upper.H5"])
def test_keras_3_predicts_what_keras_2_predicted(tmp_path: Path, name: str) -> None:
    from lenet_edge.export.checkpoint import load_checkpoint

    path = KERAS2 / name
    if not path.exists():  # another name for the same content
        path = Path(shutil.copyfile(KERAS2 / "teachable.h5", tmp_path / name))
        name = "teachable.h5"
    model = load_checkpoint(path)
    images = np.random.default_rng(0).random((4, *model.input_shape[1:]), np.float32)
    with np.load(KERAS2 / "predictions.npz") as predictions:
        expected = predictions[name.replace("hdf5", "keras")]
    np.testing.assert_allclose(model.predict(images, verbose=0), expected, atol=1e-6)


@pytest.mark.costly
def test_an_old_file_goes_through(tmp_path: Path, lenet_edge_here: LenetEdge) -> None:
    images = np.random.default_rng(0).integers(0, 256, (8, 12, 12, 3), np.uint8)
    np.savez(tmp_path / "images.npz", images)
    shutil.copyfile(KERAS2 / "teachable.h5", tmp_path / "teachable.h5")
    done = lenet_edge_here(
        "export", "teachable.h5", "--format", "tflite", "--calibration", "images.npz",
        "--output-dir", "out",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "teachable_float32.tflite agrees with teachable.h5 on 100.0% of 8" in done.stderr
    layers = layers_of(tmp_path / "out" / "teachable.h5", "keras")
    assert "DepthwiseConv2D" in {layer.kind for layer in layers}


def test_the_version_of_the_writer() -> None:
    assert keras_version(KERAS2 / "layers.keras") == "2.21.0"
    assert keras_version(KERAS2 / "teachable.h5") is None


def test_the_first_layer_implies_the_preprocessing(tmp_path: Path) -> None:
    layers = [
        {"class_name": "InputLayer", "config": {}},
        {"class_name": "Rescaling", "config": {"scale": 1 / 255}},
    ]
    graph = json.dumps({"class_name": "Sequential", "config": {"layers": layers}})
    with zipfile.ZipFile(tmp_path / "model.keras", "w") as archive:
        archive.writestr("config.json", graph)
    with h5py.File(tmp_path / "model.h5", "w") as file:
        file.attrs["model_config"] = graph
    for name in ("model.keras", "model.h5"):
        rule = read_preprocessing(tmp_path / name)
        assert rule is not None, name
        assert (rule.scale, rule.origin) == (PIXELS.scale, "read")


def lambda_graph(graph: dict[str, Any]) -> dict[str, Any]:
    layers = graph["config"]["layers"]
    layers.append({"class_name": "Lambda", "config": {"name": "code", "function": ["AAAA"]}})
    return graph


def operation_graph(graph: dict[str, Any]) -> dict[str, Any]:
    layers = graph["config"]["layers"]
    layers.append({"class_name": "TFOpLambda", "config": {"name": "x", "function": "math.divide"}})
    return graph


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda_graph, "contains code \\(Lambda\\)"),
        (operation_graph, "an operation outside of a layer .* such as Rescaling"),
        (lambda graph: {}, "it has no model"),
        (lambda graph: None, "is damaged"),
    ],
)
@pytest.mark.parametrize("name", ["layers.keras", "layers.hdf5"])
def test_a_graph_of_keras_2_is_checked(
    tmp_path: Path, change: Any, message: str, name: str
) -> None:
    path = tmp_path / name
    if name.endswith(".keras"):
        with zipfile.ZipFile(KERAS2 / name) as source, zipfile.ZipFile(path, "w") as target:
            for member in source.namelist():
                content = source.read(member)
                if member == "config.json":
                    content = json.dumps(change(json.loads(content))).encode()
                target.writestr(member, content)
    else:
        shutil.copyfile(KERAS2 / name, path)
        with h5py.File(path, "r+") as file:
            graph = change(json.loads(file.attrs["model_config"]))
            file.attrs["model_config"] = json.dumps(graph).encode()
    with pytest.raises(ModelFileError, match=message):
        check_format(path)
        with loadable(path):
            pass


def outside_link(file: Any, other: Path) -> None:
    file["model_weights/stolen"] = h5py.ExternalLink(str(other), "/")


def soft_link(file: Any, other: Path) -> None:
    file["model_weights/loop"] = h5py.SoftLink("/model_weights")


def outside_data(file: Any, other: Path) -> None:
    file.create_dataset("model_weights/x", (4,), "u1", external=[(str(other), 0, 4)])


def outside_view(file: Any, other: Path) -> None:
    layout = h5py.VirtualLayout((4,), "u1")
    layout[:] = h5py.VirtualSource(str(other), "x", (4,))
    file.create_virtual_dataset("model_weights/x", layout)


@pytest.mark.parametrize("add", [outside_link, soft_link, outside_data, outside_view])
def test_an_hdf5_file_cannot_read_another_file(tmp_path: Path, add: Any) -> None:
    path = Path(shutil.copyfile(KERAS2 / "teachable.h5", tmp_path / "m.h5"))
    (tmp_path / "secret").write_bytes(b"1234")
    with h5py.File(path, "r+") as file:
        add(file, tmp_path / "secret")
    with pytest.raises(ModelFileError, match=r"a link|in another file"), loadable(path):
        pass


def test_weights_alone_are_no_model(tmp_path: Path) -> None:
    path = Path(shutil.copyfile(KERAS2 / "teachable.h5", tmp_path / "w.h5"))
    with h5py.File(path, "r+") as file:
        del file.attrs["model_config"]
    with pytest.raises(ModelFileError, match="weights without a model; save the whole"):
        with loadable(path):
            pass


def test_damaged_hdf5_gets_one_line(tmp_path: Path) -> None:
    content = (KERAS2 / "teachable.h5").read_bytes()
    for number, size in enumerate((9, 100, 2000, len(content) // 2)):
        path = tmp_path / f"{number}.h5"
        path.write_bytes(content[:size])
        with pytest.raises(ModelFileError, match="is damaged"), loadable(path):
            pass


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.pt", "PyTorch file; make an .onnx"),
        ("MODEL.PTH", "docs/pytorch.md has all steps"),
        ("converted_tflite.zip", "unpack it"),
        ("frozen.pb", "TFLiteConverter"),
        ("model.xyz", "not a model file; expected one of .tflite, .lite, .onnx"),
    ],
)
def test_other_files_get_advice(tmp_path: Path, name: str, message: str) -> None:
    (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ModelFileError, match=message):
        check_format(tmp_path / name)


@pytest.mark.parametrize(
    ("member", "message"),
    [("keras_metadata.pb", "pip install tf_keras"), ("fingerprint.pb", "from_saved_model")],
)
def test_a_savedmodel_folder_gets_the_conversion(tmp_path: Path, member: str, message: str) -> None:
    for name in ("saved_model.pb", member):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ModelFileError, match=message):
        check_format(tmp_path)
