"""A model file and what is known of it.

An `Artifact` is one file on disk. What a program needs to run it and a person needs to trust it
stands beside it, in a manifest: ``lenet_int8.tflite`` has ``lenet_int8.tflite.json``. The same
facts are in the files themselves (but for .keras), for one that lost its folder.
"""

from __future__ import annotations

import contextlib
import dataclasses
import datetime
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lenet_edge.artifacts import keras_file
from lenet_edge.artifacts.embedded import external_data, read_contract
from lenet_edge.errors import ModelFileError
from lenet_edge.support import typed_json
from lenet_edge.support.files import atomic_write, sha256_of
from lenet_edge.support.html_table import html_table

MANIFEST_VERSION = 1
FORMATS = {".tflite": "tflite", ".onnx": "onnx", ".keras": "keras", ".c": "native", ".wasm": "wasm"}
SUFFIXES = {format: suffix for suffix, format in FORMATS.items()}
LAYOUT = "NHWC"  # of the input of every file: batch, height, width, channels
MAX_BYTES = 2**31  # of a model file: FlatBuffers and Protocol Buffers hold no more
_MAX_MANIFEST_BYTES = 2**20
# What a file cannot say of itself; `load_artifact` finds these out.
_OF_THE_FILE = ("path", "format", "size_bytes", "sha256", "created_at")


@dataclass(frozen=True)
class TensorSpec:
    """One input or output tensor of a model.

    ``None`` in `shape` is the free batch axis. A quantized tensor holds integers that stand for
    ``scale * (value - zero_point)``.
    """

    name: str
    shape: tuple[int | None, ...]
    dtype: str
    scale: float | None = None
    zero_point: int | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(self.shape))


@dataclass(frozen=True)
class Artifact:
    """One model file, as its manifest describes it.

    `batch_size` None means that any batch fits. `parent_sha256` is the checkpoint the file was
    made from. `labels` are the class names, in the order of the outputs. `pixel_scale` is what a
    0 to 255 pixel is multiplied by before the model sees it. `settings` are the choices made for
    the machine it will run on, such as "reduce_range".
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
    pixel_scale: float = 1 / 255
    settings: tuple[str, ...] = ()

    def __repr__(self) -> str:
        kind = f"{self.format} {self.precision}"
        return f"Artifact({str(self.path)!r}, {kind}, {self.size_bytes:,} bytes)"

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
    def name(self) -> str:
        """The file's name, by which people know it."""
        return self.path.name

    def to_json(self) -> dict[str, Any]:
        """Return what JSON can hold, such as the request to a worker."""
        return {**dataclasses.asdict(self), "path": str(self.path)}

    @classmethod
    def from_json(cls, facts: dict[str, Any]) -> Artifact:
        """Return the Artifact that `to_json` wrote; labels and settings may be missing.

        Raises:
            ValueError, TypeError, KeyError: it did not write them.
        """
        specs = {
            side: tuple(TensorSpec(**s) for s in facts[side]) for side in ("inputs", "outputs")
        }
        names = {which: tuple(facts.get(which, ())) for which in ("labels", "settings")}
        made = cls(**{**facts, **specs, **names, "path": Path(facts["path"])})
        typed_json.check_types(made)
        return made


def describe(path: Path, **facts: Any) -> Artifact:
    """Return the Artifact of the file at `path`, with its size, hash and time read now."""
    return Artifact(path=path, **_facts_of(path), **facts)


def manifest_path(path: Path) -> Path:
    """Return where the manifest of the model file `path` lies."""
    return path.with_name(path.name + ".json")


def _next_manifest_path(path: Path) -> Path:
    return path.with_name(f".next-{path.name}.json")


def announce(artifact: Artifact) -> None:
    """Write the manifest of a file that is about to be renamed to the artifact's path.

    Two files cannot be replaced at one moment. So the new manifest is there, under a name of its
    own, before the new file; until `write_manifest` has given it its place, `load_artifact` takes
    the one that fits the file.
    """
    _write_manifest(artifact, _next_manifest_path(artifact.path))


