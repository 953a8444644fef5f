"""Artifacts: model files, and the manifests that describe them.

An `Artifact` is one file on disk, or a file with parts: the .bin file of a .param file, and the
files in which an .onnx file keeps weights. Its manifest is a JSON file beside it:
``lenet_int8.tflite`` has ``lenet_int8.tflite.json``. It holds the facts that a program needs to run
the model and a person needs to trust it. The contract inside the file (all formats except .keras)
repeats these facts, so that a file without its manifest can be used.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import math
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lenet_edge import formats
from lenet_edge.artifacts.embedded import oldest_runtime, read_contract
from lenet_edge.artifacts.file_check import check_format
from lenet_edge.artifacts.head import Head, head_of
from lenet_edge.artifacts.output_operator import output_operator
from lenet_edge.artifacts.parts import FilePart, check_parts, read_parts, size_of
from lenet_edge.artifacts.preprocessing import UNIT, Preprocessing
from lenet_edge.errors import ModelFileError, StaleManifestError
from lenet_edge.extras import host_command
from lenet_edge.support import typed_json
from lenet_edge.support.files import atomic_write, sha256_of, short_name
from lenet_edge.support.html_table import html_table

MANIFEST_VERSION = 2
_MAX_MANIFEST_BYTES = 2**20
# Facts that the contract leaves out, because `load_artifact` reads them from the file system.
_FILE_FACTS = ("path", "format", "size_bytes", "sha256", "created_at", "oldest_runtime")


@dataclass(frozen=True)
class TensorSpec:
    """One input or output tensor of a model.

    ``None`` in `shape` is a free size, such as the batch. A quantized tensor holds integers;
    each represents the real number ``scale * (integer - zero_point)``.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))

    @property
    def image_shape(self) -> tuple[int | None, ...] | None:
        """Height, width and channels of the images that this input takes; None if it takes none.

        The tensor has the channels last, first or not at all, or is flat. A flat tensor holds a
        square image, gray or RGB.
        """
        shape = self.shape[1:]
        if len(shape) == 3:
            first = shape[0] in (1, 3) and shape[2] not in (1, 3)
            return (shape[1], shape[2], shape[0]) if first else shape
        if len(shape) == 2:
            return (*shape, 1)
        if len(shape) == 1 and shape[0]:
            for channels in (1, 3):
                side = math.isqrt(shape[0] // channels)
                if side > 1 and side * side * channels == shape[0]:
                    return side, side, channels
        return None


@dataclass(frozen=True)
class Artifact:
    """One model file, as its manifest describes it.

    Attributes:
        batch_size: None if the model accepts any batch size.
        parent_sha256: the hash of the checkpoint that the file was exported from.
        labels: class names, in the order of the outputs.
        preprocessing: the rule that turns pixels into input values.
        settings: choices for the machine that will run the model, such as "reduce_range=True".
        head: the meaning of the outputs, a value of `head.Head`; None if the file does not tell.
        parts: the further files of the model. `size_bytes` includes them, `sha256` does not.
        oldest_runtime: the oldest release of TensorFlow Lite that opens the file, such as "2.17.0",
            as its converter wrote it into the file; None if the file does not tell.
    """

    path: Path
    format: str
    precision: str
    batch_size: int | None
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    size_bytes: int
    sha256: str
    parent_sha256: str | None
    converter: str
    calibration: str | None
    created_at: str
    labels: tuple[str, ...] = ()
    preprocessing: Preprocessing = UNIT
    settings: tuple[str, ...] = ()
    head: str | None = None
    parts: tuple[FilePart, ...] = ()
    oldest_runtime: str | None = None

    def __repr__(self) -> str:
        kind = f"{self.format} {self.precision}"
        return f"Artifact({str(self.path)!r}, {kind}, {self.size})"

    def html_row(self) -> dict[str, str]:
        """Return the cells of a table; see `support.html_table`."""
        return {
            "file": str(self.path),
            "format": self.format,
            "precision": self.precision,
            "batch": str(self.batch_size or "any"),
            "bytes": f"{self.size_bytes:,}",
            "classes": ", ".join(self.labels),
            "sha256": self.sha256[:12],
        }

    def _repr_html_(self) -> str:
        return html_table([self.html_row()])

    @property
    def stated_head(self) -> Head | None:
        """The meaning of the outputs; None if the file does not tell."""
        return None if self.head is None else Head(self.head)

    @property
    def size(self) -> str:
        """The size of the file in words, such as "71,104 bytes" or "9,000 bytes of C source"."""
        is_source = formats.BY_NAME[self.format].role == "program"
        return f"{self.size_bytes:,} bytes{' of C source' if is_source else ''}"

    @property
    def name(self) -> str:
        """The file name without its folder."""
        return self.path.name

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values, for example for a request to a worker."""
        return {**dataclasses.asdict(self), "path": str(self.path)}

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> Artifact:
        """Return the Artifact that `to_json` wrote; labels, settings and parts may be missing.

        Raises:
            ValueError, TypeError, KeyError: `facts` is not the output of `to_json`.
        """
        specs = {
            side: tuple(TensorSpec(**s) for s in facts[side]) for side in ("inputs", "outputs")
        }
        names = {field: tuple(facts.get(field, ())) for field in ("labels", "settings")}
        parts = tuple(FilePart(**part) for part in facts.get("parts", ()))
        rule = Preprocessing(**facts["preprocessing"])
        made = {"preprocessing": rule, "path": Path(facts["path"]), "parts": parts}
        artifact = cls(**{**facts, **specs, **names, **made})
        typed_json.check_types(artifact)
        return artifact


def batch_size_of(inputs: Sequence[TensorSpec]) -> int | None:
    """Return the batch size that the inputs of a model fix; None if they leave it free.

    The batch is the first size of every input that has axes. Inputs with different first sizes have
    no common batch: a call then counts as a batch of 1.
    """
    sizes = {spec.shape[0] for spec in inputs if spec.shape}
    return sizes.pop() if len(sizes) == 1 else 1


def describe_file(path: Path, **facts: Any) -> Artifact:
    """Return the Artifact of the file at `path`; read its size, hash and time from the disk."""
    format = formats.BY_SUFFIX[path.suffix.lower()].name
    artifact = Artifact(
        path=path,
        format=format,
        size_bytes=size_of(path),
        sha256=sha256_of(path),
        created_at=_time_of(path),
        parts=read_parts(path),
        oldest_runtime=oldest_runtime(path, format),
        **facts,
    )
    return _with_head(artifact)


def _with_head(artifact: Artifact) -> Artifact:
    """Return an artifact with the head that its file shows, if it has none."""
    if artifact.head is not None or (len(artifact.inputs), len(artifact.outputs)) != (1, 1):
        return artifact
    output = artifact.outputs[0]
    head = head_of(
        output_operator(artifact.path, artifact.format), artifact.inputs[0].shape, output.shape
    )
    if head is Head.LOGIT and output.scale is None and "int" in output.dtype:
        head = Head.VALUES  # the number of a class, such as that of an ArgMax
    return dataclasses.replace(artifact, head=head and head.value)


def manifest_path(path: Path) -> Path:
    """Return the path of the manifest of the model file `path`."""
    return path.with_name(path.name + ".json")


def _next_manifest_path(path: Path) -> Path:
    return path.with_name(f".next-{short_name(path.name)}.json")


def announce(artifact: Artifact) -> None:
    """Write the manifest of a file that is about to be renamed to the artifact's path.

    A model and its manifest cannot be replaced in one step. So the new manifest is written first,
    under a temporary name. Until `write_manifest` writes it under its final name, `load_artifact`
    uses the manifest whose hash matches the file.
    """
    _write_manifest(artifact, _next_manifest_path(artifact.path))


def write_manifest(artifact: Artifact) -> None:
    """Write the manifest beside the artifact's file, atomically."""
    _write_manifest(artifact, manifest_path(artifact.path))
    _next_manifest_path(artifact.path).unlink(missing_ok=True)


def manifest_text(artifact: Artifact) -> str:
    """Return the text of an artifact's manifest."""
    facts = {**artifact.to_json(), "path": artifact.path.name}
    return json.dumps({"manifest_version": MANIFEST_VERSION, **facts}, indent=2) + "\n"


def _write_manifest(artifact: Artifact, path: Path) -> None:
    with atomic_write(path) as temporary:
        temporary.write_text(manifest_text(artifact), encoding="utf-8")


def contract(artifact: Artifact) -> str:
    """Return the contract to write into a model file, as JSON; equal artifacts give equal bytes."""
    facts = dataclasses.asdict(artifact)
    for name in _FILE_FACTS:
        del facts[name]
    # The layout of the input. Only .onnx files of models from elsewhere have the channels first.
    spec = artifact.inputs[0]
    first = len(spec.shape) == 4 and spec.image_shape != spec.shape[1:]
    layout = "NCHW" if first else "NHWC"
    facts = {"manifest_version": MANIFEST_VERSION, "layout": layout, **facts}
    return json.dumps(facts, separators=(",", ":"))


def load_artifact(path: Path) -> Artifact:
    """Read a model file's manifest and check the file against it.

    If there is no manifest, the contract inside the file is used.

    Raises:
        ModelFileError: the file is missing or empty, its content does not match its suffix, it
            has neither manifest nor contract, or its manifest describes another file.
    """
    following = _next_manifest_path(path)
    if os.path.exists(following):  # a writer is active, or was stopped between the two renames
        with contextlib.suppress(ModelFileError):
            return _described_by(following, path)
    return _described_by(manifest_path(path), path)


def _described_by(sidecar: Path, path: Path) -> Artifact:
    format = check_format(path)
    has_sidecar = os.path.exists(sidecar)  # unlike `Path.exists`, false if the name is too long
    source = str(sidecar) if has_sidecar else f"the contract inside {path}"
    try:
        facts = _manifest(sidecar) if has_sidecar else _embedded_facts(path, format)
        version = facts.pop("manifest_version")
        if version == 1:
            _upgrade(facts)
        elif version != MANIFEST_VERSION:
            raise ModelFileError(
                f"{source}: manifest version {version} is unknown to this version of lenet-edge;"
                " upgrade lenet-edge, or export the file again"
            )
        # Path, format and size come from the file system; the manifest's own values are ignored.
        from_disk = {
            "path": path,
            "format": format,
            "size_bytes": size_of(path),
            "oldest_runtime": oldest_runtime(path, format),
        }
        artifact = Artifact.from_json({**facts, **from_disk})
        _check_plausible(artifact)
        artifact = _with_head(artifact)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ModelFileError(
            f"{source} is not a manifest ({error}); export the file again"
        ) from error
    if has_sidecar and sha256_of(path) != artifact.sha256:
        raise StaleManifestError(
            f"{path} is not the file that its manifest describes (the sha256 differs);"
            " export it again, or write its manifest again with: lenet-edge describe"
        )
    return dataclasses.replace(artifact, parts=check_parts(path, artifact.parts))


def _upgrade(facts: dict[str, Any]) -> None:
    """Change the facts of a manifest of version 1, which has a factor for pixels, to the present.

    Version 1 wrote the factor 1 for all models from elsewhere, without knowing it.
    """
    scale = facts.pop("pixel_scale")
    facts["preprocessing"] = {"scale": [scale], "origin": "assumed" if scale == 1 else "read"}


def is_intact(artifact: Artifact) -> bool:
    """Tell whether a file and its parts are still the described ones."""
    path = artifact.path
    return (
        path.is_file() and sha256_of(path) == artifact.sha256 and read_parts(path) == artifact.parts
    )


def check_unchanged(artifact: Artifact) -> None:
    """Check that a file is still the described one; another process may have exported it again.

    Raises:
        ModelFileError: the file has changed, or no longer exists.
    """
    if not is_intact(artifact):
        raise ModelFileError(f"{artifact.path} has changed since it was read; start again")


def is_described(path: Path) -> bool:
    """Tell whether a model file has a manifest or a contract."""
    format = check_format(path)
    return has_manifest(path) or read_contract(path, format) is not None


def has_manifest(path: Path) -> bool:
    """Tell whether a model file has a manifest beside it."""
    return any(map(os.path.exists, (manifest_path(path), _next_manifest_path(path))))


def _manifest(sidecar: Path) -> Any:
    if not sidecar.is_file() or sidecar.stat().st_size > _MAX_MANIFEST_BYTES:
        raise ValueError(f"it is not a regular file of at most {_MAX_MANIFEST_BYTES:,} bytes")
    return json.loads(sidecar.read_text(encoding="utf-8"))


def _check_plausible(artifact: Artifact) -> None:
    """Check the values of a manifest, beyond their types.

    Raises:
        ValueError: a value is impossible.
    """
    specs = (*artifact.inputs, *artifact.outputs)
    sizes = [size for spec in specs for size in spec.shape if size is not None]
    scales = [spec.scale for spec in specs if spec.scale is not None]
    hashes = [artifact.sha256, artifact.parent_sha256 or artifact.sha256]
    for side in (artifact.inputs, artifact.outputs):
        if len({spec.name for spec in side}) != len(side):
            raise ValueError("two tensors have one name")
    if min(sizes, default=1) < 1:
        raise ValueError("a shape has a size below 1")
    if not all(map(math.isfinite, scales)):
        raise ValueError("a scale is not finite")
    if artifact.head is not None and artifact.head not in list(Head):
        raise ValueError(f"the head {artifact.head!r:.40} is unknown")
    if artifact.batch_size is not None and artifact.batch_size < 1:
        raise ValueError(f"the batch size is {artifact.batch_size}")
    if not all(re.fullmatch("[0-9a-f]{64}", sha256) for sha256 in hashes):
        raise ValueError("a sha256 is not 64 hexadecimal digits")


def _embedded_facts(path: Path, format: str) -> Any:
    text = read_contract(path, format)
    if text is None:
        raise ModelFileError(
            f"{path} has no manifest ({manifest_path(path).name}) and no contract inside;"
            f" make both with: {host_command('lenet-edge export')}"
        )
    facts = json.loads(text)
    del facts["layout"]
    return {**facts, "sha256": sha256_of(path), "created_at": _time_of(path)}


def _time_of(path: Path) -> str:
    changed = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.timezone.utc)
    return changed.isoformat(timespec="seconds")
