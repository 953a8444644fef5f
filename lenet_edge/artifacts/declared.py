"""Readers of the preprocessing and the labels that foreign model files declare.

Sources inside a file come first: the TFLite metadata and the ONNX metadata. Files beside it come
next: Hugging Face's preprocessor_config.json and lists of labels. All of them are untrusted. They
are bounded, and what is damaged or implausible counts as not declared.
"""

from __future__ import annotations

import ast
import contextlib
import json
import mmap
import re
import struct
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lenet_edge.artifacts import embedded, preprocessing
from lenet_edge.artifacts.labels import MAX_BYTES, parse_labels, read_labels
from lenet_edge.artifacts.preprocessing import Preprocessing
from lenet_edge.errors import LenetEdgeError

if TYPE_CHECKING:
    from lenet_edge.artifacts.artifact import TensorSpec

# Lists of labels beside a model, the most specific first. {} is the model's name without suffix.
_LABEL_FILES = ("{}.labels.txt", "{}_labels.txt", "{}.txt", "labels.txt", "classes.txt",
                "labels.json", "config.json")  # fmt: skip
_CONFIG = "preprocessor_config.json"
# The names that Edge Impulse and Teachable Machine give to their downloads.
_EDGE_IMPULSE = re.compile(r"ei-.*-(tensorflow-lite|tflite)-.*")
_TEACHABLE_MACHINE = ("model_unquant.tflite", "keras_model.h5")


@dataclass(frozen=True)
class _Declaration:
    """The facts of one source; None and empty for those that it does not state."""

    preprocessing: Preprocessing | None = None
    labels: tuple[str, ...] = ()


def declared_preprocessing(
    path: Path, format: str, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec] = ()
) -> tuple[Preprocessing | None, tuple[str, ...]]:
    """Return the preprocessing and the labels that a foreign file or its neighbours declare.

    Args:
        path: the model file.
        format: the name of its format, a key of `formats.BY_NAME`.
        inputs: its input tensors, as a runtime reads them.
        outputs: its output tensors. Labels of another number are ignored.

    Returns:
        The preprocessing with the origin "read" and its source as detail, None if nothing declares
        it; and the labels in the order of the outputs, empty if nothing declares them.
    """
    rule: Preprocessing | None = None
    labels: tuple[str, ...] = ()
    for declaration in _declarations(path, format):
        if rule is None and declaration.preprocessing and _fits(declaration.preprocessing, inputs):
            rule = declaration.preprocessing
        if not labels and _count_fits(declaration.labels, outputs):
            labels = declaration.labels
    return rule, labels


def _declarations(path: Path, format: str) -> Iterator[_Declaration]:
    readers = {"tflite": _read_tflite, "onnx": _read_onnx}
    if format in readers:
        # Damaged metadata do not make the model unusable: its runtime judges the model. The parsers
        # of text, ZIP and numbers each raise their own errors.
        with contextlib.suppress(Exception):
            yield readers[format](path)
    yield _read_preprocessor_config(path.with_name(_CONFIG))
    if rule := _by_name(path):
        yield _Declaration(rule)
    for pattern in _LABEL_FILES:
        beside = path.with_name(pattern.format(path.stem))
        if beside.is_file():
            with contextlib.suppress(LenetEdgeError):
                yield _Declaration(labels=read_labels(beside))


def _fits(rule: Preprocessing, inputs: Sequence[TensorSpec]) -> bool:
    """Return False if a rule contradicts the range or the channels of the input tensor."""
    for spec in inputs[:1]:
        if spec.dtype in ("uint8", "int8"):
            implied = preprocessing.infer_from_tensor(spec.dtype, spec.scale, spec.zero_point)
            # Metadata state the scaling of the float model. Integers without it are pixels.
            if spec.scale is None or (implied and implied.input_range != rule.input_range):
                return False
        if max(len(rule.scale), len(rule.offset)) == 3 and 3 not in spec.shape[1:]:
            return False
    return True


