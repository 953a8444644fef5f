"""Times of layers: they are complete, a slow layer is named, and what is no layer has a name."""

from __future__ import annotations

import dataclasses
import re
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lenet_edge.artifacts.artifact import Artifact, load_artifact
from lenet_edge.bench.layers import describe_steps, measure_layers
from lenet_edge.bench.plan import Cell, Plan
from lenet_edge.flows.layers import with_layer_times
from lenet_edge.inspection import inspect, total
from lenet_edge.results.layer_times import LayerTimes
from lenet_edge.results.result_file import BenchRun, Skipped
from lenet_edge.runtimes import get_target, is_installed, open_session
from lenet_edge.runtimes._layer_probe import CutProbe, LayerStep, TimesLayers
from lenet_edge.runtimes._native_layers import add_hooks
from lenet_edge.runtimes._onnx_layers import OnnxGraph, match_nodes
from lenet_edge.selection import Pair, load_artifacts
from tests.needs import require
from tests.runtimes.test_delegates import compiled
from tests.tflite_files import Graph, write_tflite

EXPORTED = Path(__file__).parents[2] / "exported"
pytestmark = pytest.mark.costly


def load_foreign(path: Path) -> Artifact:
    (artifact,) = load_artifacts([path], path.parent)
    return artifact


def measure(file: Artifact, target: str) -> LayerTimes:
    facts = measure_layers(
        file.to_json(), dataclasses.asdict(get_target(target)), 1, 1, max_time_s=0.0
    )
    return LayerTimes.from_json(facts)


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("lenet_int8.tflite", "litert-xnnpack"),
        ("lenet_float32.onnx", "onnxruntime-cpu"),
        ("lenet_int8.onnx", "onnxruntime-cpu"),
        ("lenet_float32.onnx", "openvino-cpu"),
        ("lenet_float32.onnx", "opencv-cpu"),
        # ONNX Runtime changes the layout, fuses additions, and names nodes after values.
        ("../tests/golden/onnx/resnet8_script17.onnx", "onnxruntime-cpu"),
        # Several operators have one name.
        ("../tests/golden/onnx/lenet_litert_torch.tflite", "litert-xnnpack"),
    ],
)
def test_every_multiplication_has_a_time(name: str, target: str) -> None:
    if not is_installed(get_target(target)):
        pytest.skip(f"{target} is not installed")
    times = measure(load_foreign(EXPORTED / name), target)
    layers = inspect(EXPORTED / name)
    assert total(layer.macs for layer in layers) == sum(layer.macs or 0 for layer in times.layers)
    parameters = total(layer.parameters for layer in layers)
    assert parameters == sum(layer.parameters or 0 for layer in times.layers)
    computed = [each for layer in times.layers for each in layer.layers]
    assert sorted(computed) == sorted({*computed}) or "torch" in name
    multiplying = {layer.name for layer in layers if layer.macs}
    assert multiplying <= set(computed)
    assert multiplying & {layer.name for layer in times.layers}
    # Whatever is no layer has a name, and nothing is lost.
    rest = (times.call_s or 0.0) + times.rest_s
    assert times.sum_s + rest == pytest.approx(times.whole_s)
    slowest = max(layers, key=lambda layer: layer.macs or 0)
    (step,) = [each for each in times.layers if slowest.name in each.layers and each.macs]
    assert (step.name, step.macs) == (slowest.name, slowest.macs)
    assert step.tensor


def test_the_layers_of_a_branched_ncnn_file(tmp_path: Path) -> None:
    pytest.importorskip("ncnn")
    pytest.importorskip("onnx")
    from lenet_edge.export import ncnn
    from lenet_edge.export.converter import ConversionRequest
    from lenet_edge.export.onnx_model import OnnxModel

    model = OnnxModel(EXPORTED.parent / "tests/golden/onnx/resnet8_script17.onnx")
    converted = ncnn.convert(ConversionRequest(model, "float32", (), name="network"))
    path = tmp_path / "network.param"
    path.write_bytes(converted.content)
    path.with_suffix(".bin").write_bytes(converted.parts[".bin"])
    times = measure(load_foreign(path), "ncnn-cpu")
    layers = inspect(path)
    assert total(layer.macs for layer in layers) == sum(layer.macs or 0 for layer in times.layers)
    assert times.sum_s > (times.call_s or 0.0)


