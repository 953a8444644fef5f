"""Hostile files: real files with random damage, and files that are designed to do harm.

`make` writes the files of one case into an empty folder. The same seed and number make the same
bytes. `Case.refused_by` lists the commands that must refuse the file.
"""

from __future__ import annotations

import dataclasses
import hashlib
import io
import json
import random
import shutil
import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge.artifacts.artifact import load_artifact, manifest_path, write_manifest
from lenet_edge.export.embed import read_tflite, write_tflite
from lenet_edge.runtimes import _probe
from lenet_edge.support.files import sha256_of
from tests.hostile.harm import KERAS, external_weights, keras_with

EXPORTED = Path(__file__).parents[2] / "exported"
COMMANDS = ("inspect", "verify", "bench", "predict", "serve")
RUNS = COMMANDS[1:]  # the commands that use the manifest if there is one
# Relative frequency of each format.
SHARES = {"tflite": 36, "onnx": 26, "keras": 8, "npz": 10, "manifest": 16, "c": 4}


_TARGETS = {
    ".tflite": ("litert-xnnpack", "tflite-runtime-cpu", "openvino-cpu"),
    ".onnx": ("onnxruntime-cpu", "openvino-cpu"),
    ".keras": ("tensorflow-function",),
    ".c": ("native-cpu",),
}


@dataclass(frozen=True)
class Case:
    """Hostile file: its damage, and the commands that must refuse it."""

    number: int
    format: str
    how: str
    model: Path
    refused_by: tuple[str, ...] = ()

    @property
    def target(self) -> str:
        """The target for `verify` and `bench`. The default targets take turns."""
        targets = _TARGETS[self.model.suffix]
        return targets[self.number % len(targets)]


def make(seed: int, number: int, folder: Path) -> Case:
    """Write the files of case `number` into an empty folder."""
    dice = random.Random(f"{seed}/{number}")
    (format,) = dice.choices(list(SHARES), list(SHARES.values()))
    return _MAKERS[format](dice, number, folder)


def _bits(dice: random.Random, content: bytearray) -> bytes:
    # Half of the damage is near the start of the file, which is read first.
    end = min(len(content), 2048) if dice.random() < 0.5 else len(content)
    for _ in range(dice.choice([1, 2, 8, 64])):
        content[dice.randrange(end)] ^= 1 << dice.randrange(8)
    return bytes(content)


def _numbers(dice: random.Random, content: bytearray) -> bytes:
    end = min(len(content), 4096) if dice.random() < 0.7 else len(content)
    for _ in range(dice.choice([1, 3, 10])):
        value = dice.choice([0, 1, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFF, len(content)])
        struct.pack_into("<I", content, dice.randrange(0, end - 4, 4), value)
    return bytes(content)


def _run(dice: random.Random, content: bytearray) -> bytes:
    start = dice.randrange(len(content))
    size = dice.randint(1, min(400, len(content) - start))
    content[start : start + size] = dice.choice([bytes(size), b"\xff" * size, dice.randbytes(size)])
    return bytes(content)


def _cut(dice: random.Random, content: bytearray) -> bytes:
    return bytes(content[: dice.randint(1, len(content) - 1)])


def _moved(dice: random.Random, content: bytearray) -> bytes:
    start = dice.randrange(len(content))
    piece = content[start : start + dice.randint(1, 5000)]
    if dice.random() < 0.5:
        return bytes(content[:start] + piece + content[start:])
    return bytes(content[:start] + content[start + len(piece) :])


def _tail(dice: random.Random, content: bytearray) -> bytes:
    return bytes(content) + dice.randbytes(dice.randint(1, 10_000))


def _rubbish(dice: random.Random, content: bytearray) -> bytes:
    return bytes(content[: dice.choice([0, 8, 64])]) + dice.randbytes(dice.randint(1, 5000))


DAMAGES: dict[str, Callable[[random.Random, bytearray], bytes]] = {
    "bits": _bits, "numbers": _numbers, "run": _run, "cut": _cut, "moved": _moved, "tail": _tail,
    "rubbish": _rubbish,
}  # fmt: skip


