"""Medians of `bench` against hand-written loops, for models of any kind.

``python -m benchmarks.any_model [FILE...]``

Each model has several inputs or outputs, free sizes, a state, a branch or a loop. One process opens
it twice: in a session that `bench` samples, and in a loop that calls the runtime as its
documentation shows. Both copy new inputs in and the outputs out between two calls, and take turns.
A third figure is that of a call that is repeated with nothing in between, which finds everything in
the caches. Writes benchmarks/results/<machine>/ without FILEs.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.record import keep
from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.artifacts.stated_input import StatedInput
from lenet_edge.bench import sampling, timing
from lenet_edge.runtimes import get_target, open_session
from lenet_edge.selection import load_artifacts
from tests.public_models import MODELS

TURNS, TURN_S = 15, 0.05
BAR = 0.05  # largest allowed difference from a loop that makes the same calls
# Functions to set the inputs, to call the runtime, and to read the outputs.
Loop = tuple[Callable[[Any], object], Callable[[], object], Callable[[], object]]


def litert_loop(path: Path) -> Loop:
    """Return the functions of a loop over LiteRT's interpreter."""
    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(str(path), num_threads=1)
    interpreter.allocate_tensors()
    details = interpreter.get_input_details()

    def set_inputs(values: Any) -> None:
        for detail in details:
            interpreter.set_tensor(detail["index"], values[detail["name"]])

    indexes = [detail["index"] for detail in interpreter.get_output_details()]
    return set_inputs, interpreter.invoke, lambda: [interpreter.get_tensor(i) for i in indexes]


def _onnxruntime(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def _copy_in(arrays: dict[str, Any], values: Any) -> None:
    for name, array in values.items():
        np.copyto(arrays.setdefault(name, np.empty_like(array)), array)


def run_loop(path: Path) -> Loop:
    """Return the functions of a loop over ONNX Runtime's `run`, which returns the outputs."""
    session = _onnxruntime(path)
    names, feed = [output.name for output in session.get_outputs()], dict[str, Any]()
    results: list[Any] = []

    def call() -> None:
        results[:] = session.run(names, feed)

    return partial(_copy_in, feed), call, lambda: [np.array(result) for result in results]


def bound_loop(path: Path) -> Loop:
    """Return the functions of a loop over ONNX Runtime with an I/O binding."""
    session = _onnxruntime(path)
    binding = session.io_binding()

    def set_inputs(values: Any) -> None:
        for name, array in values.items():
            binding.bind_cpu_input(name, array)
        binding.clear_binding_outputs()
        for output in session.get_outputs():
            binding.bind_output(output.name, "cpu")

    return (
        set_inputs,
        lambda: session.run_with_iobinding(binding),
        binding.copy_outputs_to_cpu,
    )


def openvino_loop(path: Path) -> Loop:
    """Return the functions of a loop over OpenVINO's `infer`, which returns the outputs."""
    import openvino

    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    request = openvino.Core().compile_model(path, "CPU", settings).create_infer_request()
    feed, results = dict[str, Any](), dict[str, Any]()

    def call() -> None:
        results["last"] = request.infer(list(feed.values()))

    def read() -> object:
        return [np.array(result) for result in results["last"].values()]

    return partial(_copy_in, feed), call, read


# The target, the loop, and whether both make the same calls. Otherwise ours are fewer or faster.
WAYS: dict[str, tuple[tuple[str, Callable[[Path], Loop], bool], ...]] = {
    ".tflite": (("litert-xnnpack", litert_loop, True),),
    ".onnx": (
        ("onnxruntime-cpu-run", run_loop, True),
        ("onnxruntime-cpu", bound_loop, False),
        ("openvino-cpu-infer", openvino_loop, True),
    ),
}


def compare(file: Artifact, target: str, make_loop: Callable[[Path], Loop]) -> dict[str, Any]:
    """Compare a session with a loop.

    Returns:
        "ours_us", "loop_us" and "repeated_us", the medians over the turns, and "ratio", the median
        of the ratios of ours to the loop's in neighbouring turns.
    """
    batches: list[Any] = timing.make_batches(file, 1)
    with closing(open_session(file, get_target(target))) as session:
        # The loop feeds values of the types of the inputs.
        names = [spec.name for spec in session.input_specs]
        arrays: Any = session
        batches = [dict(zip(names, arrays.arrays(batch), strict=True)) for batch in batches]
        session.prepare(batches[0])
        warmup = sampling.warm_up(session, batches)
        calls = sampling.calls_per_sample(warmup.infer_s, sampling.clock_cost_s())
        loop = make_loop(file.path)
        ours, loops, repeated = [], [], []
        for _ in range(TURNS):
            rule = sampling.StopRule(TURN_S, TURN_S, 0, 1)
            ours.append(
                float(np.median(sampling.take_samples(session, batches, calls, rule)[:, 1]))
            )
            loops.append(_time_loop(loop, batches, calls))
            repeated.append(_time_loop((_nothing, loop[1], _nothing), batches, calls))
    return {
        "ours_us": statistics.median(ours) * 1e6,
        "loop_us": statistics.median(loops) * 1e6,
        "repeated_us": statistics.median(repeated) * 1e6,
        "ratio": statistics.median(np.array(ours) / np.array(loops)),
    }


def _nothing(*values: Any) -> None:
    pass


def _time_loop(loop: Loop, batches: list[Any], calls: int) -> float:
    set_inputs, call, read = loop
    times: list[float] = []
    end = time.perf_counter() + TURN_S
    while time.perf_counter() < end:
        set_inputs(batches[len(times) % len(batches)])
        begin = time.perf_counter_ns()
        for _ in range(calls):
            call()
        times.append((time.perf_counter_ns() - begin) / calls / 1e9)
        read()
    return statistics.median(times)


def artifacts(files: list[str], folder: Path) -> Iterator[Artifact]:
    """Yield the models of the command line, or those in the structure of public ones."""
    if files:
        yield from load_artifacts([*map(Path, files)], folder)
        return
    for model in MODELS:
        stated = StatedInput.parse({"input_shapes": model.shapes})
        yield from load_artifacts([model.save(folder)], folder, stated=stated)


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for artifact in artifacts(sys.argv[1:], Path(folder)):
            for target, make_loop, is_same in WAYS[artifact.path.suffix]:
                row = compare(artifact, target, make_loop)
                row |= {"file": artifact.name, "target": target, "bar": BAR if is_same else None}
                rows.append(row)
                verdict = ""
                if is_same:
                    verdict = "met" if abs(row["ratio"] - 1) <= BAR else "NOT met"
                print(
                    f"{artifact.name:<28}{target:<21}{row['ours_us']:9.2f} us, loop"
                    f" {row['loop_us']:9.2f} us, repeated {row['repeated_us']:9.2f} us, ratio"
                    f" {row['ratio']:.3f} {verdict}"
                )
    if not sys.argv[1:]:
        print(f"Kept in {keep('any_model', {'rows': rows})}")


if __name__ == "__main__":
    main()
