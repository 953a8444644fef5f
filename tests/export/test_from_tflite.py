"""Tests of `export MODEL.tflite --format native`: any number of inputs and outputs."""

from __future__ import annotations

import subprocess
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from lenet_edge.artifacts.artifact import load_artifact
from lenet_edge.artifacts.embedded import read_contract
from lenet_edge.errors import ModelFileError, UsageError
from lenet_edge.export import embed, native
from lenet_edge.export.from_tflite import export_tflite
from lenet_edge.export.native import tflite_graph, write_tflite
from lenet_edge.export.native.compiler import Compiled
from lenet_edge.inspection import inspect_graph
from lenet_edge.runtimes import get_target, open_session
from tests.conftest import LenetEdge
from tests.export.native_random import reference
from tests.export.tflite_files import File
from tests.needs import require

pytestmark = pytest.mark.costly

EXPORTED = Path(__file__).parents[2] / "exported"


def two_inputs() -> bytes:
    """Return a file with two inputs of uint8 and float32, and two outputs."""
    file, random = File(), np.random.default_rng(0)
    left = file.input((1, 40, 40, 4), "uint8", 0.02, 100)
    right = file.input((1, 40, 40, 4), "float32")
    whole = file.operator("QUANTIZE", [right], file.tensor((1, 40, 40, 4), "uint8", 0.03, 120))
    both = file.operator("ADD", [left, whole], file.tensor((1, 40, 40, 4), "uint8", 0.05, 110),
                         fusedActivationFunction=0)  # fmt: skip
    weights = file.constant(random.integers(0, 256, (6, 3, 3, 4)).astype(np.uint8), scale=0.004,
                            zero=130)  # fmt: skip
    bias = file.constant(random.integers(-99, 99, 6).astype(np.int32), scale=0.004 * 0.05)
    conv = file.operator("CONV_2D", [both, weights, bias],
                         file.tensor((1, 20, 20, 6), "uint8", 0.1, 128), padding=0, strideH=2,
                         strideW=2, dilationHFactor=1, dilationWFactor=1)  # fmt: skip
    real = file.operator("DEQUANTIZE", [conv], file.tensor((1, 20, 20, 6), "float32"))
    return file.finish([real, both])


def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    require("cc")
    path = tmp_path / "two.tflite"
    path.write_bytes(two_inputs())
    notes: list[str] = []
    (artifact,) = export_tflite(path, tmp_path, ("native",), note=notes.append)
    assert artifact.path.name == "two_native.c"
    assert "outputs equal those of LiteRT's reference kernels byte for byte" in notes[-1]
    graph = inspect_graph(artifact.path)
    assert [layer.kind for layer in graph.layers] == ["QUANTIZE", "ADD", "CONV_2D", "DEQUANTIZE"]
    assert (graph.parameters, graph.macs) == (6 * 36 + 6, 20 * 20 * 6 * 36)
    assert [tensor.dtype for tensor in graph.inputs or ()] == ["uint8", "float32"]
    assert "two_batch_in(" in artifact.path.with_suffix(".h").read_text()
    random = np.random.default_rng(1)
    left = random.integers(0, 256, (3, 40, 40, 4)).astype(np.uint8)
    right = random.standard_normal((3, 40, 40, 4)).astype(np.float32)
    with closing(open_session(load_artifact(artifact.path), get_target("native-cpu"))) as session:
        session.prepare({"t0": left, "t1": right})
        session.infer()
        outputs = session.outputs()
        session.prepare({"t1": right[:1], "t0": left[:1]})
        session.infer()
        assert len(session.outputs()["t2" if "t2" in outputs else "t3"]) == 1
    real, both = reference(path.read_bytes(), [left[:, None], right[:, None]])
    assert outputs[artifact.outputs[0].name].shape == (3, 20, 20, 6)
    np.testing.assert_array_equal(outputs[artifact.outputs[0].name], real[:, 0])
    np.testing.assert_array_equal(outputs[artifact.outputs[1].name], both[:, 0])


HOSTILE = ["*/ int evil; /*", "??/\n*/ int evil;", "\\", "\u202e*/", "a\nvoid evil_batch(int);",
           "out0", "images", "image", "new", "linux", "memory"]  # fmt: skip