def _model(suffix: str) -> Callable[[random.Random, int, Path], Case]:
    def make_model(dice: random.Random, number: int, folder: Path) -> Case:
        format = suffix[1:]
        sources = [path for path in _sources() if path.suffix == suffix]
        source = dice.choice(sources)
        path = folder / source.name
        how = dice.choices([*DAMAGES, "empty", "renamed", "vast", "promise"], [4] * 7 + [1] * 4)[0]
        if how == "promise" and format == "onnx":
            return _outside(dice, number, folder)
        refused: tuple[str, ...] = ()
        content = _content(dice, source)
        if how in DAMAGES:
            if format == "c":  # the code would be run, so only the comment before it is damaged
                head = content[: content.find(b"*/")]
                path.write_bytes(DAMAGES[how](dice, bytearray(head)) + content[len(head) :])
            else:
                path.write_bytes(DAMAGES[how](dice, bytearray(content)))
        elif how == "empty":
            path.write_bytes(b"")
            refused = COMMANDS
        elif how == "renamed":
            other = dice.choice([path for path in _sources() if path.suffix != suffix])
            path.write_bytes(other.read_bytes())
            refused = COMMANDS
        else:
            path.write_bytes(content)
            with path.open("r+b") as file:
                file.truncate(dice.choice([2**31 + 1, 2**36, 2**42]))  # a sparse file
            refused = COMMANDS
        if source.parent == EXPORTED:  # `verify` needs the reference
            _copy_reference(folder)
        # The manifest is right, belongs to another file, or is missing.
        manifest = dice.choice(["own", "own", "stale", "none", "none"])
        if manifest != "none" and how not in ("empty", "renamed", "vast", "promise"):
            facts = json.loads(manifest_path(source).read_text())
            if manifest == "own":
                facts["sha256"] = sha256_of(path)
            elif sha256_of(path) != facts["sha256"]:
                refused = RUNS
            manifest_path(path).write_text(json.dumps(facts))
        return Case(number, format, f"{how}, {manifest} manifest", path, refused)

    return make_model


def _copy_reference(folder: Path) -> Path:
    (source,) = EXPORTED.glob("reference-*.npz")
    return Path(shutil.copyfile(source, folder / source.name))


def _sources() -> list[Path]:
    paths = [*EXPORTED.glob("lenet*"), *_probe.FOLDER.glob("probe.*")]
    return sorted(path for path in paths if path.suffix in (".tflite", ".onnx", ".keras", ".c"))


def _content(dice: random.Random, source: Path) -> bytes:
    """Return the content of a file, in a third of the cases without its contract."""
    content = source.read_bytes()
    if source.suffix not in (".tflite", ".onnx") or dice.random() > 1 / 3:
        return content
    if source.suffix == ".tflite":
        graph = read_tflite(content)
        graph.metadata = []
        return write_tflite(graph)
    import onnx

    model = onnx.ModelProto.FromString(content)
    del model.metadata_props[:]
    bare = model.SerializeToString()
    assert isinstance(bare, bytes)
    return bare


def _outside(dice: random.Random, number: int, folder: Path) -> Case:
    """Write an ONNX file whose weights are outside of its folder."""
    secret = folder / "secret.bin"
    secret.write_bytes(np.arange(4, dtype=np.float32).tobytes())
    inside = folder / "model"
    (inside / "sub").mkdir(parents=True)
    (inside / "link.bin").symlink_to(secret)
    where = dice.choice(
        ["../secret.bin", str(secret), "link.bin", "sub/../../secret.bin", "/dev/zero",
         "/etc/passwd"]
    )  # fmt: skip
    path = external_weights(inside / "outside.onnx", where, dice.choice(["initializer", "node"]))
    return Case(number, "onnx", f"outside, {where.removeprefix(str(folder))}", path, COMMANDS)


def _keras(dice: random.Random, number: int, folder: Path) -> Case:
    if dice.random() < 0.45:
        return _model(".keras")(dice, number, folder)
    path = folder / "foreign.keras"
    how = dice.choice(sorted(KERAS))
    keras_with(path, dice, how, folder / "owned")
    return Case(number, "keras", how, path, COMMANDS if KERAS[how].must_be_refused else ())


def _npz(dice: random.Random, number: int, folder: Path) -> Case:
    """Write an undamaged model beside a damaged reference."""
    source = _copy_reference(folder)
    model = folder / "lenet_int8.tflite"
    for path in (EXPORTED / model.name, manifest_path(EXPORTED / model.name)):
        shutil.copyfile(path, folder / path.name)
    how = dice.choice([*DAMAGES, *DAMAGES, *_ARRAYS])
    if how in DAMAGES:
        source.write_bytes(DAMAGES[how](dice, bytearray(source.read_bytes())))
        return Case(number, "npz", how, model)
    with np.load(source) as stored:
        arrays = dict(stored)
    _ARRAYS[how](dice, source, arrays)
    return Case(number, "npz", how, model, ("verify", "bench"))


def _save(path: Path, arrays: dict[str, Any], **more: Any) -> None:
    np.savez_compressed(path, **{**arrays, **more})


def _pickled(dice: random.Random, path: Path, arrays: dict[str, Any]) -> None:
    _save(path, arrays, logits=np.array([{"a": 1}, print], dtype=object))


def _other_shapes(dice: random.Random, path: Path, arrays: dict[str, Any]) -> None:
    logits = arrays["logits"]
    _save(path, arrays, logits=dice.choice([
        logits[0], logits[:0], logits.astype("U8"), logits.astype("f8"), logits[..., None],
        np.full_like(logits, np.nan), logits[:, :3], logits[:50], logits.view("V4"),
    ]))  # fmt: skip


def _missing(dice: random.Random, path: Path, arrays: dict[str, Any]) -> None:
    del arrays[dice.choice(list(arrays))]
    _save(path, arrays)


def _another(dice: random.Random, path: Path, arrays: dict[str, Any]) -> None:
    _save(path, arrays, checkpoint_sha256=dice.choice(["0" * 64, "../../x", "", "é"]))