def write_manifest(artifact: Artifact) -> None:
    """Write the manifest beside the artifact's file, atomically."""
    _write_manifest(artifact, manifest_path(artifact.path))
    _next_manifest_path(artifact.path).unlink(missing_ok=True)


def manifest_text(artifact: Artifact) -> str:
    """Return what the manifest of an artifact says."""
    facts = {**artifact.to_json(), "path": artifact.path.name}
    return json.dumps({"manifest_version": MANIFEST_VERSION, **facts}, indent=2) + "\n"


def _write_manifest(artifact: Artifact, place: Path) -> None:
    with atomic_write(place) as temporary:
        temporary.write_text(manifest_text(artifact), encoding="utf-8")


def contract(artifact: Artifact) -> str:
    """Return what a model file carries of its own manifest, as JSON: the same bytes each time."""
    facts = dataclasses.asdict(artifact)
    for name in _OF_THE_FILE:
        del facts[name]
    facts = {"manifest_version": MANIFEST_VERSION, "layout": LAYOUT, **facts}
    return json.dumps(facts, separators=(",", ":"))


def load_artifact(path: Path) -> Artifact:
    """Read a model file's manifest and check the file against it.

    A file without a manifest beside it is taken at its own word: the contract that export wrote
    into it.

    Raises:
        ModelFileError: the file is missing, empty, not of the format its name says, has no
            manifest beside or inside it, or is not the file that its manifest describes.
    """
    following = _next_manifest_path(path)
    if following.exists():  # its writer is at work, or was stopped between the two renames
        with contextlib.suppress(ModelFileError):
            return _described_by(following, path)
    return _described_by(manifest_path(path), path)


def _described_by(sidecar: Path, path: Path) -> Artifact:
    format = check_format(path)
    source = str(sidecar) if sidecar.exists() else f"what {path} says of itself"
    try:
        facts = _manifest(sidecar) if sidecar.exists() else _embedded_facts(path, format)
        version = facts.pop("manifest_version")
        if version != MANIFEST_VERSION:
            raise ModelFileError(
                f"{source}: manifest version {version} is unknown here;"
                " export the file again, or upgrade lenet-edge"
            )
        size = path.stat().st_size  # that and the format are not for a manifest to say
        artifact = Artifact.from_json({**facts, "path": path, "format": format, "size_bytes": size})
        _check_plausible(artifact)
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ModelFileError(
            f"{source} is not a manifest that can be read ({error}); export the file again"
        ) from error
    if sha256_of(path) != artifact.sha256:
        raise ModelFileError(
            f"{path} is not the file that its manifest describes (another sha256); export it again"
        )
    return artifact


def check_unchanged(artifact: Artifact) -> None:
    """Look whether a file is still the one that was described: it may be exported again meanwhile.

    Raises:
        ModelFileError: it is another, or gone.
    """
    if not artifact.path.is_file() or sha256_of(artifact.path) != artifact.sha256:
        raise ModelFileError(f"{artifact.path} has changed meanwhile; start again")


def is_described(path: Path) -> bool:
    """Tell whether a model file has a manifest, beside it or inside."""
    format = check_format(path)
    return has_manifest(path) or read_contract(path, format) is not None


def has_manifest(path: Path) -> bool:
    """Tell whether a manifest lies beside a model file."""
    return manifest_path(path).exists() or _next_manifest_path(path).exists()


def _manifest(sidecar: Path) -> Any:
    if not sidecar.is_file() or sidecar.stat().st_size > _MAX_MANIFEST_BYTES:
        raise ValueError(f"it is no file of up to {_MAX_MANIFEST_BYTES:,} bytes")
    return json.loads(sidecar.read_text(encoding="utf-8"))


