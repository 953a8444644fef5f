"""Metadata of a model card as YAML, as the hub of Hugging Face reads it, and the card's mark."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.artifacts.head import Head
from lenet_edge.report.machine_report import MachineReport
from lenet_edge.results.result_file import ParityReport
from lenet_edge.support.printable import make_printable

# Names of libraries and data sets on the hub.
_LIBRARIES = {"tflite": "litert", "keras": "keras", "onnx": "onnx", "ncnn": "ncnn"}
_DATASETS = {"mnist-test": "ylecun/mnist"}
FILES_KEY = "lenet_edge_files"  # the sha256 of each file, in the metadata
_MARK = re.compile(r"<!-- lenet-edge card ([0-9a-f]{16}) -->\n")
_WORDS = {"true", "false", "null", "yes", "no", "on", "off", "y", "n"}  # no strings in YAML


@dataclass(frozen=True)
class CardFile:
    """A model file of the card.

    Attributes:
        artifact: the file.
        dataset: name of the images that its float model was recorded on; None if there is no
            record beside the file.
        num_images: number of these images.
        reference: name of that float model in parity reports.
    """

    artifact: Artifact
    dataset: str | None = None
    num_images: int = 0
    reference: str | None = None


def classifies_images(artifact: Artifact) -> bool:
    """Return True for a model whose input is an image and whose output states a class."""
    is_image = len(artifact.inputs) == 1 and artifact.inputs[0].image_shape is not None
    return (
        is_image and len(artifact.outputs) == 1 and artifact.stated_head not in (None, Head.VALUES)
    )


def card_metadata(
    files: Sequence[CardFile],
    first: CardFile,
    reports: Sequence[tuple[MachineReport, ParityReport]],
    title: str,
    license: str | None,
    num_machines: int,
) -> dict[str, Any]:
    """Return the metadata of a card.

    Args:
        files: the model files.
        first: the file that decides the task and the library.
        reports: the parity reports of these files, each with its machine.
        title: name of the model.
        license: its license; None if it is not known.
        num_machines: number of machines with results.
    """
    formats = dict.fromkeys(file.artifact.format for file in files)
    precisions = dict.fromkeys(file.artifact.precision for file in files)
    precisions.pop("unknown", None)
    labelled = any(report.candidate_accuracy is not None for _, report in reports)
    task = "image-classification" if classifies_images(first.artifact) else "other"
    results: dict[tuple[str, int], list[dict[str, Any]]] = {}
    for machine, report in reports:
        dataset = _dataset(report, files)
        where = f" on {machine.name}" if num_machines > 1 else ""
        open_verdict = "" if report.passed else f" ({report.verdict})"
        name = f"{report.candidate} on {report.target}{where}{open_verdict}"
        key = dataset, report.num_samples
        results.setdefault(key, []).extend(_metrics(report, name))
    datasets = {_DATASETS[name] for name, _ in results if name in _DATASETS}
    facts = {
        "license": license,
        "library_name": _LIBRARIES.get(first.artifact.format, "lenet-edge"),
        "pipeline_tag": task if task != "other" else None,
        "tags": ["lenet-edge", "edge", *formats, *precisions],
        "datasets": sorted(datasets),
        "metrics": ["accuracy"] if labelled else [],
        "model-index": [{"name": title, "results": [
            {
                "task": {"type": task},
                "dataset": {"name": f"{name}, {count:,} samples",
                            "type": _DATASETS.get(name, "custom")},
                "metrics": metrics,
            }
            for (name, count), metrics in results.items()
        ]}] if results else [],
        FILES_KEY: {file.artifact.name: file.artifact.sha256 for file in files},
    }  # fmt: skip
    return {name: value for name, value in facts.items() if value}


def _dataset(report: ParityReport, files: Sequence[CardFile]) -> str:
    """Return the name of the images of a report: that of the record, if it was compared with it."""
    for file in files:
        same_file = file.artifact.sha256 == report.candidate_sha256
        same_images = (file.reference, file.num_images) == (report.reference, report.num_samples)
        if file.dataset and same_file and same_images:
            return file.dataset
    return "samples given to lenet-edge verify"


def _metrics(report: ParityReport, name: str) -> Iterator[dict[str, Any]]:
    """Yield the metrics of one pair that the hub can read."""
    if report.candidate_accuracy is not None:
        value = round(report.candidate_accuracy, 6)
        yield {"type": "accuracy", "value": value, "name": f"accuracy of {name}"}
    if report.top1_agreement is not None:
        value = round(report.top1_agreement, 6)
        yield {"type": "agreement", "value": value,
               "name": f"agreement of {name} with {report.reference}"}  # fmt: skip
    elif math.isfinite(report.max_abs_error):
        yield {"type": "max_abs_error", "value": float(f"{report.max_abs_error:.4g}"),
               "name": f"largest error of {name}, against {report.reference}"}  # fmt: skip


def with_mark(text: str) -> str:
    """Return a card with the comment that shows later whether somebody has edited it."""
    return f"{text.rstrip()}\n\n<!-- lenet-edge card {_digest(text.rstrip())} -->\n"


def is_unedited(text: str) -> bool:
    """Return True for the text of a card as `render_card` wrote it."""
    mark = _MARK.search(text)
    return mark is not None and _digest(_MARK.sub("", text).rstrip()) == mark[1]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "backslashreplace")).hexdigest()[:16]


def to_yaml(value: Any, indent: str = "") -> Iterator[str]:
    """Yield the lines of a dictionary or list as YAML. Strings are those of JSON."""
    items = value.items() if isinstance(value, dict) else ((None, item) for item in value)
    for key, item in items:
        start = f"{indent}- " if key is None else f"{indent}{_scalar(key)}: "
        if isinstance(item, (dict, list)) and key is None:
            lines = list(to_yaml(item, f"{indent}  "))
            yield f"{start}{lines[0].lstrip()}"
            yield from lines[1:]
        elif isinstance(item, (dict, list)):
            yield start.rstrip()
            yield from to_yaml(item, f"{indent}  ")
        else:
            yield f"{start}{_scalar(item)}"


def _scalar(value: Any) -> str:
    if isinstance(value, str):
        if re.fullmatch(r"[a-z][a-z_]*(-[a-z_]+)*", value) and value not in _WORDS:
            return value
        return json.dumps(make_printable(value), ensure_ascii=False)
    return json.dumps(value)
