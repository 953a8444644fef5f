"""lenet-edge export"""

from __future__ import annotations

from pathlib import Path

import click

from lenet_edge.cli._options import DEFAULT_DIR
from lenet_edge.cli._terminal import say


@click.command("export")
@click.argument(
    "model", type=click.Path(path_type=Path), default=DEFAULT_DIR / "lenet.keras", required=False
)
@click.option("--int8", is_flag=True, help="Make full-integer int8 files as well.")
@click.option(
    "formats",
    "--format",
    type=click.Choice(["tflite", "onnx"]),
    multiple=True,
    default=("tflite", "onnx"),
    show_default="both",
    help="Repeatable.",
)
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_DIR,
    show_default=True,
)
def command(model: Path, int8: bool, formats: tuple[str, ...], output_dir: Path) -> None:
    """Export a checkpoint to TFLite and ONNX.

    MODEL is a .keras file, exported/lenet.keras by default. Each file gets a manifest beside it.

    \b
    Example: lenet-edge export --int8
    """
    from lenet_edge.artifact import Artifact, check_format

    check_format(model)  # before the seconds that TensorFlow takes to load
    say("Loading TensorFlow ...")
    from lenet_edge.data import mnist
    from lenet_edge.export.exporter import export

    def report(artifact: Artifact) -> None:
        click.echo(f"{artifact.path}: {artifact.size_bytes:,} bytes")

    export(
        model,
        output_dir,
        mnist.load("train"),
        mnist.load("test"),
        formats=formats,
        precisions=("float32", "int8") if int8 else ("float32",),
        report=report,
    )
