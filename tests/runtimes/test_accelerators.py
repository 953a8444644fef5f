"""Real runs on GPU and NPU paths: a software GPU, and the CPU back end of the NPU plugin."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lenet_edge import worker
from lenet_edge.artifacts.artifact import TensorSpec, describe_file, load_artifact
from lenet_edge.artifacts.reference import Reference
from lenet_edge.bench.sampling import StopRule
from lenet_edge.bench.timing import measure
from lenet_edge.data.dataset import Dataset
from lenet_edge.errors import TargetError
from lenet_edge.results.result_file import BenchRun, Measurement
from lenet_edge.runtimes import get_target
from lenet_edge.runtimes._compiled_model import with_batch_size
from lenet_edge.runtimes.tflite_micro import smallest_arena
from lenet_edge.verify.inference import record_logits
from tests.conftest import LenetEdge

Logits = npt.NDArray[np.float32]
ON_ACCELERATORS = [
    ("litert-gpu", "lenet_float32_b40.tflite"),
    ("litert-gpu", "lenet_int8_b40.tflite"),
    ("litert-npu", "lenet_float32_b40.tflite"),
    ("litert-npu", "lenet_int8_b40.tflite"),
    ("onnxruntime-webgpu", "lenet_float32_b40.onnx"),
]


def logits_of(path: Path, target: str, images: Any, folder: Path, **changes: Any) -> Any:
    """Return the logits and the delegation of a file on a target, from a worker."""
    np.save(folder / "images.npy", images)
    facts = worker.run(
        record_logits.bind(
            artifact=load_artifact(path).to_json(),
            target=dataclasses.asdict(dataclasses.replace(get_target(target), **changes)),
            num_threads=1,
            images=folder / "images.npy",
            output=folder / "logits.npy",
        )
    )
    return np.load(folder / "logits.npy"), facts["delegation"]


@pytest.mark.usefixtures("gpu")
@pytest.mark.parametrize(("target", "name"), ON_ACCELERATORS)
def test_a_file_of_a_fixed_batch_runs_whole(
    fixed: Path, test_part: Dataset, tmp_path: Path, target: str, name: str
) -> None:
    (reference,) = fixed.glob("reference-*.npz")
    expected = Reference.load(reference).logits[:90]  # two batches and a part
    logits, delegation = logits_of(fixed / name, target, test_part.images[:90], tmp_path)
    assert delegation["nodes_taken"] == delegation["nodes_total"] > 0
    assert delegation["macs_taken"] == delegation["macs_total"] == 199_968
    assert delegation["device"]
    assert (logits.argmax(axis=1) == expected.argmax(axis=1)).mean() >= 0.97
    if "float32" in name:
        np.testing.assert_allclose(logits, expected, atol=1e-4, rtol=0)


@pytest.mark.usefixtures("gpu")
def test_a_provider_with_a_wrong_default_is_detected(
    lenet_edge_here: LenetEdge, exports: Path, test_part: Dataset, tmp_path: Path
) -> None:
    """The default layout of WebGPU computes wrong results. Our session sets the right layout."""
    on_gpu = [
        "verify", exports / "lenet_float32.onnx", "--reference", exports / "lenet_float32.tflite",
        "--target", "onnxruntime-webgpu", "--max-accuracy-drop", "2", "--min-agreement", "98",
        "--json", "o.json",
    ]  # fmt: skip

    def few(count: int) -> list[str]:  # 10,000 images would take minutes on a software GPU
        path = tmp_path / f"{count}.npz"
        np.savez(path, images=test_part.images[:count], labels=test_part.labels[:count])
        return ["--data", str(path)]

    done = lenet_edge_here(*on_gpu, *few(20), "--delegate-option", "preferredLayout=NHWC")
    assert done.returncode == 3, done.stderr
    (wrong,) = BenchRun.load(tmp_path / "o.json").parity
    assert wrong.verdict == "fail"
    assert wrong.max_abs_error > 1
    assert wrong.delegation is not None
    assert wrong.delegation.is_complete
    done = lenet_edge_here(*on_gpu, *few(100))
    assert done.returncode == 0, done.stdout
    (right,) = BenchRun.load(tmp_path / "o.json").parity
    assert right.top1_agreement == 1
    assert right.max_abs_error < 1e-4


@pytest.mark.usefixtures("gpu")
def test_a_provider_that_leaves_nodes_to_the_cpu(
    exports: Path, test_part: Dataset, tmp_path: Path
) -> None:
    file, images = exports / "lenet_int8.onnx", test_part.images[:20]
    with pytest.raises(TargetError, match=r"webgpu took \d+ of \d+ nodes .* stayed QuantizeLin"):
        logits_of(file, "onnxruntime-webgpu", images, tmp_path)
    logits, delegation = logits_of(
        file, "onnxruntime-webgpu", images, tmp_path, allow_fallback=True
    )
    expected, _ = logits_of(file, "onnxruntime-cpu", images, tmp_path)
    assert 0 < delegation["nodes_taken"] < delegation["nodes_total"]
    assert len(delegation["left_behind"]) == delegation["nodes_total"] - delegation["nodes_taken"]
    np.testing.assert_allclose(logits, expected, atol=1e-3, rtol=0)


@pytest.fixture(scope="module")
def unusual(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier with operators that have no GPU kernel."""
    import tensorflow as tf

    image = tf.keras.Input((8, 8, 1), batch_size=1)
    middle = tf.keras.layers.Conv2D(4, 3)(image)
    flat = tf.keras.layers.Flatten()(middle)
    model = tf.keras.Model(image, tf.keras.layers.Dense(10)(flat))

    def sorted_first(images: Any) -> Any:
        return model(tf.gather(images, tf.argsort(images[0, :, 0, 0]), axis=1))

    function = tf.function(sorted_first, input_signature=[tf.TensorSpec((1, 8, 8, 1))])

    path = tmp_path_factory.mktemp("odd") / "odd.tflite"
    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [function.get_concrete_function()], model
    )
    path.write_bytes(converter.convert())
    return path


