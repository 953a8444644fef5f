"""Tests of `verify --reference`: foreign files against each other, and their diagnoses."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lenet_edge.artifacts.artifact import load_artifact, write_manifest
from lenet_edge.artifacts.preprocessing import PIXELS
from lenet_edge.data import mnist
from lenet_edge.data.dataset import to_input
from lenet_edge.export.embed import read_tflite, write_tflite
from lenet_edge.results.result_file import BenchRun
from tests.conftest import LenetEdge
from tests.test_foreign import write_onnx

COUNT = 1200


@pytest.fixture(scope="module")
def foreign(exports: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Create foreign files: the exported files without a manifest and without a contract."""
    import onnx

    folder = tmp_path_factory.mktemp("foreign")
    for path in exports.glob("*.tflite"):
        graph = read_tflite(path.read_bytes())
        graph.metadata = []
        (folder / path.name).write_bytes(write_tflite(graph))
    for path in exports.glob("*.onnx"):
        model = onnx.load(path)
        del model.metadata_props[:]
        onnx.save(model, folder / path.name)
    test = mnist.load("test")
    images, labels = test.images[:COUNT], test.labels[:COUNT]
    np.savez(folder / "scaled.npz", images=to_input(images), labels=labels)
    np.savez(folder / "unlabelled.npz", images=to_input(images))
    np.savez(folder / "pixels.npz", images=images, labels=labels)
    np.savez(folder / "few.npz", images=to_input(images[:7]), labels=labels[:7])
    return folder


def report_of(lenet_edge_here: LenetEdge, status: int, *arguments: Any) -> Any:
    done = lenet_edge_here("verify", *arguments, "--json", "out.json")
    assert done.returncode == status, done.stdout + done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    (report,) = BenchRun.load(Path("out.json")).parity  # the command changed the folder
    return report


def test_compare_two_files_with_labels(lenet_edge_here: LenetEdge, foreign: Path) -> None:
    report = report_of(
        lenet_edge_here, 0, foreign / "lenet_float32.onnx", "--target", "onnxruntime",
        "--reference", foreign / "lenet_float32.tflite", "--data", foreign / "scaled.npz",
    )  # fmt: skip
    assert (report.num_samples, report.reference) == (COUNT, "lenet_float32.tflite")
    assert report.reference_accuracy == report.candidate_accuracy > 0.9
    assert report.max_abs_error < 1e-3
    assert sum(map(sum, report.confusion)) == COUNT
    assert sum(counts.num_samples for counts in report.per_class) == COUNT


def test_compare_two_files_without_labels(lenet_edge_here: LenetEdge, foreign: Path) -> None:
    report = report_of(
        lenet_edge_here, 0, foreign / "lenet_int8.tflite", "--target", "litert",
        "--reference", foreign / "lenet_float32.onnx", "--data", foreign / "unlabelled.npz",
    )  # fmt: skip
    assert report.candidate_accuracy is report.mcnemar_p is report.accuracy_interval is None
    assert report.top1_agreement > 0.99
    assert not report.confusion
    assert not report.per_class


def test_compare_a_foreign_file_with_a_recorded_checkpoint(
    lenet_edge_here: LenetEdge, foreign: Path, exports: Path
) -> None:
    """The recorded logits are used; the checkpoint does not run."""
    path = foreign / "lenet_float32.tflite"
    artifact = load_artifact(exports / "lenet.keras")
    report = report_of(
        lenet_edge_here, 0, path, "--target", "litert", "--reference", exports / "lenet.keras"
    )
    assert report.reference == f"checkpoint {artifact.sha256[:12]}"
    assert report.num_samples == 10_000
    # The foreign file does not define the scale of its pixels. Its accuracy on MNIST does.
    assert report.top1_agreement == 1


