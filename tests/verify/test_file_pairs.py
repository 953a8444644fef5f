"""`verify` of two files output by output: several outputs, other runtimes, layouts and names."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lenet_edge.artifacts.artifact import write_manifest
from lenet_edge.results.result_file import BenchRun
from lenet_edge.selection import load_artifacts
from lenet_edge.support.files import sha256_of
from tests.conftest import LenetEdge
from tests.tflite_files import Graph, one_conv, two_heads, write_tflite

pytestmark = pytest.mark.costly  # each file runs in processes of its own


def onnx_heads(path: Path, source: Path, names: tuple[str, str] = ("boxes", "scores")) -> Path:
    """Write the same network as `two_heads` as an .onnx file, with other names for its outputs."""
    import onnx
    from ai_edge_litert.interpreter import Interpreter
    from onnx import TensorProto, helper, numpy_helper

    interpreter = Interpreter(str(source))
    interpreter.allocate_tensors()
    weights = {
        details["name"]: interpreter.get_tensor(details["index"])
        for details in interpreter.get_tensor_details()
        if details["name"] in ("wb", "ws")
    }
    first, second = names
    nodes = [
        helper.make_node("Gemm", ["image", "wb"], [first], transB=1),
        helper.make_node("Gemm", ["image", "ws"], ["z"], transB=1),
        helper.make_node("Softmax", ["z"], [second]),
    ]
    graph = helper.make_graph(
        nodes,
        "heads",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, [1, 12])],
        # In the other order.
        [helper.make_tensor_value_info(second, TensorProto.FLOAT, [1, 5]),
         helper.make_tensor_value_info(first, TensorProto.FLOAT, [1, 4])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def verify(run: LenetEdge, *arguments: object) -> tuple[int, Any, str]:
    done = run("verify", *arguments, "--json", "out.json")
    return done.returncode, done, done.stdout + done.stderr


def test_the_broken_output_is_named(tmp_path: Path, lenet_edge_here: LenetEdge) -> None:
    """One of two outputs is right. The other one has wrong weights."""
    good = two_heads(tmp_path / "good.tflite")
    bad = two_heads(tmp_path / "bad.tflite", broken="boxes")
    arguments = (bad, "--reference", good, "--target", "litert-xnnpack")
    status, done, text = verify(lenet_edge_here, *arguments)
    assert status == 3, text
    assert max(map(len, done.stdout.splitlines())) <= 80
    (report,) = BenchRun.load(tmp_path / "out.json").parity
    assert {output.name: output.verdict for output in report.outputs} == {
        "boxes": "fail", "scores": "pass",
    }  # fmt: skip
    (reason,) = report.reasons
    assert reason.startswith("output boxes: the signal-to-noise ratio is")
    joined = " ".join(done.stdout.split())
    assert "Do not use bad.tflite on litert-xnnpack: output boxes: the signal" in joined
    assert "20 random inputs (image in 0 to 1): the verdict is about numerics only" in joined
    assert (report.inputs, report.samples) == ("random", "20 random inputs")
    assert report.bounds.min_snr_db == 60  # the weights are float32
    status, _, text = verify(lenet_edge_here, *arguments, "--bound", "boxes:min-snr-db=-99")
    assert status == 0, text


def test_other_runtimes_names_and_orders(tmp_path: Path, lenet_edge_here: LenetEdge) -> None:
    """An .onnx file in ONNX Runtime against a .tflite file in LiteRT."""
    tflite = two_heads(tmp_path / "heads.tflite")
    onnx = onnx_heads(tmp_path / "heads.onnx", tflite, ("136", "137"))
    images = np.random.default_rng(1).normal(size=(40, 12)).astype(np.float32)
    np.savez(tmp_path / "images.npz", image=images)
    status, done, text = verify(
        lenet_edge_here, tflite, "--reference", onnx, "--data", "images.npz", "--target",
        "litert-xnnpack", "--logits", "outputs.npz",
    )  # fmt: skip
    assert status == 0, text
    (report,) = BenchRun.load(tmp_path / "out.json").parity
    assert (report.num_samples, report.inputs) == (40, "images.npz")
    found = {output.reference_name: output for output in report.outputs}
    assert {name: (o.name, o.paired_by, o.top1_agreement) for name, o in found.items()} == {
        "136": ("boxes", "shape", None), "137": ("scores", "shape", 1.0),
    }  # fmt: skip
    assert all(output.snr_db is None or output.snr_db > 100 for output in report.outputs)
    assert "Outputs paired by shape." in done.stdout
    stored = np.load(tmp_path / "outputs.npz")
    assert stored["heads.tflite on litert-xnnpack: boxes"].shape == (40, 1, 4)
    # The same comparison in the other direction, and with one wrong head.
    wrong = two_heads(tmp_path / "wrong.tflite", broken="scores")
    np.savez(tmp_path / "pixels.npz", image=np.rint(9 * images).astype(np.int16))
    status, _, text = verify(
        lenet_edge_here, onnx, "--reference", wrong, "--data", "pixels.npz", "--target",
        "onnxruntime-cpu",
    )  # fmt: skip
    assert status == 3, text
    (report,) = BenchRun.load(tmp_path / "out.json").parity
    assert [output.reference_name for output in report.outputs if output.verdict == "fail"] == [
        "scores"
    ]
    assert any("of the classes are equal" in reason for reason in report.reasons)
    assert "input image: its integers are taken as input values, without a scale" in report.notes


def image_model(path: Path, channels_first: bool, weights: npt.NDArray[Any], sizes: Any) -> Path:
    """Write an .onnx file of one convolution, with its image in either layout."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes = [helper.make_node("Conv", ["chw", "w"], ["y"], pads=[1, 1, 1, 1])]
    if not channels_first:
        nodes[0].output[0] = "z"
        nodes.insert(0, helper.make_node("Transpose", ["image"], ["chw"], perm=[0, 3, 1, 2]))
        nodes.append(helper.make_node("Transpose", ["z"], ["y"], perm=[0, 2, 3, 1]))
    else:
        nodes[0].input[0] = "image"
    graph = helper.make_graph(
        nodes,
        "image",
        [helper.make_tensor_value_info("image", TensorProto.FLOAT, sizes)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(weights, "w")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save(model, path)
    return path


def test_channels_first_against_channels_last(tmp_path: Path, lenet_edge_here: LenetEdge) -> None:
    weights = np.random.default_rng(2).normal(size=(2, 3, 3, 3)).astype(np.float32)
    first = image_model(tmp_path / "first.onnx", True, weights, [1, 3, 8, 9])
    last = image_model(tmp_path / "last.onnx", False, weights, [1, 8, 9, 3])
    status, _, text = verify(
        lenet_edge_here, last, "--reference", first, "--target", "onnxruntime-cpu"
    )
    assert status == 0, text
    (report,) = BenchRun.load(tmp_path / "out.json").parity
    assert "input image: channels moved last" in report.notes
    assert report.outputs[0].layout == "channels moved first"
    assert "output y: channels moved first" in report.notes


def test_files_of_other_models_are_refused(tmp_path: Path, lenet_edge_here: LenetEdge) -> None:
    weights = np.ones((2, 3, 3, 3), np.float32)
    image = image_model(tmp_path / "image.onnx", True, weights, [1, 3, 8, 9])
    other = image_model(tmp_path / "other.onnx", True, weights, [1, 3, 9, 9])
    status, done, _ = verify(lenet_edge_here, image, "--reference", other, "--target",
                             "onnxruntime-cpu")  # fmt: skip
    assert (status, done.stdout) == (1, "")
    (line,) = done.stderr.splitlines()
    assert (
        "the input image of image.onnx takes shape 1 x 3 x 8 x 9, and image of other.onnx" in line
    )


@pytest.mark.parametrize(
    ("text", "status", "message"),
    [
        ("boxes=3", 2, "'boxes=3' is not an output, a bound (min-agreement, "),
        ("boxes:min-snr=3", 2, "'boxes:min-snr=3' is not an output, a bound"),
        ("boxes:min-snr-db=nan", 2, "is not an output, a bound"),
        ("bxoes:min-snr-db=3", 2, "the bound for bxoes names no output; the outputs are boxes, sc"),
    ],
)
def test_wrong_bounds(
    tmp_path: Path, lenet_edge_here: LenetEdge, text: str, status: int, message: str
) -> None:
    good = two_heads(tmp_path / "good.tflite")
    done = lenet_edge_here("verify", good, "--reference", good, "--bound", text, "--target",
                           "litert-reference")  # fmt: skip
    assert done.returncode == status
    assert message in " ".join(done.stderr.split())


@pytest.mark.slow
def test_bounds_of_outputs_in_pyproject(tmp_path: Path, lenet_edge_here: LenetEdge) -> None:
    good = two_heads(tmp_path / "good.tflite")
    other = two_heads(tmp_path / "other.tflite", scale=1.01)
    arguments = ("verify", other, "--reference", good, "--target", "litert-reference")
    (tmp_path / "pyproject.toml").write_text(
        "[tool.lenet-edge.outputs.boxes]\nmin-snr-db = 30\n"
        "[tool.lenet-edge.outputs.scores]\nmin-snr-db = 20\nmin-cosine = 0.99\n"
    )
    done = lenet_edge_here(*arguments, "--json", "out.json")
    assert done.returncode == 0, done.stdout
    facts = json.loads((tmp_path / "out.json").read_text())["parity"][0]
    bounds = {output["name"]: output["bounds"] for output in facts["outputs"]}
    assert (bounds["boxes"]["min_snr_db"], bounds["scores"]["min_cosine"]) == (30, 0.99)


def test_an_ambiguous_layout_is_settled_by_the_outputs(
    tmp_path: Path, lenet_edge_here: LenetEdge
) -> None:
    """An image of 3 x 3 x 3 fits both layouts, and only one of them agrees."""
    weights = np.random.default_rng(4).normal(size=(3, 3, 3, 3)).astype(np.float32)
    first = image_model(tmp_path / "first.onnx", True, weights, [1, 3, 3, 3])
    last = one_conv(tmp_path / "last.tflite", np.ascontiguousarray(np.moveaxis(weights, 1, -1)))
    status, _, text = verify(
        lenet_edge_here, last, "--reference", first, "--target", "litert-reference"
    )
    assert status == 0, text
    (report,) = BenchRun.load(tmp_path / "out.json").parity
    assert "input pixels: channels moved last, which the outputs settled" in report.notes
    assert report.outputs[0].layout == "channels moved first"
    assert report.outputs[0].paired_by == "order"


def test_the_manifest_names_the_reference(tmp_path: Path, lenet_edge_here: LenetEdge) -> None:
    """A file with two outputs is compared with the file that it was exported from."""
    good = two_heads(tmp_path / "good.tflite")
    (tmp_path / "exported").mkdir()
    bad = two_heads(tmp_path / "exported" / "bad.tflite", broken="scores")
    (artifact,) = load_artifacts([bad], tmp_path)
    write_manifest(dataclasses.replace(artifact, parent_sha256=sha256_of(good)))
    status, _, text = verify(lenet_edge_here, good, bad, "--target", "litert-reference")
    assert status == 3, text
    own, report = BenchRun.load(tmp_path / "out.json").parity
    assert (own.reference, own.candidate, own.verdict) == ("good.tflite", "good.tflite", "pass")
    assert (report.reference, report.candidate) == ("good.tflite", "bad.tflite")
    assert [output.verdict for output in report.outputs] == ["pass", "fail"]
    good.unlink()
    done = lenet_edge_here("verify", "--target", "litert-reference")
    assert done.returncode == 1
    assert "bad.tflite has 1 inputs and 2 outputs, and the file that it was" in done.stderr


def test_layers_of_a_model_with_two_outputs(tmp_path: Path, lenet_edge_here: LenetEdge) -> None:
    good = two_heads(tmp_path / "good.tflite")
    small = two_heads(tmp_path / "small.tflite", int8_weights=True)
    status, done, text = verify(lenet_edge_here, small, "--reference", good, "--layers",
                                "--target", "litert-reference")  # fmt: skip
    assert status == 0, text
    (report,) = BenchRun.load(tmp_path / "out.json").parity
    assert report.bounds.min_snr_db == 20  # the weights are int8
    assert {layer.name for layer in report.layers} == {"input", "boxes", "logits", "scores"}
    assert "small.tflite: layers" in done.stdout


@pytest.mark.slow
def test_integers_of_other_sizes(tmp_path: Path, lenet_edge_here: LenetEdge) -> None:
    """Tokens of int64 and int32, and an output of class numbers; floats are refused."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    def tokens(name: str, dtype: int, table: Any) -> Path:
        nodes = [
            helper.make_node("Cast", ["tokens"], ["index"], to=TensorProto.INT64),
            helper.make_node("Gather", ["table", "index"], ["rows"]),
            helper.make_node("ArgMax", ["rows"], ["classes"], axis=-1, keepdims=0),
        ]
        graph = helper.make_graph(
            nodes,
            "tokens",
            [helper.make_tensor_value_info("tokens", dtype, ["n", 6])],
            [helper.make_tensor_value_info("classes", TensorProto.INT64, ["n", 6])],
            [numpy_helper.from_array(table, "table")],
        )
        opsets = [helper.make_opsetid("", 17)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=8), tmp_path / name)
        return tmp_path / name

    table = np.random.default_rng(5).normal(size=(9, 4)).astype(np.float32)
    wide = tokens("wide.onnx", TensorProto.INT64, table)
    narrow = tokens("narrow.onnx", TensorProto.INT32, table)
    wrong = tokens("wrong.onnx", TensorProto.INT32, -table)
    real = tokens("real.onnx", TensorProto.FLOAT, table)
    np.savez(tmp_path / "tokens.npz", tokens=np.arange(48).reshape(8, 6) % 9)
    for file, expected in ((narrow, 0), (wrong, 3), (real, 1)):
        status, done, text = verify(
            lenet_edge_here, file, "--reference", wide, "--data", "tokens.npz", "--target",
            "onnxruntime-cpu",
        )  # fmt: skip
        assert status == expected, text
        if file == real:
            assert "the input tokens holds integers (int64) in wide.onnx" in done.stderr
    (report,) = BenchRun.load(tmp_path / "out.json").parity  # of wrong.onnx
    assert report.outputs[0].top1_agreement == 0
    assert "0.00 % of the integers are equal, less than the 99" in report.reasons[0]


def test_own_predictions_as_the_reference(tmp_path: Path, lenet_edge_here: LenetEdge) -> None:
    """FIELD: `bundle` named `export`, which cannot help with a file from elsewhere."""
    write_tflite(tmp_path / "found.tflite", *one_output())
    images = np.random.default_rng(0).integers(0, 256, (400, 2, 2, 3), dtype=np.uint8)
    np.savez(tmp_path / "images.npz", images=images)
    done = lenet_edge_here("bundle", "found.tflite", "--output", "found.tar.xz")
    assert done.returncode == 1
    message = "record its own on this machine: lenet-edge describe found.tflite --data IMAGES.npz"
    assert message in done.stderr
    assert "export" not in done.stderr.splitlines()[-1]
    two_heads(tmp_path / "heads.tflite")
    done = lenet_edge_here("bundle", "heads.tflite", "--output", "heads.tar.xz")
    assert done.returncode == 1
    assert "heads.tflite has 1 inputs and 2 outputs, and predictions are recorded" in done.stderr
    done = lenet_edge_here("describe", "found.tflite", "--data", "images.npz", "--pixel-scale",
                           "1/255")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "recorded its own predictions for 400 images, on litert-xnnpack" in done.stderr
    done = lenet_edge_here("verify", "found.tflite", "--target", "litert-reference", "--json",
                           "out.json")  # fmt: skip
    assert done.returncode == 0, done.stderr
    (report,) = BenchRun.load(tmp_path / "out.json").parity
    assert report.reference.startswith("itself ")
    assert report.num_samples == 400
    done = lenet_edge_here("bundle", "found.tflite", "--output", "found.tar.xz")
    assert done.returncode == 0, done.stderr


def one_output() -> tuple[Graph, ...]:
    weights = np.random.default_rng(6).normal(size=(5, 12)).astype(np.float32)
    tensors = {"image": ("float32", (1, 2, 2, 3)), "w": weights, "y": ("float32", (1, 5))}
    dense = ("FULLY_CONNECTED", ["image", "w", None], ["y"])
    return (Graph("main", tensors, [dense], ["image"], ["y"]),)


def test_equal_outputs_that_never_change_show_nothing(
    tmp_path: Path, lenet_edge_here: LenetEdge
) -> None:
    """Two different models whose outputs are 0 for all random inputs."""
    dead = two_heads(tmp_path / "dead.tflite", scale=0)
    status, _, text = verify(
        lenet_edge_here, dead, "--reference", dead, "--target", "litert-reference"
    )
    assert status == 4, text
    assert "the reference computes the same for all inputs" in " ".join(text.split())


def test_a_scalar_input_beside_a_free_batch(tmp_path: Path, lenet_edge_here: LenetEdge) -> None:
    import onnx

    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]>'
        "g (float[N,4] x, float factor) => (float[N,4] y) { y = Mul (x, factor) }"
    )
    onnx.save(model, tmp_path / "scaled.onnx")
    path = tmp_path / "scaled.onnx"
    arguments = (path, "--reference", path, "--target", "onnxruntime-cpu")
    status, _, text = verify(lenet_edge_here, *arguments)
    assert status == 0, text
