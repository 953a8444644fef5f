"""Measurements of one cell in one process."""

from __future__ import annotations

import dataclasses
import io
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from lenet_edge import worker
from lenet_edge.artifacts.artifact import (
    Artifact,
    TensorSpec,
    describe_file,
    load_artifact,
    write_manifest,
)
from lenet_edge.bench import interleave, timing
from lenet_edge.bench.sampling import StopRule, take_samples
from lenet_edge.data import mnist
from lenet_edge.errors import TargetError
from lenet_edge.export.exporter import export
from lenet_edge.report.rank import ranks
from lenet_edge.report.terminal.bench import bench_view
from lenet_edge.results.process_samples import MIN_SAMPLES_P99
from lenet_edge.results.result_file import BenchRun, Measurement
from lenet_edge.results.stats import median_interval
from lenet_edge.runtimes import get_target
from lenet_edge.target import Delegation
from tests.bench.slow import SlowSession
from tests.conftest import first_images

AT_ONCE = StopRule(min_time_s=0, max_time_s=5, precision=1e9)


def measure(path: Path, target: str, batch_size: int = 1, stop: StopRule = AT_ONCE) -> Measurement:
    return Measurement.from_json(
        timing.measure(
            load_artifact(path).to_json(),
            dataclasses.asdict(get_target(target)),
            batch_size,
            1,
            dataclasses.asdict(stop),
        )
    )


def test_the_harness_adds_little(exports: Path) -> None:
    """The latency of the null target is that of two clock reads."""
    null = measure(exports / "lenet_int8.tflite", "null")
    real = measure(exports / "lenet_int8.tflite", "litert-xnnpack")
    assert null.p50_s < real.p50_s / 2
    assert null.delegation is None


def test_the_fields_of_a_measurement(exports: Path, exported: Callable[[str], Artifact]) -> None:
    artifact = exported("lenet_float32.tflite")
    measurement = Measurement.from_json(
        worker.run(
            timing.measure.bind(
                artifact=artifact.to_json(),
                target=dataclasses.asdict(get_target("litert-xnnpack")),
                batch_size=64,
                num_threads=2,
                stop=dataclasses.asdict(AT_ONCE),
            )
        )
    )
    assert (measurement.artifact, measurement.artifact_sha256) == (artifact.name, artifact.sha256)
    assert measurement.size_bytes == artifact.path.stat().st_size
    assert (measurement.target, measurement.batch_size, measurement.num_threads) == (
        "litert-xnnpack",
        64,
        2,
    )
    assert measurement.delegation == Delegation(
        "XNNPACK", nodes_total=8, nodes_taken=8, macs_total=199_968, macs_taken=199_968
    )
    assert measurement.runtime_version[0].isdigit()
    (samples,) = measurement.processes
    assert samples.warmup_runs >= 3
    assert samples.calls_per_sample == 1
    assert samples.timer_s is not None
    assert samples.null_s is not None
    assert 0 < samples.timer_s <= samples.null_s * 2 < measurement.p50_s
    assert samples.rss_growth_bytes is not None
    assert 2**20 < samples.rss_growth_bytes < samples.peak_rss_bytes
    assert measurement.inputs == "test images"
    assert samples.after.load is not None
    assert len(measurement.latencies_s) >= MIN_SAMPLES_P99
    for seconds in (
        measurement.load_time_s,
        measurement.first_inference_s,
        measurement.prepare_s,
        measurement.readout_s,
    ):
        assert 0 < seconds < 60
    assert (measurement.latencies_s > 0).all()
    assert (
        measurement.p50_s > measurement.prepare_s + measurement.readout_s
    )  # copying 64 images costs next to nothing
    assert measurement.peak_rss_bytes > artifact.size_bytes
    assert measurement.invalid is None


def test_sampling_reaches_the_precision(exports: Path) -> None:
    stop = StopRule(min_time_s=0, max_time_s=60, precision=0.05)
    measurement = measure(exports / "lenet_int8.tflite", "litert-xnnpack", stop=stop)
    low, high = median_interval(measurement.latencies_s)
    assert (high - low) / 2 / measurement.p50_s <= stop.precision