def _check_plausible(artifact: Artifact) -> None:
    """Make sure of what the types of a manifest do not say.

    Raises:
        ValueError: it cannot be true.
    """
    specs = (*artifact.inputs, *artifact.outputs)
    sizes = [size for spec in specs for size in spec.shape if size is not None]
    scales = [artifact.pixel_scale, *(spec.scale for spec in specs if spec.scale is not None)]
    hashes = [artifact.sha256, artifact.parent_sha256 or artifact.sha256]
    if (len(artifact.inputs), len(artifact.outputs)) != (1, 1):
        raise ValueError("there is not one input and one output")
    if not all(spec.shape for spec in specs) or min(sizes, default=1) < 1:
        raise ValueError("a shape is not sizes from 1")
    if not all(map(math.isfinite, scales)):
        raise ValueError("a scale is no number")
    if artifact.batch_size is not None and artifact.batch_size < 1:
        raise ValueError(f"a batch of {artifact.batch_size}")
    if not all(re.fullmatch("[0-9a-f]{64}", one) for one in hashes):
        raise ValueError("a sha256 is not 64 hexadecimal digits")


def _embedded_facts(path: Path, format: str) -> Any:
    text = read_contract(path, format)
    if text is None:
        raise ModelFileError(
            f"{path} has no manifest ({manifest_path(path).name}), nor one inside;"
            " make both with: lenet-edge export"
        )
    facts = json.loads(text)
    del facts["layout"]
    return {**facts, **_facts_of(path)}


def _facts_of(path: Path) -> dict[str, Any]:
    changed = datetime.datetime.fromtimestamp(path.stat().st_mtime, datetime.timezone.utc)
    return {
        "format": FORMATS[path.suffix],
        "size_bytes": path.stat().st_size,
        "sha256": sha256_of(path),
        "created_at": changed.isoformat(timespec="seconds"),
    }


def check_format(path: Path) -> str:
    """Return the format of a model file, judged by its content and not only by its name.

    Raises:
        ModelFileError: the file is missing, empty, too large, unknown, or something else than it
            says; or it would run code of its own, or reach for files outside of its folder.
    """
    if path.is_dir():
        raise ModelFileError(f"{path} is a folder; name the files in it")
    if not path.is_file():
        raise ModelFileError(f"{path}: no such file; make the files with: lenet-edge export")
    named = FORMATS.get(path.suffix)
    if named is None:
        raise ModelFileError(f"{path}: not a model file; expected one of {', '.join(FORMATS)}")
    with path.open("rb") as file:
        head = file.read(8)
    if not head:
        raise ModelFileError(f"{path} is empty; export it again")
    if path.stat().st_size > MAX_BYTES:
        raise ModelFileError(
            f"{path} has {path.stat().st_size:,} bytes, and no model file has more than"
            f" {MAX_BYTES:,}; check where it came from"
        )
    found = _format_of(head)
    if found == named:
        if named == "keras":
            keras_file.check(path)
        if named == "onnx":
            _check_external_data(path)
        return named
    is_what = f"a {found} file" if found else "not a model"
    raise ModelFileError(
        f"{path} is named {path.suffix} but is {is_what}; check where it came from"
    )


def _check_external_data(path: Path) -> None:
    folder = path.parent.resolve()
    for name in external_data(path):
        # A link that leads out is outside too.
        if "\0" in name or not (folder / name).resolve().is_relative_to(folder):
            raise ModelFileError(
                f"{path} has weights in {name!r:.100}, which is outside of its folder;"
                " check where it came from"
            )


def _format_of(head: bytes) -> str | None:
    if head[4:8] == b"TFL3":  # the FlatBuffers file identifier
        return "tflite"
    if head[:2] == b"PK":  # a .keras file is a zip archive
        return "keras"
    if head[:1] == b"\x08" and b"\0" < head[1:2] < b"\x40":  # ModelProto field 1: ir_version
        return "onnx"
    if head == b"\0asm\1\0\0\0":  # WebAssembly, version 1
        return "wasm"
    if head == b"/* Neura":  # how the C files of our own begin
        return "native"
    return None
