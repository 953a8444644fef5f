"""The whole job in a row: train, export, verify, bench, one result file."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from lenet_edge.bench import plan
from lenet_edge.bench.run_plan import run_plan
from lenet_edge.data.dataset import Dataset
from lenet_edge.export import exporter
from lenet_edge.flows.train import train
from lenet_edge.results.result_file import BenchRun
from lenet_edge.selection import load_artifacts, pair_up
from lenet_edge.train.recipe import DEFAULT, Recipe
from lenet_edge.train.saved_state import STATE_FILE, training_folder
from lenet_edge.verify.verdict import read_bounds
from lenet_edge.verify.verify import verify

RESULTS = "results.json"
REPORT = "report.html"
CHECKPOINT = "lenet.keras"
PRECISIONS = ("float32", "dynamic", "int8")
FORMATS = ("tflite", "onnx", "native")

# Given a title and a number of steps: a context whose value is called as each step is done.
ProgressBar = Callable[[str, int], contextlib.AbstractContextManager[Callable[[str], None]]]
# A context whose value is called with each `train.loop.TrainingProgress`.
TrainingProgress = Callable[[], contextlib.AbstractContextManager[Callable[[Any], None]]]


def run(
    output_dir: Path,
    training: Dataset,
    test: Dataset,
    progress_bar: ProgressBar,
    training_progress: TrainingProgress,
    measuring_alone: Callable[[], contextlib.AbstractContextManager[None]] = contextlib.nullcontext,
    model: Path | None = None,
    recipe: Recipe = DEFAULT,
    seed: int = 1,
    batch_sizes: Sequence[int] = plan.DEFAULT_BATCH_SIZES,
) -> BenchRun:
    """Do the whole job and return what was found; it is in ``output_dir/results.json`` too.

    A training that was stopped goes on where it was.

    Args:
        output_dir: where the checkpoint, the exported files and the results go.
        training: what is learnt from, and calibrated with.
        test: what every file is verified on, to the bounds of the working folder's pyproject.toml.
        progress_bar: how each stage shows how far it is.
        training_progress: how the training does.
        measuring_alone: a context to measure in.
        model: a checkpoint to start from instead of training one.
        recipe: how to train.
        seed: of the training and of the order of the plan.
        batch_sizes: to measure at.

    Raises:
        LenetEdgeError: a stage failed; its message says which file and why.
    """
    if model is None:
        model = output_dir / CHECKPOINT
        resume = (training_folder(model) / STATE_FILE).exists()
        with training_progress() as report:
            train(model, training, test, recipe, seed, resume, report)
    files = _export(model, output_dir, training, test, progress_bar)
    pairs, missing = pair_up(load_artifacts(files, output_dir), ())
    with progress_bar("Verify", len(pairs)) as step:
        parity, wrong = verify(pairs, read_bounds(Path()), on_progress=step)
    planned = plan.Plan(plan.expand(pairs, batch_sizes), seed=seed)
    with measuring_alone(), progress_bar("Bench", len(planned.steps())) as step:
        timed = run_plan(planned, report=step, skipped=(*missing, *wrong))
    found = dataclasses.replace(timed, parity=tuple(parity))
    found.save(output_dir / RESULTS)
    return found


def _export(
    model: Path, output_dir: Path, training: Dataset, test: Dataset, progress_bar: ProgressBar
) -> list[Path]:
    with progress_bar("Export", len(exporter.jobs(FORMATS, PRECISIONS))) as step:
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