def _count_fits(labels: tuple[str, ...], outputs: Sequence[TensorSpec]) -> bool:
    if not labels or not outputs:
        return bool(labels)
    count = 1
    for size in outputs[0].shape[1:]:
        count *= size or 1
    return count == len(labels) or (count == 1 and len(labels) == 2)


# Source: tensorflow/lite/support/metadata/metadata_schema.fbs (TensorFlow Lite Support), version
# 1.5: the numbers of the fields and of the members of the unions.
_METADATA = b"TFLITE_METADATA"
_SUBGRAPHS, _INPUTS, _OUTPUTS = 3, 2, 3
_CONTENT, _PROCESS_UNITS, _ASSOCIATED_FILES = 3, 4, 6
_UNION_TYPE, _UNION_VALUE = 0, 1
_IMAGE, _NORMALIZATION, _AXIS_LABELS = 2, 1, 2
_COLOUR_SPACES = {1: "rgb", 2: "gray"}


def _read_tflite(path: Path) -> _Declaration:
    """Read TensorFlow Lite's metadata: normalization, colour space, and labels in a ZIP."""
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
        content = embedded.tflite_metadata(data, _METADATA)
    if not content:
        return _Declaration()
    model = embedded.u32(content, 0)
    for subgraph in embedded.elements(content, embedded.field(content, model, _SUBGRAPHS))[:1]:
        tensors = (
            embedded.elements(content, embedded.field(content, subgraph, side))[:1]
            for side in (_INPUTS, _OUTPUTS)
        )
        inputs, outputs = tensors
        return _Declaration(
            _normalization(content, inputs[0]) if inputs else None,
            _associated_labels(path, content, outputs[0]) if outputs else (),
        )
    return _Declaration()


def _normalization(data: bytes, tensor: int) -> Preprocessing | None:
    channels = None
    if at := embedded.field(data, tensor, _CONTENT):
        kind, properties = _union(data, at + embedded.u32(data, at))
        if kind == _IMAGE:
            space = embedded.field(data, properties, 0)
            channels = _COLOUR_SPACES.get(data[space] if space else 0)
    for unit in embedded.elements(data, embedded.field(data, tensor, _PROCESS_UNITS)):
        kind, options = _union(data, unit)
        if kind == _NORMALIZATION:
            mean, std = (_floats(data, embedded.field(data, options, n)) for n in (0, 1))
            if mean and std and 0 not in std:
                return preprocessing.from_mean_std(
                    [value / 255 for value in mean], [value / 255 for value in std],
                    channels=channels, origin="read", detail="the TFLite metadata",
                )  # fmt: skip
    return None


def _union(data: bytes, table: int) -> tuple[int, int]:
    """Return the type and the table of the union that is the first field of a table."""
    kind = embedded.field(data, table, _UNION_TYPE)
    value = embedded.field(data, table, _UNION_VALUE)
    if not kind or not value:
        return 0, 0
    return data[kind], value + embedded.u32(data, value)


def _floats(data: bytes, at: int) -> list[float]:
    if not at:
        return []
    start = at + embedded.u32(data, at)
    count = embedded.u32(data, start)
    if count > 3:
        raise IndexError(f"a mean of {count} channels")
    return list(struct.unpack_from(f"<{count}f", data, start + 4))


def _associated_labels(path: Path, data: bytes, tensor: int) -> tuple[str, ...]:
    for entry in embedded.elements(data, embedded.field(data, tensor, _ASSOCIATED_FILES)):
        kind = embedded.field(data, entry, 2)
        if not kind or data[kind] != _AXIS_LABELS:
            continue
        name = embedded.text(data, embedded.field(data, entry, 0)).decode("utf-8")
        with zipfile.ZipFile(path) as archive, archive.open(name) as member:
            content = member.read(MAX_BYTES + 1)
        if len(content) <= MAX_BYTES:
            return parse_labels(content.decode("utf-8-sig"))
    return ()


