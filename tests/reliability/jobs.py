"""Commands that are killed by the tests, and the check of the files that they leave."""

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
from lenet_edge.artifacts.trained_ranges import read_ranges
from lenet_edge.errors import LenetEdgeError
from lenet_edge.formats import BY_SUFFIX
from lenet_edge.results.result_file import BenchRun
from lenet_edge.train.saved_state import STATE_FILE, TrainingState

ROOT = Path(__file__).parents[2]
EXPORTED = ROOT / "exported"
GOLDEN = ROOT / "tests" / "golden"


@dataclass(frozen=True)
class KilledCommand:
    """Command that a test kills.

    `arguments` returns the arguments of a run on the first or the second input. There are two
    inputs, so that an old file and a new file differ. `go_on` returns the arguments of the run that
    continues after a kill. `status` is the exit status of a run that was not killed.
    """

    name: str
    arguments: Callable[[Path, int], Sequence[object]]
    go_on: Callable[[Path, Sequence[object]], Sequence[object]] = lambda folder, usual: usual
    imports: tuple[str, ...] = ()
    status: int = 0


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
    """Resume an incomplete run. A complete result file belongs to the other input."""
    path = folder / "out" / "timed.json"
    incomplete = path.exists() and BenchRun.load(path).remaining > 0
    return (*usual, *(["--resume"] if incomplete else []))


def _report(inputs: Path, which: int) -> Sequence[object]:
    results = GOLDEN / ("schema-2.json", "schema-3.json")[which]
    return ("report", results, "--output", "out/report.html", "--json", "out/advice.json")


def _bundle(inputs: Path, which: int) -> Sequence[object]:
    file = EXPORTED / ("lenet_int8.tflite", "lenet_dynamic.tflite")[which]
    return ("bundle", file, "--num-images", 500, "--output", "out/lenet-edge.tar.xz")


_TENSORFLOW = (
    "lenet_edge.flows.recorded_training",
    "lenet_edge.export.exporter",
    "lenet_edge.flows.datasets",
)
JOBS = (
    KilledCommand("train", _train, _resume_training, _TENSORFLOW),
    KilledCommand("export", _export, imports=_TENSORFLOW),
    KilledCommand("verify", _verify),
    KilledCommand("bench", _bench, _resume_bench),
    KilledCommand("report", _report, status=4),  # the results have no verdict
    KilledCommand("bundle", _bundle),
)


def make_inputs(inputs: Path) -> None:
    """Write a small data set and two checkpoints. The second has the weights times 0.9."""
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
        model.set_weights([0.9 * weights for weights in model.get_weights()])


class NotWholeError(AssertionError):
    """A file is neither the old file nor a right new file."""


def hash_files(folder: Path) -> dict[str, str]:
    """Check that each file in a folder is complete, and return its name and content's hash.

    Temporary files, locks and TensorBoard's event files, which only grow, are left out.

    Raises:
        NotWholeError: a file cannot be read, or does not fit its manifest.
    """
    hashes = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        if not path.name.startswith(".") and "tfevents" not in path.name:
            try:
                hashes[str(path.relative_to(folder))] = _hash_file(path)
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
    return hashes


def _hash_file(path: Path) -> str:
    """Return the hash of the content of a file, without times, which differ between runs."""
    content: Any = path.read_bytes()
    if path.suffix in BY_SUFFIX:
        artifact = load_artifact(path)
        if artifact.parent_sha256 is None and path.suffix != ".keras":
            raise NotWholeError(f"{path.name} has lost its manifest")
        if path.suffix == ".keras":
            content = _weights(content) + repr(read_ranges(path)).encode()
    elif path.name == STATE_FILE:
        content = b"".join(array.tobytes() for array in TrainingState.load(path.parent).arrays)
    elif path.name.startswith("reference"):
        content = Reference.load(path).logits.tobytes()
    elif path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as arrays:
            content = b"".join(arrays[name].tobytes() for name in arrays)
    elif path.suffix == ".json":
        facts = json.loads(content)
        if "environment" in facts:
            facts = sorted(report.candidate for report in BenchRun.load(path).parity)
        elif "manifest_version" in facts:
            facts.pop("created_at"), facts.pop("sha256"), facts.pop("size_bytes")
        elif "dataset" in facts and "epochs" in facts:
            for epoch in facts["epochs"]:
                epoch.pop("seconds")
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
    """Return the weights of a .keras file, without the times in its zip archive."""
    import h5py

    arrays: list[bytes] = []
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        stored = io.BytesIO(archive.read("model.weights.h5"))
    with h5py.File(stored) as file:
        file.visititems(
            lambda name, item: arrays.append(item[()].tobytes()) if hasattr(item, "shape") else None
        )
    return b"".join(arrays)
