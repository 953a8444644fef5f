"""The commands that are killed, and what must be whole after: a new command is one more `Job`."""

from __future__ import annotations

import hashlib
import io
import json
import lzma
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge.artifacts.artifact import load_artifact
from lenet_edge.artifacts.reference import Reference
from lenet_edge.errors import LenetEdgeError
from lenet_edge.formats import BY_SUFFIX
from lenet_edge.results.result_file import BenchRun
from lenet_edge.train.saved_state import STATE_FILE, TrainingState

ROOT = Path(__file__).parents[2]
EXPORTED = ROOT / "exported"
GOLDEN = ROOT / "tests" / "golden"


@dataclass(frozen=True)
class Job:
    """One command: `arguments` for a run of its own on one of two inputs, and to go on after one.

    Two inputs, so that an old file and a new one differ.
    """

    name: str
    arguments: Callable[[Path, int], Sequence[object]]
    go_on: Callable[[Path, Sequence[object]], Sequence[object]] = lambda folder, usual: usual
    imports: tuple[str, ...] = ()


def _export(inputs: Path, which: int) -> Sequence[object]:
    formats = ("--format", "tflite", "--format", "onnx", "--format", "native")
    checkpoint = inputs / str(which) / "lenet.keras"
    return ("export", checkpoint, "--int8", *formats, "--output-dir", "out")


def _train(inputs: Path, which: int) -> Sequence[object]:
    return ("train", "--dataset", inputs / "some.npz", "--recipe", "classic", "--epochs", 3,
            "--seed", which, "--output", "out/mine.keras")  # fmt: skip


def _resume_training(folder: Path, usual: Sequence[object]) -> Sequence[object]:
    return (
        *usual,
        *(["--resume"] if (folder / "out" / "mine.training" / STATE_FILE).exists() else []),
    )


def _verify(inputs: Path, which: int) -> Sequence[object]:
    file = EXPORTED / ("lenet_int8.tflite", "lenet_dynamic.tflite")[which]
    return ("verify", file, "--target", "litert", "--json", "out/verified.json",
            "--logits", "out/logits.npz")  # fmt: skip


def _bench(inputs: Path, which: int) -> Sequence[object]:
    file = EXPORTED / ("lenet_int8.tflite", "lenet_dynamic.tflite")[which]
    return ("bench", file, "--target", "litert", "--batch-size", "1,8", "--rounds", 2,
            "--min-time", 0.05, "--max-time", 0.1, "--json", "out/timed.json")  # fmt: skip


def _resume_bench(folder: Path, usual: Sequence[object]) -> Sequence[object]:
    """Go on with what is half done; what is whole is another input's."""
    path = folder / "out" / "timed.json"
    half = path.exists() and BenchRun.load(path).remaining > 0
    return (*usual, *(["--resume"] if half else []))


def _report(inputs: Path, which: int) -> Sequence[object]:
    results = GOLDEN / ("schema-2.json", "schema-3.json")[which]
    return ("report", results, "--output", "out/report.html", "--json", "out/advice.json")


def _bundle(inputs: Path, which: int) -> Sequence[object]:
    file = EXPORTED / ("lenet_int8.tflite", "lenet_dynamic.tflite")[which]
    return ("bundle", file, "--num-images", 500, "--output", "out/lenet-edge.tar.xz")


_TENSORFLOW = ("lenet_edge.flows.train", "lenet_edge.export.exporter", "lenet_edge.flows.datasets")
JOBS = (
    Job("train", _train, _resume_training, _TENSORFLOW),
    Job("export", _export, imports=_TENSORFLOW),
    Job("verify", _verify),
    Job("bench", _bench, _resume_bench),
    Job("report", _report),
    Job("bundle", _bundle),
)


def make_inputs(inputs: Path) -> None:
    """Write a small data set, and two checkpoints of which the second is the first, weaker."""
    from lenet_edge.data import mnist
    from lenet_edge.export.checkpoint import load_checkpoint
    from lenet_edge.train import loop

    training, test = mnist.load("train"), mnist.load("test")
    np.savez(
        inputs / "some.npz",
        x_train=training.images[:2000], y_train=training.labels[:2000],
        x_test=test.images[:200], y_test=test.labels[:200],
    )  # fmt: skip
    model = load_checkpoint(EXPORTED / "lenet.keras")
    for which in range(2):
        loop.save_checkpoint(model, inputs / str(which) / "lenet.keras", training.class_names)
        model.set_weights([0.9 * one for one in model.get_weights()])


class NotWholeError(AssertionError):
    """A file that is neither the old one nor a right new one."""


def look(folder: Path) -> dict[str, str]:
    """Return each file's name and the hash of what it says, having looked whether it is whole.

    Temporary files, locks and TensorBoard's event files, which only ever grow, are left out.

    Raises:
        NotWholeError: a file cannot be read, or is not what its manifest describes.
    """
    found = {}
    for path in sorted(one for one in folder.rglob("*") if one.is_file()):
        if not path.name.startswith(".") and "tfevents" not in path.name:
            try:
                found[str(path.relative_to(folder))] = _read(path)
            except (
                LenetEdgeError,
                ValueError,
                OSError,
                KeyError,
                EOFError,
                zipfile.BadZipFile,
                lzma.LZMAError,
            ) as error:
                raise NotWholeError(f"{path.name}: {type(error).__name__}: {error}") from error
    return found


def _read(path: Path) -> str:
    """Return the hash of what a file says, without times that differ from run to run."""
    content: Any = path.read_bytes()
    if path.suffix in BY_SUFFIX:
        artifact = load_artifact(path)
        if artifact.parent_sha256 is None and path.suffix != ".keras":
            raise NotWholeError(f"{path.name} has lost its manifest")
        content = _weights(content) if path.suffix == ".keras" else content
    elif path.name == STATE_FILE:
        content = b"".join(one.tobytes() for one in TrainingState.load(path.parent).arrays)
    elif path.name.startswith("reference"):
        content = Reference.load(path).logits.tobytes()
    elif path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            content = b"".join(arrays[name].tobytes() for name in arrays)
    elif path.suffix == ".json":
        facts = json.loads(content)
        if "environment" in facts:
            facts = sorted(one.candidate for one in BenchRun.load(path).parity)  # figures differ
        elif "manifest_version" in facts:
            facts.pop("created_at"), facts.pop("sha256"), facts.pop("size_bytes")
        elif "epochs" in facts:
            facts = [one["loss"] for one in facts["epochs"]]
        content = json.dumps(facts).encode()
    elif path.suffix == ".html":
        if not content.rstrip().endswith(b"</html>"):
            raise NotWholeError(f"{path.name} ends in {content[-20:]!r}")
    elif path.suffix == ".png":
        from PIL import Image

        Image.open(io.BytesIO(content)).load()
        content = b""
    elif path.suffix == ".xz":
        content = lzma.decompress(content)
    elif not content.endswith(b"\n"):
        raise NotWholeError(f"{path.name} ends in {content[-20:]!r}")
    return hashlib.sha256(content).hexdigest()


def _weights(content: bytes) -> bytes:
    """Return the weights in a .keras file, whose zip archive holds the time too."""
    import h5py

    arrays: list[bytes] = []
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        stored = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(stored) as file:
        file.visititems(
            lambda name, one: arrays.append(one[()].tobytes()) if hasattr(one, "shape") else None
        )
    return b"".join(arrays)
