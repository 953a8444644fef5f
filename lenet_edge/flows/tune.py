"""Tune a checkpoint under the locks of its folder and of this machine, and keep the result."""

from __future__ import annotations

import json
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from lenet_edge.artifacts.file_check import check_format, check_path_encoding
from lenet_edge.artifacts.stated_input import NOTHING_STATED, StatedInput
from lenet_edge.errors import MissingPackageError, TargetError
from lenet_edge.flows.console import Console
from lenet_edge.report.plots import plot_tuning
from lenet_edge.runtimes import find_targets
from lenet_edge.support.files import atomic_write

if TYPE_CHECKING:
    from lenet_edge.flows.mixes import TuneResult


@dataclass(frozen=True)
class TunedFiles:
    """The result of `tune`, and the files that hold it beside the fastest model file."""

    result: TuneResult
    json_file: Path
    picture: Path


def tune_and_save(
    model: Path,
    output_dir: Path,
    target_name: str,
    console: Console,
    dataset: str = "mnist",
    data_dir: Path | None = None,
    stated: StatedInput = NOTHING_STATED,
) -> TunedFiles:
    """Tune a checkpoint, and write the Pareto front as JSON and as a picture.

    Args:
        model: the checkpoint, a .keras or .onnx file.
        output_dir: the folder for all files.
        target_name: a target or a runtime that runs .tflite files.
        console: the display.
        dataset: see `datasets.load`.
        data_dir: see `datasets.load`.
        stated: the facts about the model's input that the user states.

    Raises:
        ModelFileError: the checkpoint cannot be used.
        DataError: the data set cannot be used, or does not fit the model.
        MissingPackageError: a package that the tuning needs is not installed.
        TargetError: the target runs no .tflite files.
        ModuleNotFoundError: TensorFlow is not installed.
    """
    check_format(model)
    # Checked before the measurements, which take minutes.
    for package, extra in (("litert_quantizer", "host"), ("matplotlib", "report")):
        if find_spec(package) is None:
            raise MissingPackageError(package, extra)
    target = find_targets(target_name)[0]
    if "tflite" not in target.formats:
        raise TargetError(f"{target.name} runs no .tflite files; see: lenet-edge targets")
    if target.measures != "latency":
        raise TargetError(
            f"{target.name} is a microcontroller without a latency; name another target"
        )
    check_path_encoding(output_dir)
    with console.alone_in(output_dir):
        from lenet_edge.flows import datasets

        images = datasets.load(dataset, data_dir, model, stated)
        for remark in images[0].files.remarks:
            console.note(remark)
        console.note("Loading TensorFlow ...")
        from lenet_edge.flows.mix_search import tune

        with console.measuring_alone():
            result = tune(
                model,
                output_dir,
                target,
                *images,
                stated=stated,
                report=lambda step: console.note(f"{step} ..."),
                note=console.note,
            )
        facts = result.to_json()
        stem = result.winner.path.stem
        files = TunedFiles(
            result, output_dir / f"{stem}.tune.json", output_dir / f"{stem}.tune.png"
        )
        with atomic_write(files.json_file) as temporary:
            temporary.write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        plot_tuning(facts, files.picture)
    return files
