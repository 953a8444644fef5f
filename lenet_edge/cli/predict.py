"""The command ``lenet-edge predict``."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from lenet_edge.cli._help import DATA, TARGETS, Command, Section, option
from lenet_edge.cli._options import DEFAULT_DIR, input_options, json_option, num_threads_option
from lenet_edge.cli._outputs import PathOrName
from lenet_edge.cli._terminal import say, write_json
from lenet_edge.support.printable import make_printable

if TYPE_CHECKING:
    from lenet_edge.artifacts.stated_input import StatedInput


@click.command("predict", cls=Command, section=Section.USE, position=1)
@click.argument("images", nargs=-1, type=PathOrName(), metavar="[IMAGE...]")
@option(DATA, "--camera", is_flag=True, help="Take a photo with the camera of a Raspberry Pi.")
@option(
    TARGETS,
    "--model",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Exported file that predicts. Default: the smallest .tflite file in ./exported, or else"
    " the smallest .onnx file.",
)
@option(
    TARGETS,
    "--target",
    metavar="NAME",
    help="Target, runtime or format. Default: the best that is installed.",
)
@num_threads_option
@input_options
@json_option
def command(
    images: tuple[str, ...],
    camera: bool,
    model: Path | None,
    target: str | None,
    num_threads: int,
    json_file: Path | None,
    stated: StatedInput,
) -> None:
    """Classify images: print the class that each image shows.

    IMAGE is a PNG or JPEG file, a folder of them, or "-" for standard input. A photo of ink on
    paper is cropped, inverted and centred in the way in which MNIST's images were made. For a
    model with other classes the image is only scaled. The exit status is 1 if an image could not
    be used.

    \b
    Example: lenet-edge predict photo.jpg --model exported/lenet_int8.tflite
    """
    from lenet_edge.artifacts.stated_input import question
    from lenet_edge.flows.predict import Prediction, find_images, find_models, predict

    if not images and not camera:
        raise click.UsageError("No image; name an IMAGE, a folder of images, - or --camera")
    sources = find_images(images, camera, say)
    to_screen = str(json_file) != "-"
    width = max(len(source.name) for source in sources)

    def report(prediction: Prediction) -> None:
        if prediction.error is not None:
            click.secho(f"Error: {make_printable(prediction.error)}", fg="red", err=True)
        elif to_screen:
            click.echo(make_printable(f"{prediction.image:{width}}  {prediction.describe()}"))

    models = find_models(model, DEFAULT_DIR, say, stated)
    file, target, predictions = predict(sources, models, target, num_threads, report)
    if file.preprocessing.is_assumed:
        say(question(file))
    if json_file:
        facts = [prediction.to_json() for prediction in predictions]
        write_json(
            json_file,
            {
                "file": file.name,
                "target": target,
                "preprocessing": file.preprocessing.to_json(),
                "question": question(file) if file.preprocessing.is_assumed else None,
                "images": facts,
            },
        )
    if any(prediction.error is not None for prediction in predictions):
        raise SystemExit(1)
