"""Classify images with one file, which stays open in a worker process.

This module imports nothing heavy: images are decoded and models run in the worker.
"""

from __future__ import annotations

import base64
import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lenet_edge import prediction
from lenet_edge.artifacts.artifact import Artifact, has_manifest, is_described, load_artifact
from lenet_edge.artifacts.file_check import check_format
from lenet_edge.artifacts.stated_input import NOTHING_STATED, StatedInput
from lenet_edge.data.image_file import MAX_BYTES
from lenet_edge.errors import DataError, ModelFileError
from lenet_edge.extras import host_command
from lenet_edge.formats import format_of
from lenet_edge.results.formatting import MISSING, microseconds
from lenet_edge.support.html_table import html_table
from lenet_edge.worker import Worker

_MAX_LABELS = 10  # in one line; the JSON has all
STANDARD_INPUT, CAMERA = "-", "camera"


@dataclass(frozen=True)
class Source:
    """An image to classify: a file, the bytes of a PNG or JPEG file, or pixels.

    `name` is the path of a file, "-" for standard input, or a name for `content`. `pixels` are
    rows of numbers from 0 to 255, which the model sees as they are.
    """

    name: str
    content: bytes | None = None
    pixels: Any = None


@dataclass(frozen=True)
class Prediction:
    """The class that a file predicts for an image, or the reason that there is none.

    `confidence` is the probability of `label`, from 0 to 1; `probabilities` are those of all
    labels. `inference_s` is the median latency of up to eleven calls, in seconds. `error` is None
    unless the image could not be used; then `label` is empty. `file` and `target` are the names
    of the model file and its target. `labels` are, for a model with independent probabilities,
    those of 0.5 and more; for other models it is None.
    """

    image: str
    file: str
    target: str
    label: str = ""
    confidence: float = 0.0
    probabilities: dict[str, float] = field(default_factory=dict)
    inference_s: float = 0.0
    error: str | None = None
    labels: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        if self.labels is not None:
            object.__setattr__(self, "labels", tuple(self.labels))

    def describe(self) -> str:
        """Return the label with its probability, or each of several independent labels."""
        if self.labels is None:
            return f"{self.label}  {100 * self.confidence:5.1f} %"
        ranked = sorted(self.probabilities.items(), key=lambda entry: -entry[1])
        shown = [f"{name} {100 * chance:.1f} %" for name, chance in ranked[:_MAX_LABELS]]
        return f"{' + '.join(self.labels) or 'none'}  ({', '.join(shown)})"

    def __repr__(self) -> str:
        if self.error is not None:
            return f"Prediction({self.image!r}: error: {self.error})"
        return f"Prediction({self.image!r}: {self.label!r}, {100 * self.confidence:.1f} %)"

    def html_row(self) -> Mapping[str, str]:
        """Return the cells of a table; see `support.html_table`."""
        known = self.error is None
        return {
            "image": self.image,
            "label": self.label if known else f"error: {self.error}",
            "confidence %": f"{100 * self.confidence:.1f}" if known else MISSING,
            "µs": microseconds(self.inference_s if known else None),
            "file": self.file,
            "target": self.target,
        }

    def _repr_html_(self) -> str:
        return html_table([self.html_row()])

    def to_json(self) -> dict[str, Any]:
        """Return the fields as plain data; an image that could not be used has only its error."""
        if self.error is not None:
            return {"image": self.image, "error": self.error}
        return {
            "image": self.image,
            "label": self.label,
            "confidence": self.confidence,
            "probabilities": self.probabilities,
            "inference_s": self.inference_s,
            **({} if self.labels is None else {"labels": list(self.labels)}),
        }


def find_images(
    images: Sequence[str],
    camera: bool = False,
    note: Callable[[str], None] = lambda text: None,
) -> list[Source]:
    """Return the images at some paths, and a photo of the camera.

    Args:
        images: image files, folders of them, and "-" for standard input.
        camera: take a photo with the camera of a Raspberry Pi.
        note: called with a sentence about files of a folder that are left out.

    Raises:
        DataError: a folder holds no images, or the camera cannot be used.
    """
    sources = [Source(name) for image in images for name in _expand(image, note)]
    if camera:
        from lenet_edge.data.camera import take_photo

        sources.append(Source(CAMERA, take_photo()))
    return sources