def _header(dice: random.Random, path: Path, arrays: dict[str, Any]) -> None:
    """Write an .npy array whose header states another size or type, or contains code."""
    header = dice.choice([
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 10)}",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (-1, 10)}",
        b"{'descr': '|O', 'fortran_order': False, 'shape': (10000, 10)}",
        b"{'descr': '<f4', 'fortran_order': False, 'shape': (" + b"(" * 3000 + b")}",
        b"__import__('os').system('touch owned')",
        b"{'descr': [('a', '|O')], 'fortran_order': False, 'shape': (10,)}",
        b"{'descr': '<U999999999', 'fortran_order': False, 'shape': (99999,)}",
        b"\xff\xfe{",
    ])  # fmt: skip
    _zip(path, {"logits.npy": b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
                + bytes(64)})  # fmt: skip


def _bomb(dice: random.Random, path: Path, arrays: dict[str, Any]) -> None:
    head = io.BytesIO()
    np.lib.format.write_array_header_1_0(  # type: ignore[no-untyped-call]
        head, {"descr": "<f4", "fortran_order": False, "shape": (2**27, 4)}
    )
    _zip(path, {"logits.npy": head.getvalue() + bytes(2**28)}, promise=2**31)


def _zip(path: Path, members: dict[str, bytes], promise: int = 0) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in members.items():
            archive.writestr(name, content)
    if promise:  # the directory at the end states the unpacked size, which may be false
        archived = bytearray(path.read_bytes())
        struct.pack_into("<I", archived, archived.rfind(b"PK\1\2") + 24, promise)
        path.write_bytes(archived)


_ARRAYS: dict[str, Callable[[random.Random, Path, dict[str, Any]], None]] = {
    "pickled": _pickled, "other shapes": _other_shapes, "missing": _missing, "another": _another,
    "header": _header, "bomb": _bomb,
}  # fmt: skip

_STRANGE: list[Any] = [
    None, True, -1, 0, 2**70, 1e308, float("nan"), float("inf"), "", "../../../etc/passwd",
    "\x1b]0;owned\x07\x1b[2J", "[/bold]", "\ud800", "\u202egnp.exe", "a\nb", [], {}, [[]], [None],
    {"name": 1}, "9" * 200, [1] * 1000, -0.0, "float32", ["x"] * 10,
]  # fmt: skip


def _manifest(dice: random.Random, number: int, folder: Path) -> Case:
    """Write an undamaged model beside a manifest with wrong values."""
    source = dice.choice([path for path in _sources() if path.suffix != ".keras"])
    model = folder / source.name
    shutil.copyfile(source, model)
    path, facts = manifest_path(model), json.loads(manifest_path(source).read_text())
    how = dice.choices(["value", *DAMAGES, "nested", "vast", "folder", "words"], [14] + [1] * 11)[0]
    refused: tuple[str, ...] = ()
    if how == "value":
        for _ in range(dice.choice([1, 1, 2, 5])):
            _replace_a_value(dice, facts)
        path.write_text(json.dumps(facts))
    elif how in DAMAGES:
        text = json.dumps(facts).encode()
        path.write_bytes(DAMAGES[how](dice, bytearray(text)))
    elif how == "words":  # only the labels are hostile: they contain control characters
        strange = ["\x1b[2J\x1b]0;owned\x07", "[/bold]", "\u202e7", "a\nb", "\r", "</td><script>"]
        labels = tuple(dice.choice(strange) + str(index) for index in range(10))
        write_manifest(dataclasses.replace(load_artifact(source), path=model, labels=labels))
    else:
        refused = RUNS
        if how == "nested":
            path.write_text('{"inputs": ' * 100_000)
        elif how == "vast":
            path.write_bytes(json.dumps(facts).encode())
            with path.open("r+b") as file:
                file.truncate(2**40)
        else:
            path.mkdir()
    return Case(number, "manifest", how, model, refused)


def _replace_a_value(dice: random.Random, facts: Any) -> None:
    """Replace a value at any depth by an unexpected one, or delete it, or add one."""
    places = [(facts, key) for key in facts]
    for holder, key in places:  # the list grows during the loop
        inner = holder[key]
        if isinstance(inner, dict):
            places += [(inner, name) for name in inner]
        elif isinstance(inner, list):
            places += [(inner, index) for index in range(len(inner))]
    holder, key = dice.choice(places)
    action = dice.random()
    if action < 0.8:
        holder[key] = dice.choice(_STRANGE)
    elif action < 0.9:
        del holder[key]
    else:
        facts[dice.choice(["colour", "path", "format", "__class__"])] = dice.choice(_STRANGE)


_MAKERS = {
    "tflite": _model(".tflite"), "onnx": _model(".onnx"), "keras": _keras, "npz": _npz,
    "manifest": _manifest, "c": _model(".c"),
}  # fmt: skip


def digest(folder: Path) -> str:
    """Return a hash of all files below a folder, to compare two copies of a case."""
    total = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        if path.is_file() and path.stat().st_size < 2**30:
            total.update(str(path.relative_to(folder)).encode() + path.read_bytes())
    return total.hexdigest()
