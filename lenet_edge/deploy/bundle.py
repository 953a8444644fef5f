"""The archive that `deploy` and `bundle` build for a board.

run.sh, install.sh      run a command; create a venv from the wheels
bundle.json             the version of lenet-edge, and the SHA-256 of each file
exported/               model files, manifests, and the reference: images, labels and logits
lenet_edge/             the part of this package that a board runs
wheels/                 the runtime and the packages that it needs, if requested
"""

from __future__ import annotations

import functools
import hashlib
import io
import json
import lzma
import tarfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

import lenet_edge
from lenet_edge.artifacts.artifact import Artifact, manifest_path, manifest_text
from lenet_edge.artifacts.parts import files_of
from lenet_edge.artifacts.reference import find_reference, reference_for
from lenet_edge.data.evaluation_images import evaluation_data
from lenet_edge.errors import DataError, ModelFileError
from lenet_edge.formats import BY_NAME
from lenet_edge.runtimes._native_build import build_for
from lenet_edge.runtimes.native import built_beside
from lenet_edge.support.files import atomic_write

NAME = "lenet-edge"  # the folder in the archive
DEFAULT_NUM_IMAGES = 4000
_PIECE_BYTES = 2**18  # compressed in about a second on a slow host
_PACKAGE = Path(lenet_edge.__file__).parent
_SCRIPTS = ("run.sh", "install.sh")
# Code that only a host runs, and MNIST: the images of the reference are in the bundle.
_LEFT_OUT = (
    "train", "export", "search", "deploy", "model.py", "networks.py", "fake_quantization.py",
    "quantized_steps.py", "npu_estimate.py",
    "data/mnist/train.npz", "data/mnist/test.npz", "data/mnist/__main__.py",
    "flows/bundle.py", "flows/datasets.py", "flows/deploy.py", "flows/deployment_plan.py",
    "flows/estimate.py",
    "flows/export.py", "flows/finetune.py", "flows/held_out.py", "flows/make_probe.py",
    "flows/mix_search.py", "flows/mixes.py", "flows/mlflow_log.py", "flows/recorded_training.py",
    "flows/run.py", "flows/search.py", "flows/seeds.py", "flows/teachers.py", "flows/train.py",
    "flows/tune.py",
)  # fmt: skip
_COMMANDS = (
    "bench", "compare", "doctor", "inspect", "predict", "report", "serve", "targets", "verify",
)  # fmt: skip


@dataclass(frozen=True)
class Bundle:
    """The content of each file, by its path in the bundle. Equal inputs give equal bytes."""

    files: dict[str, bytes]

    @functools.cached_property
    def hashes(self) -> dict[str, str]:
        """The SHA-256 of each file, by its path."""
        return {name: hashlib.sha256(content).hexdigest() for name, content in self.files.items()}

    @property
    def id(self) -> str:
        """An identifier of the content: 12 hexadecimal digits."""
        return hashlib.sha256(json.dumps(self.hashes, sort_keys=True).encode()).hexdigest()[:12]

    @property
    def models(self) -> list[str]:
        """The names of the model files."""
        names = (name.removeprefix("exported/") for name in self.files)
        return sorted(name for name in names if f"exported/{name}.json" in self.files)

    def save(self, path: Path, on_packed: Callable[[int], None] = lambda count: None) -> None:
        """Write a .tar.xz archive, atomically.

        Args:
            path: the archive.
            on_packed: called with the number of bytes of each piece that is compressed.

        Raises:
            ModelFileError: the name of a file is too long.
            LenetEdgeError: the archive cannot be written.
        """
        packed = io.BytesIO()
        with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
            for name in sorted(self.files):
                # Without owner and time, so that the archive is reproducible.
                entry = tarfile.TarInfo(f"{NAME}/{name}")
                entry.size = len(self.files[name])
                entry.mode = file_mode(name)
                try:
                    archive.addfile(entry, io.BytesIO(self.files[name]))
                except ValueError as error:  # USTAR, which every tar reads, has short names
                    raise ModelFileError(
                        f"{Path(name).name}: {error} for an archive; rename the file"
                    ) from error
        packed.seek(0)
        with (
            atomic_write(path) as temporary,
            # PRESET_EXTREME takes 1.5 times as long and saves 0.4 % of the bytes.
            lzma.open(temporary, "wb", preset=9) as compressed,
        ):
            while piece := packed.read(_PIECE_BYTES):
                compressed.write(piece)
                on_packed(len(piece))


