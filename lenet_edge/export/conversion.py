"""Conversion of a float model to one file."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lenet_edge.artifacts.artifact import (
    Artifact,
)
from lenet_edge.artifacts.trained_ranges import TrainedRanges
from lenet_edge.errors import LenetEdgeError, ModelFileError
from lenet_edge.export.artifact_writer import write_artifact
from lenet_edge.export.calibration import Calibration
from lenet_edge.export.converter import (
    CALIBRATED_PRECISIONS,
    CompanionWriter,
    ConversionRequest,
    Converted,
    Converter,
)
from lenet_edge.export.settle_input import Options
from lenet_edge.export.source import ExportSource
from lenet_edge.formats import BY_NAME, load
from lenet_edge.support.quiet import quiet

_TRAINED = "trained ranges"  # instead of calibration images, in manifests
_TRAINED_FORMATS = ("tflite", "onnx", "native", "wasm")
_TRAINED_PRECISIONS = ("int8", "int4")


def converter_of(format: str) -> Converter:
    """Return the converter of a format."""
    reference = BY_NAME[format].converter
    assert reference
    converter: Converter = load(reference)
    return converter


def uses_ranges(ranges: TrainedRanges | None, format: str, precision: str) -> bool:
    """Tell whether a file gets the trained ranges; other files are calibrated with images.

    Args:
        ranges: those of the checkpoint; None if it has none.
        format: the format of the file.
        precision: its precision.
    """
    is_covered = precision in _TRAINED_PRECISIONS and format in _TRAINED_FORMATS
    return ranges is not None and is_covered


def describe_ranges(ranges: TrainedRanges, planned: Sequence[tuple[str, str]]) -> str:
    """Return which files get the trained ranges, and which are calibrated; "" for neither.

    Files of another precision than that of the training round the weights a second time, so they
    do not predict exactly what the training predicted. An .onnx file does not: it stores the
    integers of 4 bits as they are.

    Args:
        ranges: those of the checkpoint.
        planned: the formats and precisions of the files.
    """
    parts: dict[bool, list[str]] = {True: [], False: []}
    others = []
    for format, precision in planned:
        if precision in CALIBRATED_PRECISIONS:
            is_trained = uses_ranges(ranges, format, precision)
            parts[is_trained].append(f"{format} {precision}")
            is_exact = format == "onnx" or precision == ranges.precision
            if is_trained and not is_exact and precision not in others:
                others.append(precision)
    texts = []
    if parts[True]:
        texts.append(f"calibration: trained ranges for {', '.join(parts[True])}")
    if parts[False]:
        texts.append(f"calibration: images for {', '.join(parts[False])}, without trained ranges")
    texts += [
        f"{precision} rounds the dense weights again, because they were trained for"
        f" {ranges.precision}; --{ranges.precision} is exact"
        for precision in others
    ]
    return "; ".join(texts)


def convert_file(
    source: ExportSource, format: str, precision: str, images: Calibration, options: Options
) -> Converted:
    """Convert the checkpoint to one format in one precision."""
    request = ConversionRequest(
        source.model.for_converters,
        precision,
        images.arrays,
        options.batch_size,
        options.cpu,
        source.artifact.path.stem,
        source.ranges if uses_ranges(source.ranges, format, precision) else None,
        source.conversions,
    )
    return _convert(source, format, request)


def export_file(
    source: ExportSource,
    format: str,
    precision: str,
    images: Calibration,
    options: Options,
    output_dir: Path,
    converted: Converted | None = None,
) -> Artifact:
    """Convert the checkpoint, unless `converted` is the result, and write the file."""
    row, checkpoint = BY_NAME[format], source.artifact
    stem = checkpoint.path.stem
    converted = converted or convert_file(source, format, precision, images, options)
    fixed = "" if options.batch_size is None else f"_b{options.batch_size}"
    tensors: dict[str, Any] = {}
    if converted.tensors:
        tensors = dict(zip(("inputs", "outputs"), converted.tensors, strict=True))
    artifact = write_artifact(
        output_dir / f"{stem}{row.tag}_{precision}{fixed}{row.suffix}",
        converted.content,
        converted.parts,
        **tensors,
        precision=precision,
        batch_size=options.batch_size or source.model.batch_size,
        parent_sha256=checkpoint.sha256,
        converter=converted.converter or converter_of(format).CONVERTER,
        calibration=_ranges_source(source, format, precision, images),
        labels=checkpoint.labels,
        preprocessing=checkpoint.preprocessing,
        settings=converted.settings,
        head=checkpoint.head,
    )
    if row.companion:
        write_companion: CompanionWriter = load(row.companion)
        write_companion(artifact)
    return artifact


def _ranges_source(
    source: ExportSource, format: str, precision: str, images: Calibration
) -> str | None:
    """Return the source of the ranges of a file for its manifest; None if it has no ranges."""
    if precision not in CALIBRATED_PRECISIONS:
        return None
    return _TRAINED if uses_ranges(source.ranges, format, precision) else images.source


def _convert(source: ExportSource, format: str, request: ConversionRequest) -> Converted:
    checkpoint, convert = source.artifact.path, converter_of(format).convert
    try:
        with quiet():  # converters print warnings about normal models
            return convert(request)
    except ModelFileError:
        raise  # the message is complete
    except OSError as error:
        raise LenetEdgeError(
            f"the converter cannot write its temporary files: {error}; free disk space or set"
            " TMPDIR"
        ) from error
    except Exception as error:  # converters raise various types, which do not name the layer
        for name, kind, model in source.model.layers_alone():
            try:
                with quiet():
                    convert(
                        dataclasses.replace(request, model=model, precision="float32", shared={})
                    )
            except Exception:
                raise ModelFileError(
                    f"{checkpoint}: layer {name} ({kind}) cannot be exported to {format};"
                    " replace it, or choose another --format"
                ) from error
        reason = (" ".join(str(error).split()) or type(error).__name__)[:200]
        raise ModelFileError(
            f"{checkpoint} cannot be exported to {format} in {request.precision}: {reason}"
        ) from error