def test_the_images_are_real_and_change(exported: Callable[[str], Artifact]) -> None:
    batches: Any = timing.make_batches(exported("lenet_int8.tflite"), 8)
    assert {batch.shape for batch in batches} == {(8, 28, 28, 1)}
    assert len({batch.tobytes() for batch in batches}) == len(batches) > 1
    assert {(batch.min(), batch.max()) for batch in batches} == {(0.0, 1.0)}
    session: Any = SlowSession(exported("lenet_int8.tflite"), infer_s=0.0002)
    take_samples(session, batches, 1, AT_ONCE)
    assert {batch.tobytes() for batch in session.prepared} == {batch.tobytes() for batch in batches}


def test_a_fixed_batch_size_is_the_only_one_measured(exports: Path, tmp_path: Path) -> None:
    for name in ("lenet_int8.tflite", "lenet_int8.tflite.json"):
        shutil.copy(exports / name, tmp_path)
    path = tmp_path / "lenet_int8.tflite"
    write_manifest(dataclasses.replace(load_artifact(path), batch_size=1))
    with pytest.raises(TargetError, match="fixed to batches of 1, not 8"):
        measure(path, "litert-xnnpack", batch_size=8)
    assert measure(path, "litert-xnnpack", batch_size=1).batch_size == 1


def test_a_microcontroller_is_refused_before_its_emulator_starts() -> None:
    path = Path(__file__).parents[2] / "exported" / "lenet_native_int8.c"
    with pytest.raises(TargetError, match=r"counts instructions with: lenet-edge bench lenet_na"):
        measure(path, "cortex-m4")


@pytest.mark.costly
def test_nodes_that_xnnpack_leaves_are_timed_and_ranked(tmp_path: Path) -> None:
    """An int8 classifier that ends in softmax: XNNPACK leaves that node to the same CPU."""
    import tensorflow as tf

    layers = tf.keras.layers
    tf.keras.Sequential(
        [
            tf.keras.Input((28, 28, 1)),
            layers.Conv2D(4, 3, activation="relu"),
            layers.MaxPooling2D(),
            layers.Flatten(),
            layers.Dropout(0.2),
            layers.Dense(10, activation="softmax"),
        ]
    ).save(tmp_path / "softmax.keras")
    images = first_images(mnist.load("test"), 20)
    (artifact,) = export(tmp_path / "softmax.keras", tmp_path, images, images, ["tflite"], ["int8"])
    note = "XNNPACK took 4 of 5 nodes and 100 % of the multiplications"
    measurement = measure(artifact.path, "litert-xnnpack")
    assert str(measurement.delegation) == note
    run = BenchRun.of_this_machine(measurements=(measurement,))
    assert str(ranks(run)[measurement.key]) == "1"
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(bench_view(run))
    lines = console.export_text().splitlines()
    assert f"softmax_int8.tflite on litert-xnnpack: {note}" in lines
    seconds = interleave.sample([(artifact.path, "litert-xnnpack")], 1, 1, rounds=2, seed=0)
    assert len(seconds[0]) == 2


@pytest.mark.costly
def test_xnnpack_may_leave_several_nodes(exports: Path, tmp_path: Path) -> None:
    """Keras's Flatten with a free batch size produces operators that XNNPACK does not take."""
    import tensorflow as tf

    model = tf.keras.models.load_model(exports / "lenet.keras")
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    path = tmp_path / "partly.tflite"
    path.write_bytes(converter.convert())
    specs = load_artifact(exports / "lenet_float32.tflite")
    write_manifest(
        describe_file(
            path,
            precision="float32",
            batch_size=None,
            inputs=(TensorSpec("image", (None, 28, 28, 1), "float32"),),
            outputs=(TensorSpec("logits", (None, 10), "float32"),),
            parent_sha256=specs.parent_sha256,
            converter="test",
            calibration=None,
        )
    )
    delegation = measure(path, "litert-xnnpack").delegation
    assert delegation is not None
    assert (delegation.nodes_taken, delegation.nodes_total) == (7, 11)
    assert not delegation.falls_back
    assert measure(path, "litert-reference").p50_s > 0
