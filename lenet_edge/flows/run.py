"""The whole job in a row: train, export, verify, bench, one result file."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from pathlib import Path

from lenet_edge.bench import plan
from lenet_edge.data import mnist
from lenet_edge.results import BenchRun
from lenet_edge.selection import load_files, pair_up
from lenet_edge.verify.verify import verify

RESULTS = "results.json"
CHECKPOINT = "lenet.keras"
PRECISIONS = ("float32", "int8")
FORMATS = ("tflite", "onnx")

# Given a title and a number of steps: a context whose value is called as each step is done.
ProgressBar = Callable[[str, int], contextlib.AbstractContextManager[Callable[[str], None]]]


def run(
    output_dir: Path,
    progress_bar: ProgressBar,
    model: Path | None = None,
    epochs: int = 10,
    seed: int = 1,
    batch_sizes: Sequence[int] = plan.DEFAULT_BATCH_SIZES,
) -> BenchRun:
    """Do the whole job and return what was found; it is in ``output_dir/results.json`` too.

    Args:
        output_dir: where the checkpoint, the exported files and the results go.
        progress_bar: how each stage shows how far it is.
        model: a checkpoint to start from instead of training one.
        epochs: passes over the training images.
        seed: of the training and of the order of the plan.
        batch_sizes: to measure at.

    Raises:
        LenetEdgeError: a stage failed; its message says which file and why.
    """
    if model is None:
        model = _train(output_dir / CHECKPOINT, progress_bar, epochs, seed)
    files = _export(model, output_dir, progress_bar)
    pairs, missing = pair_up(load_files(files, output_dir), ())
    with progress_bar("Verify", len(pairs)) as step:
        parity, wrong = verify(pairs, report=step)
    cells = plan.expand(pairs, batch_sizes, num_threads=1, seed=seed)
    with progress_bar("Bench", len(cells)) as step:
        measurements, failed = plan.run(cells, report=step)
    found = BenchRun.here(tuple(measurements), tuple(parity), (*missing, *wrong, *failed))
    found.save(output_dir / RESULTS)
    return found


def _train(path: Path, progress_bar: ProgressBar, epochs: int, seed: int) -> Path:
    from lenet_edge.train import loop

    training, test = mnist.load("train"), mnist.load("test")
    with progress_bar("Train", epochs) as step:

        def report(progress: loop.Progress) -> None:
            if progress.accuracy is not None:
                step(f"epoch {progress.epoch}, test accuracy {progress.accuracy:.2%}")

        model = loop.train(training, test, epochs=epochs, seed=seed, report=report)
    return loop.save(model, path, training.class_names).path


def _export(model: Path, output_dir: Path, progress_bar: ProgressBar) -> list[Path]:
    from lenet_edge.export import exporter

    training, test = mnist.load("train"), mnist.load("test")
    with progress_bar("Export", len(PRECISIONS) * len(FORMATS)) as step:
        made = exporter.export(
            model,
            output_dir,
            training,
            test,
            formats=FORMATS,
            precisions=PRECISIONS,
            report=lambda artifact: step(f"{artifact.name}, {artifact.size_bytes:,} bytes"),
        )
    # The copy of the checkpoint in output_dir goes along: it is the float model to compare with.
    return [output_dir / model.name, *(artifact.path for artifact in made)]
