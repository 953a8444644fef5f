"""Export a checkpoint under the lock of its output folder."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.artifacts.file_check import check_format, check_path_encoding
from lenet_edge.artifacts.stated_input import NOTHING_STATED, StatedInput
from lenet_edge.errors import ModelFileError, UsageError
from lenet_edge.flows.console import Console, note_left_out

if TYPE_CHECKING:
    from lenet_edge.export.firmware import FirmwareBoard


def export(
    model: Path,
    output_dir: Path,
    console: Console,
    formats: Sequence[str] = ("tflite", "onnx"),
    precisions: Sequence[str] | None = ("float32",),
    dataset: str = "mnist",
    data_dir: Path | None = None,
    cpu: str = "auto",
    batch_size: int | None = None,
    calibration: Path | None = None,
    stated: StatedInput = NOTHING_STATED,
    report: Callable[[Artifact], None] = lambda artifact: None,
    board: str | None = None,
) -> list[Artifact]:
    """Export a checkpoint to each format in each precision; see `exporter.export`.

    Args:
        model: the checkpoint, a .keras or .onnx file; or a .tflite file, for C as it is.
        output_dir: the folder for the files and their manifests.
        console: the display.
        formats: "tflite", "onnx", "native", "wasm", "ncnn", "c" and "firmware".
        precisions: "float32", "float16", "dynamic", "int8", "int4" and "int16x8". None means every
            precision of the formats. Those that cannot hold the model are then left out with a
            note, except float32.
        dataset: see `datasets.load`.
        data_dir: see `datasets.load`.
        cpu: the processor that int8 ONNX files will run on: "x86", "arm", or "auto".
        batch_size: a fixed batch size; None leaves it free.
        calibration: images that calibrate int8 files and judge all files.
        stated: the facts about the model's input that the user states.
        report: called with each artifact when it is on disk.
        board: the name of the board of "firmware".

    Raises:
        LenetEdgeError: the checkpoint cannot be exported, or the images do not fit it.
        ModuleNotFoundError: TensorFlow or a converter is not installed.
    """
    format = check_format(model)  # before TensorFlow, which takes seconds to load
    check_path_encoding(output_dir)
    chosen = _find_board(formats, board)
    if format == "tflite":
        from lenet_edge.export.converter import PRECISIONS
        from lenet_edge.export.from_tflite import export_tflite

        with console.alone_in(output_dir):
            return export_tflite(
                model, output_dir, formats, precisions or PRECISIONS, stated, report, console.note,
                chosen,
            )  # fmt: skip
    if "wasm" in formats:
        from lenet_edge.export import wasm

        wasm.compiler()
    with console.alone_in(output_dir):
        from lenet_edge.flows import datasets

        training, test = datasets.load(dataset, data_dir, model, stated)
        for remark in training.files.remarks:
            console.note(remark)
        console.note("Loading TensorFlow ...")
        from lenet_edge.export import exporter

        refused: dict[str, str] = {}

        def leave_out(format: str, precision: str, error: ModelFileError) -> None:
            if precision == "float32":
                raise error
            refused[f"{format} {precision}"] = str(error)

        artifacts: list[Artifact] = exporter.export(
            model,
            output_dir,
            training,
            test,
            formats=formats,
            precisions=exporter.available_precisions(formats) if precisions is None else precisions,
            report=report,
            options=exporter.Options(batch_size, cpu, calibration, stated, chosen),
            note=console.note,
            on_refused=leave_out if precisions is None else None,
        )
        note_left_out(refused, console.note)
        return artifacts


def _find_board(formats: Sequence[str], name: str | None) -> FirmwareBoard | None:
    """Return the board of the format "firmware"; None without this format.

    Raises:
        UsageError: the board is unknown or missing, or the format is not chosen.
    """
    if "firmware" not in formats:
        if name is not None:
            raise UsageError("--board is for --format firmware; add that option")
        return None
    from lenet_edge.export.firmware import find_firmware_board

    if name is None:
        raise UsageError("--format firmware needs a board, such as --board pico")
    return find_firmware_board(name)