def write_wide_last(path: Path) -> Path:
    """Write a model whose last of three layers takes nearly all time."""
    narrow, wide = np.ones((64, 64), np.float32) / 64, np.ones((20_000, 64), np.float32) / 64
    if path.suffix == ".tflite":
        tensors = {"x": ("float32", (1, 64)), "w": narrow, "a": ("float32", (1, 64)), "v": narrow,
                   "b": ("float32", (1, 64)), "u": wide, "y": ("float32", (1, 20_000))}  # fmt: skip
        operators = [("FULLY_CONNECTED", [a, w], [b]) for a, w, b in ("xwa", "avb", "buy")]
        return write_tflite(path, Graph("main", tensors, operators, ["x"], ["y"]))
    onnx = pytest.importorskip("onnx")
    helper, kind = onnx.helper, onnx.TensorProto.FLOAT
    nodes = [helper.make_node("MatMul", [a, w], [b], name=b) for a, w, b in ("xwa", "avb", "buy")]
    weights = {"w": narrow, "v": narrow.T.copy(), "u": np.ascontiguousarray(wide.T)}
    graph = helper.make_graph(
        nodes, "main", [helper.make_tensor_value_info("x", kind, [1, 64])],
        [helper.make_tensor_value_info("y", kind, [1, 20_000])],
        [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 13)]
    onnx.save(helper.make_model(graph, ir_version=8, opset_imports=opsets), path)
    return path


@pytest.mark.parametrize(
    ("suffix", "target"),
    [(".tflite", "litert-xnnpack"), (".onnx", "onnxruntime-cpu"), (".onnx", "openvino-cpu")],
)
def test_the_slow_layer_is_named(tmp_path: Path, suffix: str, target: str) -> None:
    path = write_wide_last(tmp_path / f"wide{suffix}")
    times = measure(load_foreign(path), target)
    assert times.largest is not None
    assert times.largest.name == "y", times
    assert times.summary.startswith("y takes")


def test_a_layer_that_a_delegate_slows_is_named(tmp_path: Path) -> None:
    require("gcc")
    toy = compiled(tmp_path / "libtoy.so")
    target = dataclasses.replace(
        get_target("litert-xnnpack"), delegate="libtoy", library=str(toy), allow_fallback=True,
        options=(("claim", "dense"), ("slow", "84")),
    )  # fmt: skip
    file = load_artifact(EXPORTED / "lenet_float32.tflite")
    facts = measure_layers(file.to_json(), dataclasses.asdict(target), 1, 1, max_time_s=0.0)
    largest = LayerTimes.from_json(facts).largest
    assert largest is not None
    assert largest.name == "lenet_1/dense2_1/MatMul", facts


SLOW = """
static int busy(void) { volatile int n = 0; while (n < 300000) n++; return n - 300000; }
"""


def test_a_slow_step_of_a_c_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    require("cc")
    monkeypatch.setenv("CC", "cc -DPLAIN_C")  # one variant is enough
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    source = (EXPORTED / "lenet_native_int8.c").read_text()
    start = source.index("static void run(")
    body = source[start:].replace("arena + 112);", "arena + 112 + busy());", 1)
    (tmp_path / "slow.c").write_text(source[:start] + SLOW + body)
    times = measure(load_artifact(tmp_path / "slow.c"), "native-cpu")
    assert times.largest is not None
    assert times.largest.name == "lenet_1/dense2_1/MatMul", times
    layers = inspect(tmp_path / "slow.c")
    assert [each for layer in times.layers for each in layer.layers] == [x.name for x in layers]
    assert total(x.macs for x in layers) == sum(layer.macs or 0 for layer in times.layers)


@pytest.mark.parametrize("precision", ["int8", "float32", "dynamic"])
def test_clock_reads_in_each_variant_of_a_c_file(precision: str) -> None:
    content = (EXPORTED / f"lenet_native_{precision}.c").read_bytes()
    hooked = add_hooks(content, "lenet.c")
    variants = len(re.findall(rb"^static (?:\w+ )?void run(?:_\w+)?\(", content, re.MULTILINE))
    assert variants >= 3
    for number in range(len(hooked.steps)):
        assert hooked.content.count(b"  lenet_edge_layer(%d);" % number) == variants
    names = [name for step in hooked.steps for name in step.nodes]
    assert names == [layer.name for layer in inspect(EXPORTED / f"lenet_native_{precision}.c")]