# Source: onnx/docs/MetadataProps.md.
_PIXEL_FORMATS = {"gray8": "gray", "rgb8": "rgb", "rgba8": "rgb", "bgr8": "bgr", "bgra8": "bgr"}
_PIXEL_RANGES = {
    "nominalrange_0_255": preprocessing.PIXELS,
    "normalized_0_1": preprocessing.UNIT,
    "normalized_1_1": preprocessing.SIGNED,
    "nominalrange_16_235": preprocessing.from_pixel_scale(219 / 255, 16.0),
}


def _read_onnx(path: Path) -> _Declaration:
    """Read the ONNX metadata of images, and those of Ultralytics."""
    properties = embedded.onnx_metadata(path)
    image = {key.lower(): value.strip().lower() for key, value in properties.items()}
    channels = _PIXEL_FORMATS.get(image.get("image.bitmappixelformat", ""))
    known = _PIXEL_RANGES.get(image.get("image.nominalpixelrange", ""))
    detail = "the ONNX metadata"
    if known:
        return _Declaration(
            preprocessing.from_pixel_scale(
                known.scale, known.offset, channels=channels, origin="read", detail=detail
            )
        )
    if "names" in properties and "stride" in properties:
        # A Python dict as text. `literal_eval` builds constants only and calls nothing.
        names = ast.literal_eval(properties["names"]) if len(properties["names"]) < 2**16 else {}
        return _Declaration(
            preprocessing.from_pixel_scale(
                1 / 255, channels="rgb", origin="read", detail="the ONNX metadata of Ultralytics",
                resize="crop" if properties.get("task") == "classify" else "letterbox",
            ),
            parse_labels(json.dumps({str(number): name for number, name in names.items()})),
        )  # fmt: skip
    return _Declaration()


def _read_preprocessor_config(path: Path) -> _Declaration:
    """Read the file in which Hugging Face states how images are prepared."""
    with contextlib.suppress(Exception):  # of files, of JSON, and of values of any type
        if path.is_file() and path.stat().st_size <= MAX_BYTES:
            config = json.loads(path.read_text(encoding="utf-8"))
            return _Declaration(_from_config(config))
    return _Declaration()


def _from_config(config: dict[str, Any]) -> Preprocessing:
    factor = float(config.get("rescale_factor", 1 / 255)) if config.get("do_rescale", True) else 1.0
    factor = 1 / 255 if abs(factor * 255 - 1) < 1e-6 else factor
    facts: dict[str, Any] = {
        "origin": "read",
        "detail": _CONFIG,
        "resize": "crop" if config.get("do_center_crop") else "stretch",
        "filter": {0: "nearest", 2: "bilinear", 3: "bicubic"}.get(
            config.get("resample", 2), "bilinear"
        ),
    }
    if not config.get("do_normalize", False):
        return preprocessing.from_pixel_scale(factor, **facts)
    mean, std = ([float(v) for v in config[name]] for name in ("image_mean", "image_std"))
    if factor == 1 / 255:
        return preprocessing.from_mean_std(mean, std, **facts)
    return preprocessing.from_pixel_scale(
        [factor / s for s in std], [-m / s for m, s in zip(mean, std, strict=True)], **facts
    )


def _by_name(path: Path) -> Preprocessing | None:
    """Return the scaling of a file whose name is that of a tool's download."""
    if _EDGE_IMPULSE.fullmatch(path.name.lower()):
        rule, tool = preprocessing.UNIT, "Edge Impulse"
    elif path.name in _TEACHABLE_MACHINE and path.with_name("labels.txt").is_file():
        rule, tool = preprocessing.SIGNED, "Teachable Machine"
    else:
        return None
    return preprocessing.from_pixel_scale(
        rule.scale, rule.offset, origin="inferred", detail=f"the file name, which {tool} gives"
    )
