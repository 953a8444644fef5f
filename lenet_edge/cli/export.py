"""lenet-edge export"""

from __future__ import annotations

from pathlib import Path

import click

from lenet_edge.cli._console import TERMINAL
from lenet_edge.cli._options import DEFAULT_DIR, MAX_BATCH_SIZE, dataset_options


@click.command("export")
@click.argument(
    "model", type=click.Path(path_type=Path), default=DEFAULT_DIR / "lenet.keras", required=False
)
@click.option("--int8", is_flag=True, help="Full-integer int8 (TFLite) and QDQ int8 (ONNX) too.")
@click.option("--float16", is_flag=True, help="float16 weights too: half the bytes.")
@click.option("--dynamic", is_flag=True, help="int8 weights with float activations too (TFLite).")
@click.option("--int16x8", is_flag=True, help="int16 activations, int8 weights too (TFLite).")
@click.option("--all", "everything", is_flag=True, help="Every precision.")
@click.option(
    "formats",
    "--format",
    type=click.Choice(["tflite", "onnx", "native", "wasm", "c"]),
    multiple=True,
    default=("tflite", "onnx"),
    show_default="tflite and onnx",
    help="Repeatable. native: the network itself as C, which needs no runtime. wasm: that C for"
    " browsers. c: the int8 TFLite file, and the same as a C array for TensorFlow Lite Micro.",
)
@click.option(
    "--cpu",
    type=click.Choice(["auto", "x86", "arm"]),
    default="auto",
    show_default=True,
    help="Where int8 ONNX will run: any x86 needs 7-bit weights, Arm does not; auto: as here.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(1, MAX_BATCH_SIZE),
    metavar="N",
    help="Fix the batch, for delegates that need that; free if left out.",
)
@click.option(
    "--calibration",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.npz",
    help="Images to calibrate int8 with; 1,000 MNIST training images if left out.",
)
@dataset_options
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_DIR,
    show_default=True,
)
def command(
    model: Path,
    int8: bool,
    float16: bool,
    dynamic: bool,
    int16x8: bool,
    everything: bool,
    formats: tuple[str, ...],
    cpu: str,
    batch_size: int | None,
    calibration: Path | None,
    dataset: str,
    data_dir: Path | None,
    output_dir: Path,
) -> None:
    """Export a checkpoint to TFLite, ONNX, plain C or WebAssembly.

    MODEL is a .keras file, exported/lenet.keras by default; any Keras classifier with one input
    will do. It makes float32 files, and those of the precisions asked for. Each file carries its
    labels, its pixel scale and where it is from, and has a manifest beside it that says the same.

    \b
    Example: lenet-edge export --int8 --dynamic
    Example: lenet-edge export theirs.keras --int8 --calibration images.npz
    Example: lenet-edge export --format native --dynamic --int8
    """
    from lenet_edge.flows.export import export

    chosen = {"float16": float16, "dynamic": dynamic, "int8": int8, "int16x8": int16x8}
    export(
        model,
        output_dir,
        TERMINAL,
        formats,
        ("float32", *(name for name, wanted in chosen.items() if wanted or everything)),
        dataset,
        data_dir,
        cpu,
        batch_size,
        calibration,
        report=lambda file: click.echo(f"{file.path}: {file.size_bytes:,} bytes"),
    )