def file_mode(name: str) -> int:
    """Return the permissions of a file of the bundle."""
    return 0o755 if name in _SCRIPTS else 0o644


def make_bundle(
    artifacts: Sequence[Artifact],
    num_images: int | None = None,
    wheels: Iterable[Path] = (),
    machine: str | None = None,
) -> Bundle:
    """Return a bundle of exported files.

    Args:
        artifacts: the files, each beside its manifest and its reference.
        num_images: number of test images, evenly spread over all of them; None for all. If there
            are fewer, the bundle takes all.
        wheels: Python packages to include.
        machine: the architecture of the board, as uname names it. If this machine has a compiler
            for it, the bundle includes compiled C files. Otherwise the board compiles them.

    Raises:
        DataError: `num_images` is below 1.
        ModelFileError: the reference of the float model is missing.
    """
    files = {name: (_PACKAGE / "deploy" / name).read_bytes() for name in _SCRIPTS}
    for artifact in artifacts:
        # Not read from disk: the manifest may have a temporary name, see `artifact.announce`.
        for name, path in files_of(artifact.path).items():
            files[f"exported/{name}"] = path.read_bytes()
        files[f"exported/{manifest_path(artifact.path).name}"] = manifest_text(artifact).encode()
        if BY_NAME[artifact.format].role == "program" and machine:
            content = artifact.path.read_bytes()
            if library := build_for(machine, content, artifact.path.name):
                built = built_beside(artifact.path, content, machine)
                files[f"exported/{built.name}"] = library
        name = f"exported/{find_reference(artifact)[1].name}"
        if name not in files:
            files[name] = _reference(artifact, num_images)
    for path in _board_files():
        files[f"lenet_edge/{path.relative_to(_PACKAGE).as_posix()}"] = path.read_bytes()
    files |= {f"wheels/{path.name}": path.read_bytes() for path in wheels}
    facts = {"version": lenet_edge.__version__, "files": Bundle(files).hashes}
    files["bundle.json"] = (json.dumps(facts, indent=1, sort_keys=True) + "\n").encode()
    return Bundle(files)


def _reference(artifact: Artifact, num_images: int | None) -> bytes:
    """Return a reference with its images, as .npz without compression: xz compresses better."""
    reference = reference_for(artifact)
    data = evaluation_data(reference)
    total = len(data.images)
    count = total if num_images is None else min(num_images, total)
    if count < 1:
        raise DataError(f"{artifact.name}: {count} test images prove nothing; ask for more")
    indices = np.arange(count) * total // count
    labels = {} if data.labels is None else {"labels": data.labels[indices].astype(np.int32)}
    packed = io.BytesIO()
    np.savez(
        packed,
        checkpoint_sha256=reference.checkpoint_sha256,
        dataset=reference.dataset if count == total else f"{reference.dataset}, {count} of {total}",
        logits=reference.logits[indices],
        images=data.images[indices],
        **labels,
    )
    return packed.getvalue()


def _board_files() -> list[Path]:
    """Return the files of this package that a board needs."""

    def is_needed(path: Path) -> bool:
        name = path.relative_to(_PACKAGE).as_posix()
        parts = name.split("/")
        if "__pycache__" in parts or parts[0] in _LEFT_OUT or name in _LEFT_OUT:
            return False
        if parts[0] == "cli" and not parts[1].startswith("_"):
            return Path(name).stem in _COMMANDS
        return True

    return sorted(path for path in _PACKAGE.rglob("*") if path.is_file() and is_needed(path))
