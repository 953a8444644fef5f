"""Other people's files against each other, and what is wrong with what they are fed."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lenet_edge.artifacts.artifact import load_artifact, write_manifest
from lenet_edge.data import mnist
from lenet_edge.data.dataset import to_input
from lenet_edge.export.embed import read_tflite, write_tflite
from lenet_edge.results.result_file import BenchRun
from tests.conftest import LenetEdge
from tests.test_foreign import write_onnx

COUNT = 1200


@pytest.fixture
def theirs(exports: Path, tmp_path: Path) -> Path:
    """The exported files as somebody else's: no manifest beside them, none inside."""
    import onnx

    folder = tmp_path / "theirs"
    folder.mkdir()
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


def report_of(lenet_edge: LenetEdge, status: int, *arguments: Any) -> Any:
    done = lenet_edge("verify", *arguments, "--json", "out.json")
    assert done.returncode == status, done.stdout + done.stderr
    assert max(map(len, done.stdout.splitlines())) <= 80
    path = next(Path(one) for one in arguments if Path(one).suffix in (".onnx", ".tflite"))
    (report,) = BenchRun.load(path.parents[1] / "out.json").parity
    return report


def test_two_files_with_labels(lenet_edge: LenetEdge, theirs: Path) -> None:
    report = report_of(
        lenet_edge, 0, theirs / "lenet_float32.onnx", "--target", "onnxruntime",
        "--reference", theirs / "lenet_float32.tflite", "--data", theirs / "scaled.npz",
    )  # fmt: skip
    assert (report.num_samples, report.reference) == (COUNT, "lenet_float32.tflite")
    assert report.reference_accuracy == report.candidate_accuracy > 0.9
    assert report.max_abs_error < 1e-3
    assert sum(map(sum, report.confusion)) == COUNT
    assert sum(one.num_samples for one in report.per_class) == COUNT


def test_two_files_without_labels(lenet_edge: LenetEdge, theirs: Path) -> None:
    report = report_of(
        lenet_edge, 0, theirs / "lenet_int8.tflite", "--target", "litert",
        "--reference", theirs / "lenet_float32.onnx", "--data", theirs / "unlabelled.npz",
    )  # fmt: skip
    assert report.candidate_accuracy is report.mcnemar_p is report.accuracy_interval is None
    assert report.top1_agreement > 0.99
    assert not report.confusion
    assert not report.per_class


def test_a_board_holds_a_foreign_file_against_the_recorded_checkpoint(
    lenet_edge: LenetEdge, theirs: Path, exports: Path
) -> None:
    """The checkpoint is not run: its answers are recorded beside it."""
    path = theirs / "lenet_float32.tflite"
    artifact = load_artifact(exports / "lenet.keras")
    report = report_of(
        lenet_edge, 3, path, "--target", "litert", "--reference", exports / "lenet.keras"
    )
    assert report.reference == f"checkpoint {artifact.sha256[:12]}"
    assert report.num_samples == 10_000
    # Nothing says how the foreign file wants its pixels, so it got them as they are.
    assert "wrong input, not a wrong file: fed with pixels of 0 to 1" in report.diagnosis


@pytest.mark.parametrize(
    "name", ["lenet_float32.tflite", "lenet_int8.tflite", "lenet_float32.onnx"]
)
def test_pixels_of_0_to_255_into_a_model_of_0_to_1(
    lenet_edge: LenetEdge, exports: Path, tmp_path: Path, name: str
) -> None:
    """A manifest that is wrong about the scale; in an int8 file nearly every pixel clips."""
    own = Path(shutil.copytree(exports, tmp_path / "own"))
    write_manifest(dataclasses.replace(load_artifact(own / name), pixel_scale=1.0))
    target = "onnxruntime" if name.endswith("onnx") else "litert"
    report = report_of(lenet_edge, 3, own / name, "--target", target)
    assert report.diagnosis is not None
    assert "fed with pixels of 0 to 1 it agrees on" in report.diagnosis
    assert "values of 0 to 255" in report.diagnosis


def test_images_lying_on_their_side(lenet_edge: LenetEdge, theirs: Path, exports: Path) -> None:
    """The reference's answers are those to upright images; the file gets them transposed."""
    from lenet_edge.runtimes import get_target
    from lenet_edge.selection import Pair
    from lenet_edge.verify.expected import expected_from_reference
    from lenet_edge.verify.verify import verify

    artifact = load_artifact(exports / "lenet_float32.onnx")
    upright = expected_from_reference(artifact)
    lying = dataclasses.replace(upright, images=upright.images.swapaxes(1, 2))
    (report,), _ = verify([Pair(artifact, get_target("onnxruntime-cpu"))], expected=lying)
    assert report.verdict == "fail"
    assert report.diagnosis is not None
    assert "rows and columns swapped" in report.diagnosis


def test_an_integer_input_that_was_not_quantized(lenet_edge: LenetEdge, tmp_path: Path) -> None:
    """An ONNX file cannot say how its int8 input is scaled: 0 to 1 is rounded to 0 and 1."""
    import onnx
    from onnx import TensorProto as Types
    from onnx import helper

    folder = tmp_path / "theirs"
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
        lenet_edge, 3, folder / "int8.onnx", "--target", "onnxruntime",
        "--reference", folder / "float.onnx", "--data", folder / "data.npz",
    )  # fmt: skip
    assert "pixels quantized to int8 (scale 1/255, zero point -128)" in report.diagnosis