def write_residual(path: Path) -> Path:
    """Write a graph in which a value is read twice, so that a cut has two outputs."""
    weights = np.eye(4, dtype=np.float32)
    tensors = {"x": ("float32", (1, 4)), "w": weights, "a": ("float32", (1, 4)),
               "b": ("float32", (1, 4)), "y": ("float32", (1, 4))}  # fmt: skip
    operators = [("FULLY_CONNECTED", ["x", "w"], ["a"]), ("FULLY_CONNECTED", ["a", "w"], ["b"]),
                 ("ADD", ["a", "b"], ["y"])]  # fmt: skip
    return write_tflite(path, Graph("main", tensors, operators, ["x"], ["y"]))


def test_cut_graphs_compute_the_start_of_the_graph(tmp_path: Path) -> None:
    file = load_foreign(write_residual(tmp_path / "residual.tflite"))
    values = np.array([[1, 2, 3, 4]], np.float32)
    with closing(open_session(file, get_target("litert-xnnpack"))) as session:
        assert isinstance(session, TimesLayers)
        session.prepare(values)
        (probe,) = session.layer_probes(values)
        assert isinstance(probe, CutProbe)
        outputs = []
        for call in probe._calls:
            call()
            cut: Any = getattr(call, "__self__")  # noqa: B009
            outputs.append({name: array.tolist() for name, array in cut.outputs().items()})
    x = values.tolist()
    assert outputs == [{"x": x}, {"a": x}, {"a": x, "b": x}, {"y": (2 * values).tolist()}]
    assert [step.name for step in probe.steps] == ["a", "b", "y"]


def test_differences_never_count_twice() -> None:
    """A cut that costs more than the next one counts as little as the next one."""
    probe = CutProbe([LayerStep(name, "") for name in "abc"], [])
    assert probe.split([[1.0, 5.0, 3.0, 9.0]] * 3) == (1.0, [2.0, 0.0, 6.0])


def test_a_layer_counts_for_the_first_step_alone() -> None:
    layers = inspect(EXPORTED / "lenet_int8.tflite")[:1]
    steps = [LayerStep("first", "CONV", (layers[0].name,)), LayerStep("again", "CONV",
             (layers[0].name,)), LayerStep("copy", "COPY")]  # fmt: skip
    first, again, copy = describe_steps(steps, [1.0, 2.0, 3.0], layers)
    assert (first.name, first.macs) == (layers[0].name, layers[0].macs)
    assert (again.name, again.macs, copy.name, copy.layers) == ("again", None, "copy", ())


def test_cuts_of_an_onnx_graph() -> None:
    onnx = pytest.importorskip("onnx")
    content = (EXPORTED / "lenet_float32.onnx").read_bytes()
    graph = OnnxGraph(content)
    assert (graph.inputs, graph.outputs) == (["image"], ["logits"])
    for kept in range(len(graph.nodes) + 1):
        model = onnx.load_from_string(graph.cut(kept))
        assert len(model.graph.node) == kept
        assert [value.name for value in model.graph.output] == (graph.live(kept) or ["image"])
    assert graph.live(len(graph.nodes)) == ["logits"]
    # A graph that no optimizer has changed has one node for each step.
    assert [step.nodes for step in match_nodes(graph, graph)] == [(n[0],) for n in graph.nodes]


def test_a_run_with_layers(tmp_path: Path) -> None:
    """Quantized layers have their errors; a runtime that cannot tell is skipped with the reason."""
    file = load_artifact(EXPORTED / "lenet_int8.tflite")
    targets = [get_target(name) for name in (
        "litert-xnnpack", "tflite-micro-cpu", "tflite-runtime-cpu", "null"
    )]  # fmt: skip
    cells = [Cell(Pair(file, target), batch, 1) for target in targets for batch in (8, 1)]
    lines: list[str] = []
    failed = Skipped("tflite-runtime-cpu", "it crashed", file.name)
    run, stopped = with_layer_times(
        BenchRun.of_this_machine(skipped=(failed,)), Plan(tuple(cells)), lines.append
    )
    assert (len(lines), stopped) == (3, False)
    (times,) = run.layer_times
    assert times.key == ("lenet_int8.tflite", "litert-xnnpack", 1, 1)
    assert all(layer.sqnr_db is None or layer.sqnr_db > 20 for layer in times.layers)
    assert sum(layer.lost_db is not None for layer in times.layers) == len(times.layers)
    first, skip = run.skipped
    assert first == failed
    assert skip.reason == "layers: tflite-micro-cpu cannot time its layers"
    run.save(tmp_path / "run.json")
    assert BenchRun.load(tmp_path / "run.json").layer_times == run.layer_times