@pytest.mark.parametrize("stem", ["new", "walk0", 'a"\\b\nint evil;', "run_avx2"])
def test_names_of_a_foreign_file_stay_in_comments(stem: str, tmp_path: Path) -> None:
    require("gcc")
    file = File()
    total = file.input((1, 4))
    for _ in range(len(HOSTILE) - 2):
        other = file.input((1, 4))
        total = file.operator("ADD", [total, other], file.tensor((1, 4)),
                              fusedActivationFunction=0)  # fmt: skip
    names = iter(HOSTILE * 3)
    for tensor in file.graph.tensors:
        tensor.name = next(names)
    for number, index in enumerate(file.inputs):
        file.graph.tensors[index].name = HOSTILE[number]
    path = tmp_path / f"{stem}.tflite"
    path.write_bytes(file.finish([total]))
    (artifact,) = export_tflite(path, tmp_path, ("native",))
    header = artifact.path.with_suffix(".h")
    for command in (["gcc", "-x", "c"], ["gcc", "-x", "c", "-include", str(header)]):
        done = subprocess.run([*command, "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-DPLAIN_C",
                               "-E", "-P", str(artifact.path)],
                              capture_output=True, text=True, check=True)  # fmt: skip
        assert "evil;" not in done.stdout
        assert "evil_batch(int)" not in done.stdout
        subprocess.run([*command, "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-DPLAIN_C",
                        "-fsyntax-only", str(artifact.path)], check=True)  # fmt: skip


def test_other_formats_and_precisions_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "two.tflite"
    path.write_bytes(two_inputs())
    with pytest.raises(UsageError, match="--format native"):
        export_tflite(path, tmp_path, ("tflite", "onnx"))
    with pytest.raises(UsageError, match="leave out int8"):
        export_tflite(path, tmp_path, ("native",), ("float32", "int8"))


def test_damaged_file_leaves_no_file(tmp_path: Path, lenet_edge_here: LenetEdge) -> None:
    (tmp_path / "two.tflite").write_bytes(two_inputs()[:900])
    refused = lenet_edge_here("export", "two.tflite", "--format", "native", "--output-dir", "out")
    assert refused.returncode == 1
    assert "two.tflite is damaged" in refused.stderr
    assert len(refused.stderr.strip().splitlines()) <= 2
    assert not list(tmp_path.glob("out/*.c"))


def test_a_wrong_c_file_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("cc")
    path = tmp_path / "two.tflite"
    path.write_bytes(two_inputs())

    def write_wrong(content: bytes, name: str, file_name: str) -> Compiled:
        code = write_tflite(content, name, file_name)
        return replace(code, source=code.source.replace(".zero = -18,", ".zero = -17,"))

    monkeypatch.setattr(native, "write_tflite", write_wrong)
    with pytest.raises(ModelFileError, match="values that differ from LiteRT's reference kernels"):
        export_tflite(path, tmp_path / "out", ("native",))
    assert not list(tmp_path.glob("out/*"))


@pytest.mark.costly
def test_verify_finds_the_recorded_predictions(tmp_path: Path, lenet_edge_here: LenetEdge) -> None:
    require("cc")
    arguments = ("--format", "native", "--output-dir", "out")
    exported = lenet_edge_here("export", EXPORTED / "lenet_int8.tflite", *arguments)
    assert exported.returncode == 0, exported.stderr
    verified = lenet_edge_here("verify", "out/lenet_int8_native.c")
    assert verified.returncode == 0, verified.stderr


def weights_outside(content: bytes) -> bytes:
    """Return a .tflite file with large buffers behind it, as litert-quantizer writes."""
    from ai_edge_litert.schema_py_generated import Model
    from ai_edge_litert.tools.flatbuffer_utils import update_packed_buffer

    model, packed = embed.read_tflite(content), {}
    for number, buffer in enumerate(model.buffers):
        if buffer.data is not None and len(buffer.data) >= 300:
            packed[number] = bytes(buffer.data)
            buffer.data, buffer.offset, buffer.size = None, 1, 1
    assert len(packed) >= 3
    written = bytearray(embed.write_tflite(model))
    for number, data in packed.items():
        written += bytes(-len(written) % 16)
        entry = Model.GetRootAs(written, 0).Buffers(number)
        update_packed_buffer(entry, offset=len(written), size=len(data))
        written += data
    return bytes(written)


def test_weights_behind_the_flatbuffer(tmp_path: Path) -> None:
    inside = EXPORTED / "lenet_int8.tflite"
    outside = tmp_path / inside.name
    outside.write_bytes(weights_outside(inside.read_bytes()))
    contract = read_contract(inside, "tflite")  # it moved too
    assert contract
    assert read_contract(outside, "tflite") == contract
    assert inspect_graph(outside).parameters == inspect_graph(inside).parameters == 60_074
    again = tmp_path / "again.tflite"
    again.write_bytes(embed.embed(outside.read_bytes(), "tflite", contract))
    graphs = [tflite_graph.read(path.read_bytes(), path.name) for path in (inside, again)]
    for before, after in zip(*(graph.operators for graph in graphs), strict=True):
        for tensor, copy in zip(before.inputs, after.inputs, strict=True):
            if tensor is not None and tensor.values is not None:
                np.testing.assert_array_equal(tensor.values, copy.values)
    cut = outside.read_bytes()[:-1000]
    with pytest.raises(ModelFileError, match="reaches past the end"):
        tflite_graph.read(cut, "cut.tflite")
