"""The preprocessing and the labels that foreign files declare.

tests/golden/metadata/with_metadata.tflite was written by TensorFlow Lite Support 0.4.4, with mean
and standard deviation 127.5, the colour space RGB, and three labels.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from onnx import TensorProto, helper

from lenet_edge.artifacts.artifact import TensorSpec
from lenet_edge.artifacts.declared import declared_preprocessing
from lenet_edge.artifacts.labels import parse_labels, read_labels
from lenet_edge.artifacts.preprocessing import IMAGENET, PIXELS, SIGNED, UNIT, Preprocessing
from lenet_edge.errors import DataError

WITH_METADATA = Path(__file__).parents[1] / "golden/metadata/with_metadata.tflite"
FLOAT = (TensorSpec("image", (1, 8, 8, 3), "float32"),)
THREE = (TensorSpec("scores", (1, 3), "float32"),)


def values(rule: Preprocessing | None) -> Any:
    """Return scale and offset, rounded, because float32 in files loses digits."""
    assert rule
    return [tuple(round(value, 6) for value in side) for side in (rule.scale, rule.offset)]


def test_tflite_metadata() -> None:
    rule, labels = declared_preprocessing(WITH_METADATA, "tflite", FLOAT, THREE)
    assert values(rule) == values(SIGNED)
    assert rule
    assert (rule.origin, rule.detail) == ("read", "the TFLite metadata")
    assert rule.channels == "rgb"
    assert labels == ("cat", "dog", "bird")


def test_integers_that_contradict_the_metadata_win() -> None:
    # Metadata state the scaling of the float model; this input can only take pixels as they are.
    pixels = (TensorSpec("image", (1, 8, 8, 3), "uint8", 1.0, 0),)
    assert declared_preprocessing(WITH_METADATA, "tflite", pixels, THREE)[0] is None
    signed = (TensorSpec("image", (1, 8, 8, 3), "uint8", 1 / 127.5, 127),)
    assert declared_preprocessing(WITH_METADATA, "tflite", signed, THREE)[0]


@given(st.data())
def test_damaged_metadata_count_as_none(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    content = bytearray(WITH_METADATA.read_bytes())
    for _ in range(3):
        place = data.draw(st.integers(8, len(content) - 1))
        content[place] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "m.tflite"
    path.write_bytes(content)
    declared_preprocessing(path, "tflite", FLOAT, THREE)  # raises nothing


def onnx_file(path: Path, **properties: str) -> Path:
    tensors = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [1, 3]) for name in ("x", "y")
    ]
    graph = helper.make_graph(
        [helper.make_node("Relu", ["x"], ["y"])], "g", *[[t] for t in tensors]
    )
    model = helper.make_model(graph)
    helper.set_model_props(model, properties)
    onnx.save(model, path)
    return path


@pytest.mark.parametrize(
    ("stated", "rule"),
    [("NominalRange_0_255", PIXELS), ("normalized_0_1", UNIT), ("Normalized_1_1", SIGNED)],
)
def test_onnx_metadata(tmp_path: Path, stated: str, rule: Preprocessing) -> None:
    properties = {"Image.NominalPixelRange": stated, "Image.BitmapPixelFormat": "Bgr8"}
    path = onnx_file(tmp_path / "m.onnx", **properties)
    declared, _ = declared_preprocessing(path, "onnx", FLOAT)
    assert values(declared) == values(rule)
    assert declared
    assert declared.channels == "bgr"


def test_ultralytics_names_are_read_and_never_evaluated(tmp_path: Path) -> None:
    names = "{0: 'cat', 1: 'dog', 2: 'bird'}"
    path = onnx_file(tmp_path / "m.onnx", names=names, stride="32", task="classify")
    rule, labels = declared_preprocessing(path, "onnx", FLOAT, THREE)
    assert values(rule) == values(UNIT)
    assert rule
    assert rule.resize == "crop"
    assert labels == ("cat", "dog", "bird")
    marker = tmp_path / "marker"
    hostile = f"open({str(marker)!r}, 'w')"
    path = onnx_file(tmp_path / "h.onnx", names=hostile, stride="32")
    assert declared_preprocessing(path, "onnx", FLOAT, THREE) == (None, ())
    assert not marker.exists()


def test_preprocessor_config_of_hugging_face(tmp_path: Path) -> None:
    path = onnx_file(tmp_path / "model.onnx")
    config = {
        "do_rescale": True, "rescale_factor": 0.00392156862745098, "do_normalize": True,
        "image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225],
        "do_center_crop": True, "resample": 3,
    }  # fmt: skip
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(config))
    (tmp_path / "config.json").write_text(
        json.dumps({"id2label": {"0": "cat", "1": "dog", "2": "bird"}})
    )
    rule, labels = declared_preprocessing(path, "onnx", FLOAT, THREE)
    assert values(rule) == values(IMAGENET)
    assert rule
    assert (rule.resize, rule.filter) == ("crop", "bicubic")
    assert labels == ("cat", "dog", "bird")


@pytest.mark.parametrize("text", ["[]", "{", '{"image_mean": 3, "do_normalize": true}', "[" * 5000])
def test_rubbish_beside_a_model_counts_as_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "preprocessor_config.json").write_text(text)
    (tmp_path / "labels.json").write_text(text)
    path = onnx_file(tmp_path / "model.onnx")
    assert declared_preprocessing(path, "onnx", FLOAT, THREE) == (None, ())


@pytest.mark.parametrize(
    ("name", "beside", "rule"),
    [
        ("ei-shapes-classifier-tensorflow-lite-float32-model.3.lite", None, UNIT),
        ("model_unquant.tflite", "labels.txt", SIGNED),
        ("model_unquant.tflite", None, None),
    ],
)
def test_names_that_tools_give(
    tmp_path: Path, name: str, beside: str | None, rule: Preprocessing | None
) -> None:
    content = WITH_METADATA.read_bytes().replace(b"TFLITE_METADATA", b"OTHER__METADATA")
    (tmp_path / name).write_bytes(content)
    if beside:
        (tmp_path / beside).write_text("0 cat\n1 dog\n2 bird\n")
    declared, labels = declared_preprocessing(tmp_path / name, "tflite", FLOAT, THREE)
    assert (declared is None) if rule is None else (values(declared) == values(rule))
    assert labels == (("cat", "dog", "bird") if beside else ())


def test_labels_of_another_number_are_ignored(tmp_path: Path) -> None:
    path = Path(shutil.copyfile(WITH_METADATA, tmp_path / "m.tflite"))
    five = (TensorSpec("scores", (1, 5), "float32"),)
    assert declared_preprocessing(path, "tflite", FLOAT, five)[1] == ()


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("cat\nbig dog\n", ("cat", "big dog")),
        ("0 cat\n1 big dog\n\n", ("cat", "big dog")),
        ("0: cat\n1: dog", ("cat", "dog")),
        ("0\n1\n2\n", ("0", "1", "2")),
        ("1 cat\n2 dog\n", ("1 cat", "2 dog")),
        ('["a", "b"]', ("a", "b")),
        ('{"1": "b", "0": "a"}', ("a", "b")),
    ],
)
def test_layouts_of_labels(text: str, labels: tuple[str, ...]) -> None:
    assert parse_labels(text) == labels


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"[1, 2]", b'{"0": "a", "2": "b"}'])
def test_a_file_without_labels_gets_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "labels.txt").write_bytes(content)
    with pytest.raises(DataError, match=r"holds no labels.*write one label in each line"):
        read_labels(tmp_path / "labels.txt")
