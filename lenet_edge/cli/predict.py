"""The command ``lenet-edge predict``."""

from __future__ import annotations

import base64
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from lenet_edge.cli._help import DATA, TARGETS, Command, Section, option
from lenet_edge.cli._options import DEFAULT_DIR, json_option, num_threads_option
from lenet_edge.cli._terminal import tame, write_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from lenet_edge.artifacts.artifact import Artifact
    from lenet_edge.worker import Worker

_STANDARD_INPUT, _CAMERA = "-", "camera"


@click.command("predict", cls=Command, section=Section.USE, position=1)
@click.argument("images", nargs=-1, metavar="[IMAGE...]")
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
@json_option
def command(
    images: tuple[str, ...],
    camera: bool,
    model: Path | None,
    target: str | None,
    num_threads: int,
    json_file: Path | None,
) -> None:
    """Classify images: print which digit each image shows.

    IMAGE is a PNG or JPEG file, a folder of them, or "-" for standard input. predict crops,
    inverts and centres a photo of ink on paper in the way in which MNIST's images were made. For a
    model with other classes it only scales the image. The exit status is 1 if an image could not
    be used.

    \b
    Example: lenet-edge predict photo.jpg --model exported/lenet_int8.tflite
    """
    from contextlib import closing

    from lenet_edge import prediction
    from lenet_edge.worker import Worker

    if not images and not camera:
        raise click.UsageError("name an IMAGE, a folder of them, - or --camera")
    sources: list[tuple[str, bytes | None]] = [(source, None) for source in _sources(images)]
    if camera:
        from lenet_edge.data.camera import take_photo

        sources.append((_CAMERA, take_photo()))
    artifacts = _artifacts(model)
    with closing(Worker()) as worker:
        facts = [one.to_json() for one in artifacts]
        chosen = worker.run(prediction.open_first_runnable.bind(facts, target, num_threads))
        artifact = artifacts[chosen["place"]]
        ask = {
            "artifact": artifact.to_json(), "target": chosen["target"], "num_threads": num_threads,
        }  # fmt: skip
        to_screen = str(json_file) != "-"
        width = max(len(name) for name, _ in sources)
        answers = []
        for source, photo in sources:
            answers.append(_answer(worker, source, photo, ask))
            if to_screen and "error" not in answers[-1]:
                one = answers[-1]
                line = f"{source:{width}}  {one['label']}  {100 * one['confidence']:5.1f} %"
                click.echo(tame(line))
    if json_file:
        write_json(
            json_file, {"file": artifact.name, "target": chosen["target"], "images": answers}
        )
    if any("error" in one for one in answers):
        raise SystemExit(1)


def _sources(images: tuple[str, ...]) -> Iterator[str]:
    """Yield the image files that were named, and those in the folders that were."""
    from lenet_edge.data.image_file import SUFFIXES
    from lenet_edge.errors import DataError

    for image in images:
        folder = Path(image)
        if image == _STANDARD_INPUT or not folder.is_dir():
            yield image
            continue
        found = sorted(
            path
            for path in folder.rglob("*")
            if path.suffix.lower() in SUFFIXES and not path.name.startswith(".")
        )
        if not found:
            raise DataError(f"{folder} holds no images ({', '.join(SUFFIXES)}); name another")
        yield from map(str, found)


def _artifacts(model: Path | None) -> list[Artifact]:
    """Return the file to ask, or those that may be asked, the best first."""
    from lenet_edge.artifacts.artifact import (
        check_format,
        has_manifest,
        is_described,
        load_artifact,
    )
    from lenet_edge.errors import ModelFileError

    if model:
        check_format(model)
        if is_described(model):
            return [load_artifact(model)]
        from lenet_edge.selection import load_artifacts

        return load_artifacts([model], DEFAULT_DIR)
    found = [
        load_artifact(path)
        for path in DEFAULT_DIR.glob("*")
        if path.suffix in (".tflite", ".onnx") and has_manifest(path)
    ]
    if not found:
        raise ModelFileError(
            f"there are no exported files in {DEFAULT_DIR}; make them with: lenet-edge export,"
            " or name one with --model"
        )
    return sorted(found, key=lambda one: (one.format != "tflite", one.size_bytes))


def _answer(
    worker: Worker, source: str, content: bytes | None, ask: dict[str, Any]
) -> dict[str, Any]:
    """Return the JSON of one image; an image that cannot be used has an error, said at once.

    `content` are the bytes of what is no file.
    """
    from lenet_edge import prediction
    from lenet_edge.data.image_file import MAX_BYTES
    from lenet_edge.errors import DataError

    name = source
    if source == _STANDARD_INPUT:
        name, content = "standard input", sys.stdin.buffer.read(MAX_BYTES + 1)
    where: dict[str, Any] = {"kind": "path", "content": source}
    if content is not None:
        where = {"kind": "image", "content": base64.b64encode(content).decode()}
    try:
        if content is not None and len(content) > MAX_BYTES:
            raise DataError(f"{name} has over {MAX_BYTES // 2**20} MiB; make the image smaller")
        pixels = worker.run(
            prediction.load_pixels.bind(artifact=ask["artifact"], name=name, **where)
        )
        found = worker.run(prediction.classify.bind(pixels=pixels, **ask))
        return {"image": source, **found}
    except DataError as error:
        click.secho(f"Error: {tame(str(error))}", fg="red", err=True)
        return {"image": source, "error": str(error)}