@pytest.mark.parametrize(
    "name", ["lenet_float32.tflite", "lenet_int8.tflite", "lenet_float32.onnx"]
)
def test_the_diagnosis_names_a_wrong_pixel_scale(
    lenet_edge_here: LenetEdge, exports: Path, tmp_path: Path, name: str
) -> None:
    """The manifest has a wrong scale; in an int8 file nearly every pixel clips."""
    own = Path(shutil.copytree(exports, tmp_path / "own"))
    write_manifest(dataclasses.replace(load_artifact(own / name), preprocessing=PIXELS))
    target = "onnxruntime" if name.endswith("onnx") else "litert"
    report = report_of(lenet_edge_here, 3, own / name, "--target", target)
    assert report.diagnosis is not None
    assert "with pixels of 0 to 1 it agrees on" in report.diagnosis
    assert "values of 0 to 255" in report.diagnosis


def test_the_diagnosis_names_transposed_images(
    lenet_edge_here: LenetEdge, foreign: Path, exports: Path
) -> None:
    """The expected logits are those of upright images; the file gets transposed images."""
    from lenet_edge.runtimes import get_target
    from lenet_edge.selection import Pair
    from lenet_edge.verify.expected import expected_from_reference
    from lenet_edge.verify.verify import verify

    artifact = load_artifact(exports / "lenet_float32.onnx")
    upright = expected_from_reference(artifact)
    transposed = dataclasses.replace(upright, images=upright.images.swapaxes(1, 2))
    (report,), _ = verify([Pair(artifact, get_target("onnxruntime-cpu"))], expected=transposed)
    assert report.verdict == "fail"
    assert report.diagnosis is not None
    assert "rows and columns swapped" in report.diagnosis


@pytest.mark.costly
def test_the_diagnosis_names_an_input_that_was_not_quantized(
    lenet_edge_here: LenetEdge, tmp_path: Path
) -> None:
    """An ONNX file does not store the scale of an int8 input: 0 to 1 rounds to 0 and 1."""
    import onnx
    from onnx import TensorProto as Types
    from onnx import helper

    folder = tmp_path / "foreign"
    folder.mkdir()
    images = np.random.default_rng(0).random((2000, 2, 2)).astype(np.float32)
    np.savez(folder / "data.npz", images=images)
    write_onnx(folder / "float.onnx", "float32")
    graph = helper.make_graph(
        [
            helper.make_node("DequantizeLinear", ["x", "scale", "zero"], ["real"]),
            helper.make_node("Reshape", ["real", "shape"], ["y"]),
        ],
        "pixels",
        [helper.make_tensor_value_info("x", Types.INT8, ["n", 2, 2])],
        [helper.make_tensor_value_info("y", Types.FLOAT, ["n", 4])],
        [
            helper.make_tensor("scale", Types.FLOAT, [], [1 / 255]),
            helper.make_tensor("zero", Types.INT8, [], [-128]),
            helper.make_tensor("shape", Types.INT64, [2], [-1, 4]),
        ],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "int8.onnx")
    report = report_of(
        lenet_edge_here, 3, folder / "int8.onnx", "--target", "onnxruntime",
        "--reference", folder / "float.onnx", "--data", folder / "data.npz",
    )  # fmt: skip
    assert "pixels quantized to int8 (scale 1/255, zero point -128)" in report.diagnosis


def test_a_wrong_file_has_no_diagnosis(lenet_edge_here: LenetEdge, foreign: Path) -> None:
    path = foreign / "lenet_float32.tflite"
    graph = read_tflite(path.read_bytes())
    (tensor,) = (t for t in graph.subgraphs[0].tensors if list(t.shape) == [84, 120])
    weights = np.array(graph.buffers[tensor.buffer].data, np.uint8).view(np.float32)
    graph.buffers[tensor.buffer].data = np.random.default_rng(0).permutation(weights).view(np.uint8)
    (foreign / "wrong.tflite").write_bytes(write_tflite(graph))
    report = report_of(
        lenet_edge_here, 3, foreign / "wrong.tflite", "--target", "litert",
        "--reference", path, "--data", foreign / "scaled.npz",
    )  # fmt: skip
    assert report.diagnosis is None


def test_too_few_images_are_inconclusive(lenet_edge_here: LenetEdge, foreign: Path) -> None:
    report = report_of(
        lenet_edge_here, 4, foreign / "lenet_float32.onnx", "--target", "onnxruntime",
        "--reference", foreign / "lenet_float32.tflite", "--data", foreign / "few.npz",
    )  # fmt: skip
    assert (report.verdict, report.num_samples) == ("inconclusive", 7)
    assert "7 images are too few" in report.reasons[0]