@pytest.mark.costly
@pytest.mark.usefixtures("gpu")
def test_a_gpu_that_leaves_nodes_to_the_cpu(unusual: Path) -> None:
    artifact = describe_file(
        unusual, precision="float32", batch_size=1,
        inputs=(TensorSpec("i", (1, 8, 8, 1), "float32"),),
        outputs=(TensorSpec("o", (1, 10), "float32"),),
        parent_sha256=None, converter="test", calibration=None,
    )  # fmt: skip

    def measured(**changes: Any) -> Measurement:
        target = dataclasses.replace(get_target("litert-gpu"), **changes)
        return Measurement.from_json(
            worker.run(
                measure.bind(
                    artifact=artifact.to_json(),
                    target=dataclasses.asdict(target),
                    batch_size=1,
                    num_threads=1,
                    stop=dataclasses.asdict(StopRule(0, 0.1, 1e9)),
                )
            )
        )

    with pytest.raises(TargetError, match=r"GPU cannot take all of odd\.tflite: .*fallback"):
        measured()
    delegation = measured(allow_fallback=True).delegation
    assert delegation is not None
    assert 0 < delegation.nodes_taken < delegation.nodes_total
    assert delegation.left_behind


def test_a_vulkan_without_a_gpu(
    exports: Path, test_part: Dataset, tmp_path: Path, gpu: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loader is installed, but the configured driver is missing."""
    monkeypatch.setenv("VK_ICD_FILENAMES", str(tmp_path / "none.json"))
    for target, suffix in (("litert-gpu", "tflite"), ("onnxruntime-webgpu", "onnx")):
        with pytest.raises(TargetError, match="set VK_ICD_FILENAMES to its"):
            logits_of(exports / f"lenet_float32.{suffix}", target, test_part.images[:2], tmp_path)


def test_an_npu_plugin_without_its_openvino(
    exports: Path, test_part: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The plugin looks for OpenVINO beside its own package. This copy has none."""
    import ai_edge_litert

    assert ai_edge_litert.__file__
    shutil.copytree(Path(ai_edge_litert.__file__).parent, tmp_path / "copy" / "ai_edge_litert")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "copy"))
    with pytest.raises(TargetError, match=r"needs OpenVINO 20\d\d\.\d\.\d; pip install openvino=="):
        logits_of(exports / "lenet_float32.tflite", "litert-npu", test_part.images[:2], tmp_path)


def test_options_without_a_delegate_are_refused(lenet_edge_here: LenetEdge, exports: Path) -> None:
    done = lenet_edge_here("verify", exports / "lenet_float32.onnx", "--target", "onnxruntime-cpu",
                      "--delegate-option", "a=b")  # fmt: skip
    assert done.returncode == 1
    assert "--delegate-option is for an external delegate" in done.stderr.splitlines()[-1]


@pytest.mark.parametrize("batch_size", [1, 3, 128])
@pytest.mark.parametrize("name", ["lenet_float32.tflite", "lenet_int8.tflite"])
def test_a_free_batch_is_fixed_in_the_file(exports: Path, name: str, batch_size: int) -> None:
    from ai_edge_litert.interpreter import Interpreter

    content = (exports / name).read_bytes()
    changed = with_batch_size(content, batch_size)
    assert len(changed) == len(content)
    interpreter = Interpreter(model_content=changed)
    interpreter.allocate_tensors()
    for details in (*interpreter.get_input_details(), *interpreter.get_output_details()):
        assert details["shape"][0] == details["shape_signature"][0] == batch_size
    assert with_batch_size(changed, 7) == changed  # the batch is no longer free


def test_the_arena_size_is_printed(
    lenet_edge_here: LenetEdge, exports: Path, tmp_path: Path
) -> None:
    file = exports / "lenet_int8.tflite"
    done = lenet_edge_here(
        "bench", file, "--target", "tflite-micro", "--batch-size", "1", "--rounds", "1",
        "--min-time", "0", "--max-time", "0.1", "--json", "o.json",
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    (measurement,) = BenchRun.load(tmp_path / "o.json").measurements
    assert measurement.arena_bytes == smallest_arena(file.read_bytes(), file.name)
    assert f"a tensor arena of {measurement.arena_bytes:,} bytes" in done.stdout


@pytest.mark.slow
def test_targets_prints_devices_and_missing_packages(
    lenet_edge_here: LenetEdge, gpu: None, tmp_path: Path
) -> None:
    done = lenet_edge_here("targets", "--json", "o.json")
    assert done.returncode == 0, done.stderr
    statuses = {status["name"]: status for status in json.loads((tmp_path / "o.json").read_text())}
    assert statuses["litert-gpu"]["works"], statuses["litert-gpu"]["detail"]
    assert statuses["litert-gpu"]["delegation"]["device"] in " ".join(done.stdout.split())
    assert statuses["litert-npu"]["works"], statuses["litert-npu"]["detail"]
    assert not statuses["onnxruntime-dml"]["works"]
    output = " ".join(done.stdout.split())
    assert "onnxruntime-dml: onnxruntime has no DmlExecutionProvider; pip install" in output
