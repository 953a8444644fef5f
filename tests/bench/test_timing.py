"""What is timed, when it stops, and what is kept of it."""

from __future__ import annotations

import dataclasses
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lenet_edge import worker
from lenet_edge.artifacts.artifact import (
    Artifact,
    TensorSpec,
    describe,
    load_artifact,
    write_manifest,
)
from lenet_edge.bench import timing
from lenet_edge.bench.sampling import StopRule, take
from lenet_edge.errors import TargetError
from lenet_edge.results.process_samples import MIN_SAMPLES_P99
from lenet_edge.results.result_file import Measurement
from lenet_edge.results.stats import median_interval
from lenet_edge.runtimes import get_target
from lenet_edge.target import Delegation
from tests.bench.slow import SlowSession

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


def test_the_harness_itself_costs_next_to_nothing(exports: Path) -> None:
    """Of the null target, all that is left is a pair of clock reads."""
    null = measure(exports / "lenet_int8.tflite", "null")
    real = measure(exports / "lenet_int8.tflite", "litert-xnnpack")
    assert null.p50_s < real.p50_s / 2
    assert null.delegation is None


def test_what_is_recorded(exports: Path, exported: Callable[[str], Artifact]) -> None:
    artifact = exported("lenet_float32.tflite")
    found = Measurement.from_json(
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
    assert (found.artifact, found.artifact_sha256) == (artifact.name, artifact.sha256)
    assert found.size_bytes == artifact.path.stat().st_size
    assert (found.target, found.batch_size, found.num_threads) == ("litert-xnnpack", 64, 2)
    assert found.delegation == Delegation(
        "XNNPACK", nodes_total=8, nodes_taken=8, macs_total=199_968, macs_taken=199_968
    )
    assert found.runtime_version[0].isdigit()
    (trial,) = found.processes
    assert trial.warmup_runs >= 3
    assert trial.calls_per_sample == 1
    assert trial.timer_s is not None
    assert trial.null_s is not None
    assert 0 < trial.timer_s <= trial.null_s * 2 < found.p50_s
    assert trial.rss_growth_bytes is not None
    assert 2**20 < trial.rss_growth_bytes < trial.peak_rss_bytes
    assert found.inputs == "test images"
    assert trial.after.load is not None
    assert len(found.latencies_s) >= MIN_SAMPLES_P99
    for seconds in (found.load_time_s, found.first_inference_s, found.prepare_s, found.readout_s):
        assert 0 < seconds < 60
    assert (found.latencies_s > 0).all()
    assert (
        found.p50_s > found.prepare_s + found.readout_s
    )  # copying 64 images costs next to nothing
    assert found.peak_rss_bytes > artifact.size_bytes
    assert found.invalid is None


def test_the_precision_is_reached(exports: Path) -> None:
    stop = StopRule(min_time_s=0, max_time_s=60, precision=0.05)
    found = measure(exports / "lenet_int8.tflite", "litert-xnnpack", stop=stop)
    low, high = median_interval(found.latencies_s)
    assert (high - low) / 2 / found.p50_s <= stop.precision


def test_the_images_are_real_and_change(exported: Callable[[str], Artifact]) -> None:
    batches = timing.make_batches(exported("lenet_int8.tflite"), 8)
    assert {batch.shape for batch in batches} == {(8, 28, 28, 1)}
    assert len({batch.tobytes() for batch in batches}) == len(batches) > 1
    assert {(batch.min(), batch.max()) for batch in batches} == {(0.0, 1.0)}
    session = SlowSession(exported("lenet_int8.tflite"), infer_s=0.0002)
    take(session, batches, 1, AT_ONCE)
    assert {batch.tobytes() for batch in session.prepared} == {batch.tobytes() for batch in batches}


def test_a_file_of_a_fixed_batch_is_not_timed_at_another(exports: Path, tmp_path: Path) -> None:
    for name in ("lenet_int8.tflite", "lenet_int8.tflite.json"):
        shutil.copy(exports / name, tmp_path)
    path = tmp_path / "lenet_int8.tflite"
    write_manifest(dataclasses.replace(load_artifact(path), batch_size=1))
    with pytest.raises(TargetError, match="fixed to batches of 1, not 8"):
        measure(path, "litert-xnnpack", batch_size=8)
    assert measure(path, "litert-xnnpack", batch_size=1).batch_size == 1


def test_a_delegate_that_takes_a_part_only_is_no_measurement(exports: Path, tmp_path: Path) -> None:
    """Keras's Flatten on a free batch leaves operators that XNNPACK does not take."""
    import tensorflow as tf

    model = tf.keras.models.load_model(exports / "lenet.keras")
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    path = tmp_path / "partly.tflite"
    path.write_bytes(converter.convert())
    specs = load_artifact(exports / "lenet_float32.tflite")
    write_manifest(
        describe(
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
    with pytest.raises(TargetError, match=r"XNNPACK took 7 of 11 nodes .* stayed SHAPE"):
        measure(path, "litert-xnnpack")
    assert measure(path, "litert-reference").p50_s > 0
