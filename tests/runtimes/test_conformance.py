"""Contract of every runtime, checked on each of its formats in each precision.

`all_targets()` includes every file in ``lenet_edge/runtimes``.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lenet_edge import worker
from lenet_edge.artifacts.artifact import TensorSpec, load_artifact, write_manifest
from lenet_edge.artifacts.reference import Reference
from lenet_edge.bench.sampling import StopRule
from lenet_edge.bench.timing import measure
from lenet_edge.data.dataset import Dataset, to_input
from lenet_edge.errors import ModelFileError, TargetError, WorkerError
from lenet_edge.formats import BY_SUFFIX
from lenet_edge.microcontrollers.cores import CORES
from lenet_edge.runtimes import absence, all_targets, is_installed, open_session
from lenet_edge.runtimes._probe import FOLDER
from lenet_edge.support.files import sha256_of
from lenet_edge.target import Target
from lenet_edge.verify.inference import record_logits
from tests import needs
from tests.conftest import gpu_environment

FILES = (
    "lenet_float32.tflite",
    "lenet_int8.tflite",
    "lenet_float32.onnx",
    "lenet_int8.onnx",
    "lenet.keras",
    "lenet_native_float32.c",
    "lenet_native_int8.c",
    "lenet_float32.wasm",
    "lenet_ncnn_float32.param",
    "lenet_ncnn_int8.param",
)
ROOT = Path(__file__).parents[2]
INT8_INPUT = ("lenet_int8.tflite", "lenet_native_int8.c")
NUM_IMAGES = 200
# A software GPU runs these.
ON_GPU = ("litert-gpu", "onnxruntime-webgpu", "ncnn-vulkan")
# These run the code of cortex-m4. tests/cortex_m runs 10,000 images on each.
ALIKE = ("cortex-m3", "cortex-m7", "cortex-m33")
TESTED = [
    target
    for target in all_targets()
    if target.name not in ALIKE
    and (target.name in ON_GPU or needs.of_target(target) or absence(target) is None)
]
# More targets of TensorFlow, whose import takes five seconds each; more cores in QEMU; one more
# software GPU.
SLOW = ("tensorflow-xla", "tensorflow-eager", "tensorflow-lite", "ncnn-vulkan",
        *(core for core in CORES if core != "cortex-m4"))  # fmt: skip


def can_run(target: Target, name: str) -> bool:
    """Return whether a target is for a file, and has all that the file needs."""
    if BY_SUFFIX[Path(name).suffix].name not in target.formats:
        return False
    # WebGPU has no kernels for some int8 operators. test_accelerators.py tests its refusal.
    if target.name == "onnxruntime-webgpu":
        return "int8" not in name
    # A Cortex-M0 has too little memory.
    return target.name != "cortex-m0" or name == "lenet_native_int8.c"


PAIRS = [
    pytest.param(
        (target, name),
        id=f"{target.name}-{name}",
        marks=pytest.mark.slow if target.name in SLOW else (),
    )
    for target in TESTED
    for name in FILES
    if can_run(target, name)
]


@dataclass(frozen=True)
class Observed:
    """Results that `observe` recorded for one target and one file."""

    target: Target
    file: Path
    logits: dict[str, npt.NDArray[np.float32]]
    facts: dict[str, Any]

    @property
    def computes(self) -> bool:
        return self.target.runtime != "null"


def environment_of(target: Target) -> dict[str, str]:
    if target.name not in ON_GPU:
        return {}
    if not is_installed(target):
        pytest.skip(f"{target.package} is not installed")
    return gpu_environment()


def require_programs(target: Target, name: str) -> None:
    needs.require(*needs.of_target(target))
    if name.endswith(".wasm"):
        needs.require(*needs.BUILD_WASM)


@pytest.fixture(scope="module")
def recorded(
    exports: Path, test_part: Dataset, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[Target], Path]:
    """Return a function that runs `observe` on a target once, and returns the folder of results.

    A file that ends the process leaves no results of itself and of the files after it.
    """
    folder = tmp_path_factory.mktemp("observed")
    np.save(folder / "images.npy", to_input(test_part.images[:NUM_IMAGES]))

    @functools.cache
    def record(target: Target) -> Path:
        environment = {**os.environ, **environment_of(target)}
        output = folder / target.name
        output.mkdir()
        files = [exports / name for name in FILES if can_run(target, name)]
        files = [file for file in files if file.exists()]  # no .wasm, where it cannot be built
        arguments = [target.name, folder / "images.npy", output, *files]
        command = [sys.executable, "-m", "tests.runtimes.observe", *map(str, arguments)]
        subprocess.run(command, cwd=ROOT, env=environment, check=False, timeout=300)
        return output

    return record


@pytest.fixture(scope="module", params=PAIRS)
def observed(
    request: pytest.FixtureRequest, exports: Path, recorded: Callable[[Target], Path]
) -> Observed:
    target, name = request.param
    require_programs(target, name)
    folder = recorded(target)
    facts = json.loads((folder / f"{name}.json").read_text())
    assert "error" not in facts, facts["error"]
    with np.load(folder / f"{name}.npz") as logits:
        return Observed(target, exports / name, dict(logits), facts)


@pytest.fixture(scope="module")
def reference(exports: Path) -> npt.NDArray[np.float32]:
    (path,) = exports.glob("reference-*.npz")
    return Reference.load(path).logits[:NUM_IMAGES]


def specs_in(path: Path) -> tuple[TensorSpec, TensorSpec]:
    """Read the input and output of a model file without our runtimes."""
    if path.suffix in (".c", ".wasm"):
        sibling = path.with_name(path.name.replace("_native", "")).with_suffix(".tflite")
        return specs_in(sibling)
    if path.suffix == ".param":  # it states the sizes of the layers in its lines
        lines = [line.split() for line in path.read_text().splitlines()[2:]]
        (entry,) = (line for line in lines if line[0] == "Input")
        (end,) = (line for line in lines if "logits" in line)
        assert {"0=28", "1=28", "2=1"} < set(entry)
        assert "-23330=4,1,10,1,1" in end
        return (
            TensorSpec(entry[4], (None, 28, 28, 1), "float32"),
            TensorSpec("logits", (None, 10), "float32"),
        )
    if path.suffix == ".onnx":
        import onnx

        graph = onnx.load(path).graph
        return (
            TensorSpec(graph.input[0].name, (None, 28, 28, 1), "float32"),
            TensorSpec(graph.output[0].name, (None, 10), "float32"),
        )
    if path.suffix == ".keras":
        with zipfile.ZipFile(path) as archive:
            layers = json.loads(archive.read("config.json"))["config"]["layers"]
        return (
            TensorSpec(layers[0]["config"]["name"], (None, 28, 28, 1), "float32"),
            TensorSpec(layers[-1]["config"]["name"], (None, 10), "float32"),
        )
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path))
    specs = []
    for details in (interpreter.get_input_details()[0], interpreter.get_output_details()[0]):
        scale, zero_point = details["quantization"]
        spec = TensorSpec(
            details["name"],
            (None, *map(int, details["shape_signature"][1:])),
            details["dtype"].__name__,
            float(scale) if scale else None,
            int(zero_point) if scale else None,
        )
        specs.append(spec)
    return specs[0], specs[1]


def test_inputs_and_outputs_are_described(observed: Observed) -> None:
    expected = specs_in(observed.file)
    for side, spec in zip(("inputs", "outputs"), expected, strict=True):
        (described,) = observed.facts[side]
        assert TensorSpec(**described) == spec
    assert expected[0].dtype == ("int8" if observed.file.name in INT8_INPUT else "float32")
    assert observed.facts["runtime_version"]


def test_a_delegate_takes_every_node_it_was_promised(observed: Observed) -> None:
    delegation = observed.facts["delegation"]
    if observed.target.delegate is None:
        assert delegation is None
    else:
        assert delegation["delegate"] == observed.target.delegate
        assert delegation["nodes_taken"] == delegation["nodes_total"] > 0
        assert delegation["left_behind"] == []
        if observed.target.device != "cpu":
            assert delegation["device"]


def test_results_are_right(observed: Observed, reference: npt.NDArray[np.float32]) -> None:
    logits = observed.logits["together"]
    assert (logits.shape, logits.dtype) == (reference.shape, np.dtype("float32"))
    if not observed.computes:
        assert not logits.any()
        return
    assert (logits.argmax(axis=1) == reference.argmax(axis=1)).mean() >= 0.99
    if "int8" not in observed.file.name:
        np.testing.assert_allclose(logits, reference, atol=1e-4, rtol=0)


@pytest.mark.parametrize("step", ["ones", "seven", "ones_again"])
def test_the_batch_size_changes_no_result(observed: Observed, step: str) -> None:
    np.testing.assert_allclose(
        observed.logits[step], observed.logits["together"][:7], atol=1e-4, rtol=0
    )


def test_logits_is_a_copy(observed: Observed) -> None:
    for later in ("after_a_change", "kept"):
        np.testing.assert_array_equal(observed.logits[later], observed.logits["before"])


def test_sessions_do_not_disturb_each_other(observed: Observed) -> None:
    together = observed.logits["together"]
    for step, expected in (
        ("first_of_two", together[:7]),
        ("second_of_two", together[7:12]),
        ("after_the_other_closed", together[:7]),
    ):
        np.testing.assert_allclose(observed.logits[step], expected, atol=1e-4, rtol=0)


def test_close_releases_the_file_even_after_an_error(observed: Observed) -> None:
    if observed.computes:
        assert observed.facts["wrong_shape_fails"]
        assert observed.facts["closed_cannot_infer"]
    assert not observed.facts["still_mapped"]


class Workers:
    """The worker of the current target. It imports the runtime once for all files."""

    def __init__(self) -> None:
        self._name: str | None = None
        self._worker: worker.Worker | None = None

    def run(self, name: str, call: worker.Call[Any]) -> Any:
        """Run a call in the worker of this name; a worker of another name ends."""
        if self._worker is None or self._name != name:
            self.close()
            self._name, self._worker = name, worker.Worker()
        try:
            return self._worker.run(call)
        except WorkerError:  # the process may have ended
            self.close()
            raise

    def close(self) -> None:
        """End the worker."""
        if self._worker is not None:
            self._worker.close()
        self._worker = None


@pytest.fixture(scope="module")
def workers() -> Iterator[Workers]:
    with contextlib.closing(Workers()) as running:
        yield running


def test_an_absent_target_names_what_is_missing(exports: Path, workers: Workers) -> None:
    for target in all_targets():
        reason = absence(target)
        if reason is None or target.name in (*ON_GPU, "serial"):
            continue
        paths = [*(exports / name for name in FILES), FOLDER / "probe.pte"]
        file = next(path for path in paths if BY_SUFFIX[path.suffix].name in target.formats)
        with pytest.raises(TargetError) as caught:
            workers.run(
                target.runtime,
                measure.bind(
                    artifact=load_artifact(file).to_json(),
                    target=asdict(target),
                    batch_size=1,
                    num_threads=1,
                    stop=asdict(StopRule()),
                ),
            )
        assert "\n" not in str(caught.value)
        assert "install" in str(caught.value) or "needs a build" in str(caught.value)
        assert "install" in reason or "needs a build" in reason


@pytest.mark.parametrize("target", all_targets(), ids=lambda target: target.name)
def test_a_file_of_another_format_is_refused(exports: Path, target: Target) -> None:
    for name in FILES:
        if not (exports / name).exists():  # .wasm, where it cannot be built
            continue
        artifact = load_artifact(exports / name)
        if artifact.format not in target.formats:
            with pytest.raises(TargetError, match=f"{target.name} runs .* is {artifact.format}"):
                open_session(artifact, target)


@pytest.mark.parametrize("damage", ["half", "zeros"])
@pytest.mark.parametrize("pair", [pair for pair in PAIRS if not str(pair.id).startswith("null")])
def test_a_damaged_file_is_refused(
    pair: tuple[Target, str],
    damage: str,
    exports: Path,
    workers: Workers,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """In a worker, as in `verify` and `bench`, because a runtime may abort the process."""
    target, name = pair
    require_programs(target, name)
    for variable, value in environment_of(target).items():
        monkeypatch.setenv(variable, value)
    whole = load_artifact(exports / name)
    content = whole.path.read_bytes()
    path = tmp_path / name
    for part in whole.parts:
        shutil.copy(exports / part.name, tmp_path)
    path.write_bytes(
        content[: len(content) // 2] if damage == "half" else content[:8].ljust(len(content), b"\0")
    )
    sha256 = sha256_of(path)  # the manifest fits, so that the runtime opens the damaged file
    write_manifest(replace(whole, path=path, size_bytes=path.stat().st_size, sha256=sha256))
    np.save(tmp_path / "images.npy", np.zeros((2, 28, 28, 1), np.uint8))
    with pytest.raises((TargetError, ModelFileError, WorkerError)) as caught:
        workers.run(
            target.name,
            record_logits.bind(
                artifact=load_artifact(path).to_json(),
                target=asdict(target),
                num_threads=1,
                images=tmp_path / "images.npy",
                output=tmp_path / "logits.npy",
            ),
        )
    assert "\n" not in str(caught.value)
    if isinstance(caught.value, WorkerError):  # tflite-runtime reads past the end
        assert "was killed by SIG" in str(caught.value)
    else:
        assert name in str(caught.value)