BLACK = np.zeros((5, 28, 28, 1), np.float32)
INVALID_DATA: dict[str, tuple[dict[str, Any], str]] = {
    "lengths": ({"images": BLACK, "labels": np.zeros(4, int)}, "5 images but 4 labels"),
    "range": ({"images": BLACK, "labels": np.full(5, 10)}, "labels lie in 10..10"),
    "nan": ({"images": BLACK * np.nan}, "that are not finite"),
    "names": ({"a": BLACK, "b": BLACK}, "no array named images (it has: a, b)"),
    "shape": ({"images": BLACK[:, :9]}, "takes images of shape 28 x 28 x 1 and these are 9 x"),
    "none": ({"images": BLACK[:0]}, "one image or more"),
}


@pytest.mark.parametrize("case", INVALID_DATA)
def test_invalid_data_is_an_error(
    lenet_edge_here: LenetEdge, exports: Path, tmp_path: Path, case: str
) -> None:
    arrays, message = INVALID_DATA[case]
    np.savez(tmp_path / "bad.npz", **arrays)
    done = lenet_edge_here("verify", exports / "lenet_float32.onnx", "--target", "onnxruntime",
                      "--reference", exports / "lenet_float32.tflite", "--data",
                      "bad.npz")  # fmt: skip
    assert done.returncode == 1
    assert message in done.stderr.splitlines()[-1]


def test_invalid_combinations_of_options_are_an_error(
    lenet_edge_here: LenetEdge, foreign: Path, exports: Path
) -> None:
    done = lenet_edge_here("verify", exports / "lenet_int8.tflite", "--data", foreign / "few.npz")
    assert (done.returncode, "--data needs --reference" in done.stderr) == (2, True)
    file = foreign / "lenet_float32.onnx"
    # Without images, random inputs compare the files, and the command says so.
    done = lenet_edge_here(
        "verify", file, "--reference", foreign / "lenet_float32.tflite",
        "--target", "onnxruntime-cpu",
    )  # fmt: skip
    assert (done.returncode, "20 random inputs (image in " in done.stdout) == (0, True)
    done = lenet_edge_here("verify", file)
    assert (done.returncode, "--reference" in done.stderr.splitlines()[-1]) == (1, True)


def test_files_with_different_classes_are_an_error(
    lenet_edge_here: LenetEdge, foreign: Path
) -> None:
    import onnx
    from onnx import helper

    path = write_onnx(foreign / "four.onnx", "float32")
    model = onnx.load(path)
    model.graph.node[-1].output[0] = "four"
    model.graph.node.append(helper.make_node("Gather", ["four", "which"], ["y"], axis=1))
    which = helper.make_tensor("which", onnx.TensorProto.INT64, [3], [0, 1, 2])
    model.graph.initializer.append(which)
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 3
    onnx.save(model, foreign / "three.onnx")
    images = np.random.default_rng(0).random((9, 2, 2)).astype(np.float32)
    np.savez(foreign / "small.npz", images=images)
    done = lenet_edge_here("verify", foreign / "three.onnx", "--reference", path, "--data",
                      foreign / "small.npz", "--target", "onnxruntime")  # fmt: skip
    assert done.returncode == 1
    error = done.stderr.splitlines()[-1]
    assert "three.onnx against four.onnx" in error
    assert "(9, 4) and the file's (9, 3)" in error


def test_the_command_writes_plots(
    lenet_edge_here: LenetEdge, exports: Path, tmp_path: Path
) -> None:
    from PIL import Image

    done = lenet_edge_here("verify", exports / "lenet_int8.tflite", "--target", "litert",
                      "--plots", "pictures", "--json", "-")  # fmt: skip
    assert json.loads(done.stdout)["parity"][0]["flips"], "an int8 file flips some digits"
    names = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert names == {
        f"lenet_int8.tflite-litert-xnnpack-{what}.png" for what in ("flips", "confusion", "errors")
    }
    for name in names:
        with Image.open(tmp_path / "pictures" / name) as picture:
            assert min(picture.size) > 200
            assert len(picture.convert("L").getcolors()) > 10  # not an empty picture