def test_a_wrong_file_gets_no_diagnosis_of_its_input(lenet_edge: LenetEdge, theirs: Path) -> None:
    path = theirs / "lenet_float32.tflite"
    graph = read_tflite(path.read_bytes())
    (tensor,) = (one for one in graph.subgraphs[0].tensors if list(one.shape) == [84, 120])
    weights = np.array(graph.buffers[tensor.buffer].data, np.uint8).view(np.float32)
    graph.buffers[tensor.buffer].data = np.random.default_rng(0).permutation(weights).view(np.uint8)
    (theirs / "wrong.tflite").write_bytes(write_tflite(graph))
    report = report_of(
        lenet_edge, 3, theirs / "wrong.tflite", "--target", "litert",
        "--reference", path, "--data", theirs / "scaled.npz",
    )  # fmt: skip
    assert report.diagnosis is None


def test_too_few_images_to_tell(lenet_edge: LenetEdge, theirs: Path) -> None:
    report = report_of(
        lenet_edge, 4, theirs / "lenet_float32.onnx", "--target", "onnxruntime",
        "--reference", theirs / "lenet_float32.tflite", "--data", theirs / "few.npz",
    )  # fmt: skip
    assert (report.verdict, report.num_samples) == ("inconclusive", 7)
    assert "7 images are too few" in report.reasons[0]


def bad_data(folder: Path) -> dict[str, tuple[dict[str, Any], str]]:
    images = np.zeros((5, 28, 28, 1), np.float32)
    return {
        "lengths": ({"images": images, "labels": np.zeros(4, int)}, "5 images but 4 labels"),
        "range": ({"images": images, "labels": np.full(5, 10)}, "labels lie in 10..10"),
        "nan": ({"images": images * np.nan}, "that are not finite"),
        "names": ({"a": images, "b": images}, "no array named images (it has: a, b)"),
        "shape": ({"images": images[:, :9]}, "takes images of shape 28 x 28 x 1 and these are 9 x"),
        "none": ({"images": images[:0]}, "one or more"),
    }


@pytest.mark.parametrize("case", ["lengths", "range", "nan", "names", "shape", "none"])
def test_data_that_cannot_be_used(lenet_edge: LenetEdge, theirs: Path, case: str) -> None:
    arrays, says = bad_data(theirs)[case]
    np.savez(theirs / "bad.npz", **arrays)
    done = lenet_edge("verify", theirs / "lenet_float32.onnx", "--target", "onnxruntime",
                      "--reference", theirs / "lenet_float32.tflite", "--data",
                      theirs / "bad.npz")  # fmt: skip
    assert done.returncode == 1
    assert says in done.stderr.splitlines()[-1]


def test_what_else_is_refused(lenet_edge: LenetEdge, theirs: Path) -> None:
    file = theirs / "lenet_float32.onnx"
    done = lenet_edge("verify", file, "--data", theirs / "few.npz")
    assert (done.returncode, "--data needs --reference" in done.stderr) == (2, True)
    done = lenet_edge("verify", file, "--reference", theirs / "lenet_float32.tflite")
    assert (done.returncode, "--data FILE.npz" in done.stderr.splitlines()[-1]) == (1, True)
    done = lenet_edge("verify", file)
    assert (done.returncode, "--reference" in done.stderr.splitlines()[-1]) == (1, True)


def test_files_of_different_classes_are_not_compared(lenet_edge: LenetEdge, theirs: Path) -> None:
    import onnx
    from onnx import helper

    path = write_onnx(theirs / "four.onnx", "float32")
    model = onnx.load(path)
    model.graph.node[-1].output[0] = "four"
    model.graph.node.append(helper.make_node("Gather", ["four", "which"], ["y"], axis=1))
    which = helper.make_tensor("which", onnx.TensorProto.INT64, [3], [0, 1, 2])
    model.graph.initializer.append(which)
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 3
    onnx.save(model, theirs / "three.onnx")
    images = np.random.default_rng(0).random((9, 2, 2)).astype(np.float32)
    np.savez(theirs / "small.npz", images=images)
    done = lenet_edge("verify", theirs / "three.onnx", "--reference", path, "--data",
                      theirs / "small.npz", "--target", "onnxruntime")  # fmt: skip
    assert done.returncode == 1
    said = done.stderr.splitlines()[-1]
    assert "three.onnx against four.onnx" in said
    assert "(9, 4) and the file's (9, 3)" in said


def test_pictures(lenet_edge: LenetEdge, exports: Path, tmp_path: Path) -> None:
    from PIL import Image

    done = lenet_edge("verify", exports / "lenet_int8.tflite", "--target", "litert",
                      "--plots", "pictures", "--json", "-")  # fmt: skip
    assert json.loads(done.stdout)["parity"][0]["flips"], "an int8 file flips some digits"
    names = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert names == {
        f"lenet_int8.tflite-litert-xnnpack-{what}.png" for what in ("flips", "confusion", "errors")
    }
    for name in names:
        with Image.open(tmp_path / "pictures" / name) as picture:
            assert min(picture.size) > 200
            assert len(picture.convert("L").getcolors()) > 10  # more than an empty page
