"""Conversion of a float model to one file, with its contract inside and its manifest beside."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lenet_edge.artifacts.artifact import (
    Artifact,
    announce,
    contract,
    describe_file,
    write_manifest,
)
from lenet_edge.artifacts.trained_ranges import TrainedRanges
from lenet_edge.errors import LenetEdgeError, ModelFileError, TargetError
from lenet_edge.export.calibration import Calibration
from lenet_edge.export.converter import (
    CALIBRATED_PRECISIONS,
    CompanionWriter,
    ConversionRequest,
    Converted,
    Converter,
)
from lenet_edge.export.embed import embed
from lenet_edge.export.settle_input import Options
from lenet_edge.export.source import ExportSource
from lenet_edge.formats import BY_NAME, load
from lenet_edge.runtimes import get_target, open_session
from lenet_edge.support.files import atomic_write
from lenet_edge.support.quiet import quiet
from lenet_edge.target import Session

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
                    convert(dataclasses.replace(request, model=model, precision="float32"))
            except Exception:
                raise ModelFileError(
                    f"{checkpoint}: layer {name} ({kind}) cannot be exported to {format};"
                    " replace it, or choose another --format"
                ) from error
        reason = (" ".join(str(error).split()) or type(error).__name__)[:200]
        raise ModelFileError(
            f"{checkpoint} cannot be exported to {format} in {request.precision}: {reason}"
        ) from error


def write_artifact(
    path: Path, content: bytes, parts: Mapping[str, bytes] = MappingProxyType({}), **facts: Any
) -> Artifact:
    """Write a model file with its contract inside and its manifest beside it.

    Args:
        path: the path of the file.
        content: the file as its converter made it.
        parts: the content of its further files, by their suffix.
        facts: fields of `Artifact`. Without "inputs" and "outputs", a runtime opens the file and
            reads them.

    Raises:
        ModelFileError: the runtime cannot open the file.
        LenetEdgeError: the folder cannot be written to.
    """
    with atomic_write(path) as temporary, _parts_beside(temporary, path, parts):
        temporary.write_bytes(content)
        draft = describe_file(temporary, **{"inputs": (), "outputs": (), **facts})
        if "inputs" not in facts:
            try:
                with closing(open_artifact(draft)) as session:
                    facts["inputs"], facts["outputs"] = session.input_specs, session.output_specs
            except TargetError as error:
                reason = str(error).replace(str(temporary), path.name)
                raise ModelFileError(f"{reason}; leave out {facts['precision']}") from error
        draft = dataclasses.replace(draft, inputs=facts["inputs"], outputs=facts["outputs"])
        named = tuple(
            dataclasses.replace(part, name=path.with_suffix(Path(part.name).suffix).name)
            for part in draft.parts
        )
        draft = dataclasses.replace(draft, parts=named)
        temporary.write_bytes(embed(content, draft.format, contract(draft)))
        artifact = dataclasses.replace(describe_file(temporary, **facts), path=path, parts=named)
        announce(artifact)
    write_manifest(artifact)
    return artifact


@contextlib.contextmanager
def _parts_beside(temporary: Path, path: Path, parts: Mapping[str, bytes]) -> Iterator[None]:
    """Keep the parts of a model beside its temporary file, and write them when the block ends.

    They replace the old parts before the model file replaces the old one. Between the two steps
    the hashes in the manifest do not match, so no command uses a mixture.
    """
    drafts = [temporary.with_suffix(suffix) for suffix in parts]
    try:
        for draft, content in zip(drafts, parts.values(), strict=True):
            draft.write_bytes(content)
        yield
        for suffix, content in parts.items():
            with atomic_write(path.with_suffix(suffix)) as part:
                part.write_bytes(content)
    finally:
        for draft in drafts:
            draft.unlink(missing_ok=True)


def open_artifact(artifact: Artifact) -> Session:
    """Open a file with the target that its format names for `export`."""
    target = BY_NAME[artifact.format].opened_by
    assert target
    return open_session(artifact, get_target(target))
