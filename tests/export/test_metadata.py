"""Tests of the contract inside the files, which a board reads without onnx or TensorFlow."""

import dataclasses
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lenet_edge.artifacts.artifact import Artifact, load_artifact
from lenet_edge.artifacts.embedded import read_contract
from lenet_edge.errors import ModelFileError
from lenet_edge.export.embed import embed
from tests.conftest import LenetEdge

Matrix = dict[tuple[str, str], Artifact]


def test_contract_equals_the_manifest(matrix: Matrix, tmp_path: Path) -> None:
    for artifact in matrix.values():
        alone = tmp_path / artifact.name
        shutil.copyfile(artifact.path, alone)
        loaded = load_artifact(alone)
        assert dataclasses.replace(loaded, path=artifact.path, created_at="") == (
            dataclasses.replace(artifact, created_at="")
        )
        facts = json.loads(read_contract(alone, artifact.format) or "")
        assert facts["layout"] == "NHWC"
        assert facts["labels"] == [str(digit) for digit in range(10)]


def test_onnx_runtime_shows_the_contract(matrix: Matrix) -> None:
    import onnxruntime

    artifact = matrix["onnx", "int8"]
    session = onnxruntime.InferenceSession(artifact.path)
    properties = session.get_modelmeta().custom_metadata_map
    assert properties["lenet_edge"] == read_contract(artifact.path, "onnx")


def test_file_without_manifest_runs(
    matrix: Matrix, tmp_path: Path, lenet_edge_here: LenetEdge
) -> None:
    shutil.copyfile(matrix["tflite", "int8"].path, tmp_path / "moved.tflite")
    arguments = ("moved.tflite", "--target", "litert-xnnpack")
    done = lenet_edge_here("bench", *arguments, "--batch-size", "1")
    assert done.returncode == 0, done.stderr
    done = lenet_edge_here("verify", *arguments)
    assert done.returncode == 1
    assert "it holds the reference logits of the checkpoint" in done.stderr.splitlines()[-1]


def test_contract_is_read_without_vendor_packages(matrix: Matrix) -> None:
    program = """
import sys
from pathlib import Path
from lenet_edge.artifacts.artifact import load_artifact
load_artifact(Path(sys.argv[1]))
sys.exit(any(name in sys.modules for name in ("onnx", "flatbuffers", "tensorflow", "numpy")))
"""
    for artifact in (matrix["tflite", "int8"], matrix["onnx", "int8"]):
        alone = artifact.path.with_name("alone" + artifact.path.suffix)
        shutil.copyfile(artifact.path, alone)
        subprocess.run([sys.executable, "-c", program, alone], check=True, timeout=60)


def test_foreign_file(matrix: Matrix, tmp_path: Path) -> None:
    import onnx

    model = onnx.load(matrix["onnx", "float32"].path)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    message = r"no manifest \(foreign.onnx.json\) and no contract inside"
    with pytest.raises(ModelFileError, match=message):
        load_artifact(tmp_path / "foreign.onnx")


@settings(max_examples=200, deadline=None)
@given(data=st.data())
def test_damaged_file_raises_only_model_file_error(
    matrix: Matrix, tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    format = data.draw(st.sampled_from(["tflite", "onnx"]))
    content = bytearray(matrix[format, "int8"].path.read_bytes())
    end = data.draw(st.integers(8, len(content)))
    for _ in range(data.draw(st.integers(0, 20))):
        # Most of a file is weights; the parsed parts are at both ends.
        at = data.draw(st.integers(0, 400))
        content[at if data.draw(st.booleans()) else -1 - at] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / f"model.{format}"
    path.write_bytes(content[:end])
    try:
        contract = read_contract(path, format)
    except ModelFileError:
        return
    assert contract is None or isinstance(contract, str)


@pytest.mark.parametrize("format", ["tflite", "onnx"])
@pytest.mark.parametrize("text", ["", "0", "ü" * 100, "x" * 5000])
def test_any_text_is_read_back(matrix: Matrix, tmp_path: Path, format: str, text: str) -> None:
    path = tmp_path / f"model.{format}"
    path.write_bytes(embed(without_contract(matrix[format, "int8"]), format, text))
    assert read_contract(path, format) == text
    size = path.stat().st_size
    path.write_bytes(embed(path.read_bytes(), format, text.upper()))
    assert read_contract(path, format) == text.upper()
    assert path.stat().st_size <= size + 16  # the entry of the emptied buffer stays


def without_contract(artifact: Artifact) -> bytes:
    """Return a model file without its contract."""
    content = artifact.path.read_bytes()
    if artifact.format == "onnx":
        import onnx

        model = onnx.ModelProto.FromString(content)
        del model.metadata_props[:]
        return bytes(model.SerializeToString())
    from lenet_edge.export.embed import read_tflite, write_tflite

    graph = read_tflite(content)
    graph.metadata = [entry for entry in graph.metadata if entry.name != b"lenet_edge"]
    return write_tflite(graph)