def _expand(image: str, note: Callable[[str], None]) -> Iterator[str]:
    folder = Path(image)
    if image == STANDARD_INPUT or not folder.is_dir():
        yield image
        return
    from lenet_edge.data import folder_layout

    paths, remarks = folder_layout.find_images(folder)
    for remark in remarks:
        note(remark)
    yield from map(str, paths)


def find_models(
    model: Path | None,
    folder: Path,
    note: Callable[[str], None] = lambda line: None,
    stated: StatedInput = NOTHING_STATED,
) -> list[Artifact]:
    """Return the file that predicts, or the files that may, the preferred file first.

    Args:
        model: a model file; None means every .tflite and .onnx file in `folder`, TFLite first,
            then the smallest.
        folder: the folder of exported files.
        note: called with a line of text for a tested preprocessing.
        stated: the facts about the inputs that the user states.

    Raises:
        ModelFileError: a file cannot be used, or the folder holds none.
    """
    if model:
        check_format(model)
        if is_described(model):
            return [stated.describe(load_artifact(model))]
        from lenet_edge.selection import load_artifacts

        return load_artifacts([model], folder, note, stated)
    artifacts = [
        stated.describe(load_artifact(path))
        for path in folder.glob("*")
        if (format := format_of(path)) and format.role == "model" and has_manifest(path)
    ]
    if not artifacts:
        raise ModelFileError(
            f"there are no exported files in {folder}; name one with --model, or make them with:"
            f" {host_command('lenet-edge export')}"
        )
    return sorted(artifacts, key=lambda file: (file.format != "tflite", file.size_bytes))


def predict(
    sources: Sequence[Source],
    models: Sequence[Artifact],
    target: str | None = None,
    num_threads: int = 1,
    report: Callable[[Prediction], None] = lambda prediction: None,
) -> tuple[Artifact, str, list[Prediction]]:
    """Classify images with the first of some files that runs on this machine.

    Args:
        sources: the images.
        models: the files, the preferred file first.
        target: a target, a runtime or a format; None means the best that is installed.
        num_threads: threads for one inference.
        report: called with each prediction as it is made.

    Returns:
        The file, the name of its target, and a prediction for each image.

    Raises:
        TargetError: none of the files runs.
        WorkerError: the runtime crashed.
    """
    with closing(Worker()) as worker:
        facts = [file.to_json() for file in models]
        opened = worker.run(prediction.open_first_runnable.bind(facts, target, num_threads))
        model = models[opened["index"]]
        predictions = []
        for source in sources:
            predictions.append(_predict(worker, source, model, opened["target"], num_threads))
            report(predictions[-1])
    return model, opened["target"], predictions


def _predict(
    worker: Worker, source: Source, model: Artifact, target: str, num_threads: int
) -> Prediction:
    facts = model.to_json()
    try:
        name, kind, content = _request(source)
        pixels = worker.run(prediction.load_pixels.bind(facts, name, content, kind))
        fields = worker.run(prediction.classify.bind(facts, target, pixels, num_threads))
    except DataError as error:
        return Prediction(source.name, model.name, target, error=str(error))
    return Prediction(source.name, model.name, target, **fields)


def _request(source: Source) -> tuple[str, str, str]:
    """Return the name, kind and content of an image as `prediction.load_pixels` takes them."""
    name, content = source.name, source.content
    if source.pixels is not None:
        return name, "json", json.dumps({"pixels": source.pixels})
    if name == STANDARD_INPUT and content is None:
        name, content = "standard input", sys.stdin.buffer.read(MAX_BYTES + 1)
    if content is None:
        return name, "path", name
    if len(content) > MAX_BYTES:
        raise DataError(f"{name} has over {MAX_BYTES // 2**20} MiB; make the image smaller")
    return name, "image", base64.b64encode(content).decode()
