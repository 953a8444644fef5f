"""Train, export, verify and bench in one run, with one result file and one report."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lenet_edge.artifacts.file_check import check_format, check_path_encoding
from lenet_edge.artifacts.stated_input import NOTHING_STATED, StatedInput
from lenet_edge.bench import plan
from lenet_edge.bench.run_plan import run_plan
from lenet_edge.data.evaluation_images import has_reference
from lenet_edge.errors import ModelFileError, UsageError
from lenet_edge.flows.check import without_pairs
from lenet_edge.flows.console import Console, note_left_out
from lenet_edge.flows.mlflow_log import check_mlflow, log_training
from lenet_edge.flows.report import with_folders
from lenet_edge.networks import LENET
from lenet_edge.report import page
from lenet_edge.results.parity_report import ParityReport
from lenet_edge.results.result_file import BenchRun, Skipped
from lenet_edge.selection import Pair, load_artifacts, pair_up
from lenet_edge.train.recipe import choose_recipe
from lenet_edge.train.saved_state import STATE_FILE, History, TrainingSettings, training_folder
from lenet_edge.verify.verdict import read_bounds
from lenet_edge.verify.verify import verify

if TYPE_CHECKING:
    from lenet_edge.data.dataset import Dataset

RESULTS = "results.json"
REPORT = "report.html"
PRECISIONS = ("float32", "dynamic", "int8")
FORMATS = ("tflite", "onnx", "native")


def run(
    output_dir: Path,
    console: Console,
    model: Path | None = None,
    recipe: str = "quick",
    epochs: int | None = None,
    seed: int = 1,
    dataset: str = "mnist",
    data_dir: Path | None = None,
    batch_sizes: Sequence[int] = plan.DEFAULT_BATCH_SIZES,
    calibration: Path | None = None,
    stated: StatedInput = NOTHING_STATED,
    network: str = LENET,
    mlflow: Path | None = None,
) -> BenchRun:
    """Train, export, verify and bench, and write ``output_dir/results.json``.

    A training that was interrupted continues. The bounds of ./pyproject.toml apply.

    Args:
        output_dir: the folder for the checkpoint, the exported files and the results.
        console: the display.
        model: a checkpoint to start from; None trains one.
        recipe: the name of the recipe.
        epochs: the number of epochs; None means the recipe's.
        seed: the seed of the training and of the order of the plan.
        dataset: see `datasets.load`.
        data_dir: see `datasets.load`.
        batch_sizes: the batch sizes to measure.
        calibration: images that calibrate int8 files and judge all files.
        stated: the facts about the model's input that the user states.
        network: the name of the network to train.
        mlflow: the folder of an MLflow store that gets the training, the files and the verdicts;
            None means none.

    Raises:
        LenetEdgeError: a stage failed; the message names the file and the reason.
        ModuleNotFoundError: TensorFlow or a converter is not installed.
    """
    if mlflow:
        if model is not None:
            raise UsageError("--mlflow logs a training; leave out the model")
        check_mlflow(mlflow)
    if model is not None:
        check_format(model)  # before TensorFlow, which takes seconds to load
    check_path_encoding(output_dir)
    with console.alone_in(output_dir):
        from lenet_edge.flows import datasets

        history = None
        training, test = datasets.load_and_describe(console, dataset, data_dir, model, stated)
        console.note("Loading TensorFlow ...")
        if model is None:
            model = output_dir / f"{network}.keras"
            chosen, adaptation = choose_recipe(recipe, len(training), epochs)
            if adaptation:
                console.note(adaptation)
            settings = TrainingSettings(chosen, seed, network=network)
            history = _train(model, training, test, settings, console)
        files = _export(model, output_dir, training, test, console, calibration, stated)
        measured = _measure(files, batch_sizes, seed, console)
        measured.save(output_dir / RESULTS)
    if mlflow and history:
        log_training(mlflow, files[0], history, files[1:], measured.parity)
    return measured


def write_report(output_dir: Path, run: BenchRun) -> Path:
    """Write ``output_dir/report.html`` and return its path.

    Raises:
        MissingPackageError: a package of the extra "report" is not installed.
    """
    path = output_dir / REPORT
    page.checked_suffix(path)  # fail early if Jinja2 is missing
    with_folders(page.build([(RESULTS, run)]), [output_dir]).save(path)
    return path


def _train(
    checkpoint: Path,
    training: Dataset,
    test: Dataset,
    settings: TrainingSettings,
    console: Console,
) -> History:
    from lenet_edge.flows.recorded_training import train

    resume = (training_folder(checkpoint) / STATE_FILE).exists()
    with console.training_progress() as report:
        return train(checkpoint, training, test, settings, resume, report)[1]


def _export(
    model: Path,
    output_dir: Path,
    training: Dataset,
    test: Dataset,
    console: Console,
    calibration: Path | None,
    stated: StatedInput,
) -> list[Path]:
    from lenet_edge.export import exporter

    refused: dict[str, str] = {}

    def leave_out(format: str, precision: str, error: ModelFileError) -> None:
        refused[f"{format} {precision}"] = str(error)

    with console.progress_bar("Export", len(exporter.jobs(FORMATS, PRECISIONS))) as step:
        artifacts = exporter.export(
            model,
            output_dir,
            training,
            test,
            formats=FORMATS,
            precisions=PRECISIONS,
            options=exporter.Options(calibration_file=calibration, stated=stated),
            report=lambda artifact: step(f"{artifact.name}, {artifact.size}"),
            note=console.note,
            on_refused=leave_out,
        )
    note_left_out(refused, console.note)
    # The copy of the checkpoint in output_dir is the float model to compare with.
    return [output_dir / model.name, *(artifact.path for artifact in artifacts)]


def _verify(pairs: Sequence[Pair], console: Console) -> tuple[list[ParityReport], list[Skipped]]:
    """Compare the files with their checkpoint, if `export` found images of the model."""
    comparable = [pair for pair in pairs if has_reference(pair.artifact)]
    if not comparable:
        console.note(
            "The files are not verified, because no images of the model are known; give them with"
            " --calibration or --dataset"
        )
        return [], []
    with console.progress_bar("Verify", len(comparable)) as step:
        return verify(comparable, read_bounds(Path()), on_progress=step)


def _measure(
    files: Sequence[Path], batch_sizes: Sequence[int], seed: int, console: Console
) -> BenchRun:
    pairs, missing = pair_up(load_artifacts(files, Path()), ())
    parity, failed = _verify(pairs, console)
    planned = plan.Plan(plan.expand(pairs, batch_sizes, own_batch=True), seed=seed)
    planned = without_pairs(planned, failed)
    with (
        console.measuring_alone(),
        console.progress_bar("Bench", len(planned.steps())) as step,
    ):
        measured = run_plan(planned, step, skipped=(*missing, *failed), extend=step.extend)
    return dataclasses.replace(measured, parity=tuple(parity))
