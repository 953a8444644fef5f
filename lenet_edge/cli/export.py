"""The command ``lenet-edge export``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lenet_edge.cli._console import TERMINAL
from lenet_edge.cli._help import OUTPUT, Command, Section, StringChoice, option
from lenet_edge.cli._options import (
    DEFAULT_DIR,
    MAX_BATCH_SIZE,
    calibration_option,
    dataset_options,
    input_options,
)
from lenet_edge.cli._outputs import OutputFolder
from lenet_edge.formats import EXPORT_CHOICES

if TYPE_CHECKING:
    from lenet_edge.artifacts.stated_input import StatedInput

_PRECISIONS, _FORMATS = "Precisions besides float32", "Formats"


@click.command("export", cls=Command, section=Section.MAKE, position=4)
@click.argument(
    "model", type=click.Path(path_type=Path), default=DEFAULT_DIR / "lenet.keras", required=False
)
@option(_PRECISIONS, "--int8", is_flag=True,
        help="Also write full-integer int8 (TFLite) and QDQ int8 (ONNX) files.")  # fmt: skip
@option(_PRECISIONS, "--int4", is_flag=True,
        help="Also write int8 files with int4 weights in dense layers (TFLite, C).")  # fmt: skip
@option(_PRECISIONS, "--float16", is_flag=True,
        help="Also write files with float16 weights, half the size.")  # fmt: skip
@option(_PRECISIONS, "--dynamic", is_flag=True,
        help="Also write files with int8 weights and float activations (TFLite).")  # fmt: skip
@option(_PRECISIONS, "--int16x8", is_flag=True,
        help="Also write files with int16 activations and int8 weights (TFLite).")  # fmt: skip
@option(_PRECISIONS, "--all", "everything", is_flag=True,
        help="Write every precision that the format and the model have.")  # fmt: skip
@option(
    _FORMATS,
    "formats",
    "--format",
    type=StringChoice(EXPORT_CHOICES),
    multiple=True,
    default=("tflite", "onnx"),
    show_default="tflite and onnx",
    help="Repeatable. native is the network as C code, which needs no runtime. wasm is that code"
    " for browsers. ncnn is a .param and a .bin file for ncnn. c is the int8 TFLite file and the"
    " same file as a C array for TensorFlow Lite Micro. firmware is a folder that"
    " builds for --board, with the int8 C file; with --int4 alone, the int4 one.",
)
@option(
    _FORMATS,
    "--board",
    metavar="NAME",
    help="The board of --format firmware, such as pico or nano-33-ble. A wrong name lists all.",
)
@option(
    _FORMATS,
    "--cpu",
    type=StringChoice(["auto", "x86", "arm"]),
    default="auto",
    show_default=True,
    help="CPU that will run int8 ONNX files: x86 needs 7-bit weights, or uint8 ones with trained"
    " ranges; Arm does not. auto is the CPU of this machine.",
)
@option(
    _FORMATS,
    "--batch-size",
    type=click.IntRange(1, MAX_BATCH_SIZE),
    metavar="N",
    help="Fix the batch size, for delegates that need it. Default: any batch size.",
)
@dataset_options
@calibration_option
@input_options
@option(
    OUTPUT,
    "--output-dir",
    type=OutputFolder("reference-*.npz"),
    default=DEFAULT_DIR,
    show_default=True,
    help="Folder for the exported files.",
)
def command(
    model: Path,
    int8: bool,
    int4: bool,
    float16: bool,
    dynamic: bool,
    int16x8: bool,
    everything: bool,
    formats: tuple[str, ...],
    cpu: str,
    board: str | None,
    batch_size: int | None,
    calibration: Path | None,
    dataset: str,
    data_dir: Path | None,
    output_dir: Path,
    stated: StatedInput,
) -> None:
    """Export a checkpoint to TFLite, ONNX, plain C or WebAssembly.

    MODEL is a .keras or .h5 file of Keras 2 or 3, or a float32 .onnx file, such as PyTorch writes;
    the default is exported/lenet.keras. Any classifier with one input works. A .tflite file becomes
    C as it is (--format native). The command writes float32 files, and files of the other
    precisions that you select. Each file contains its labels, its preprocessing and its origin. The
    manifest beside it repeats them. The images of --calibration or --dataset also judge the files.

    \b
    Example: lenet-edge export --int8 --dynamic
    Example: lenet-edge export other.onnx --int8 --calibration images.npz
    Example: lenet-edge export --format native --dynamic --int8
    Example: lenet-edge export --format firmware --board pico
    """
    from lenet_edge.flows.export import export

    chosen = {
        "float16": float16, "dynamic": dynamic, "int8": int8, "int4": int4, "int16x8": int16x8
    }  # fmt: skip
    export(
        model,
        output_dir,
        TERMINAL,
        formats,
        None if everything else ("float32", *(name for name in chosen if chosen[name])),
        dataset,
        data_dir,
        cpu,
        batch_size,
        calibration,
        stated,
        report=lambda file: click.echo(f"{file.path}: {file.size}"),
        board=board,
    )
