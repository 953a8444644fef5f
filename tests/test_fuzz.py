"""Readers of files on random input: they raise LenetEdgeError or return usable values."""

from __future__ import annotations

import contextlib
import copy
import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from rich.console import Console

from lenet_edge.artifacts.artifact import load_artifact, manifest_path
from lenet_edge.artifacts.embedded import external_data, read_contract
from lenet_edge.artifacts.file_check import check_format
from lenet_edge.artifacts.reference import Reference
from lenet_edge.data import csv_file, handwriting, idx, image_folder, npz_file
from lenet_edge.data.labelled_images import load_images
from lenet_edge.errors import DataError, LenetEdgeError
from lenet_edge.report.comparison import compare_runs
from lenet_edge.report.terminal.bench import bench_view
from lenet_edge.report.terminal.comparison import comparison_view
from lenet_edge.report.terminal.parity import parity_view
from lenet_edge.results.parity_report import Bounds
from lenet_edge.results.result_file import BenchRun
from lenet_edge.runtimes import _probe
from lenet_edge.support.files import sha256_of
from lenet_edge.verify.verdict import DEFAULTS, bounds_for, read_bounds

pytestmark = pytest.mark.costly  # 2,000 examples
GOLDEN = sorted((Path(__file__).parent / "golden").glob("*.json"))
EXPORTED = Path(__file__).parents[1] / "exported"

# JSON values: small, nested, huge, and unusual ones.
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.integers(-(2**70), 2**70),
    st.floats(), st.text(max_size=8),
    st.sampled_from(["../../x", "\x1b[2J", "[/]", "\ud800", "0" * 64]),
)  # fmt: skip
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=6,
)


def places(facts: Any) -> list[tuple[Any, Any]]:
    """Return every (container, key) in a tree of JSON, with at most two items of each list."""
    pairs: list[tuple[Any, Any]] = []
    keys = facts if isinstance(facts, dict) else range(min(2, len(facts)))
    for key in keys:
        pairs.append((facts, key))
        if isinstance(facts[key], (dict, list)):
            pairs += places(facts[key])
    return pairs


def damage(data: st.DataObject, facts: Any) -> Any:
    """Return a copy in which some values are replaced, deleted or emptied."""
    damaged = copy.deepcopy(facts)
    for _ in range(data.draw(st.integers(1, 3))):
        holder, key = data.draw(st.sampled_from(places(damaged)))
        action = data.draw(st.sampled_from(["replace", "replace", "replace", "delete", "empty"]))
        if action == "replace":
            holder[key] = data.draw(ANYTHING)
        elif action == "delete":
            del holder[key]
        else:
            holder[key] = type(holder[key])() if holder[key] is not None else []
    return damaged


def write(path: Path, facts: Any) -> Path:
    path.write_text(json.dumps(facts))  # \ud800 is written as an escape
    return path


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("fuzz")


# --- manifests and contracts ---

MANIFEST = json.loads(manifest_path(EXPORTED / "lenet_int8.tflite").read_text())


@given(data=st.data())
def test_manifests(folder: Path, data: st.DataObject) -> None:
    model = folder / "lenet_int8.tflite"
    if not model.exists():
        model.write_bytes((EXPORTED / model.name).read_bytes())
    write(manifest_path(model), damage(data, MANIFEST))
    with contextlib.suppress(LenetEdgeError):
        artifact = load_artifact(model)
        tensors = (*artifact.inputs, *artifact.outputs)
        assert all(size is None or size >= 1 for tensor in tensors for size in tensor.shape)
        assert all(isinstance(label, str) for label in artifact.labels)
        json.dumps(artifact.to_json()).encode()
        str(artifact.labels).encode()
        bounds_for(artifact.precision, {"max_abs_error": 1.0, "int8": {}})
        assert artifact.sha256 == sha256_of(model)


@given(text=st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_manifests_that_are_not_json(folder: Path, text: bytes) -> None:
    model = folder / "probe.onnx"
    model.write_bytes((_probe.FOLDER / "probe.onnx").read_bytes())
    manifest_path(model).write_bytes(text)
    with pytest.raises(LenetEdgeError):
        load_artifact(model)


@pytest.mark.parametrize("name", ["probe.tflite", "probe.onnx", "probe.c", "probe.keras"])
@given(data=st.data())
def test_contracts_in_model_files(folder: Path, name: str, data: st.DataObject) -> None:
    content = bytearray((_probe.FOLDER / name).read_bytes())
    for _ in range(data.draw(st.integers(0, 6))):
        offset = data.draw(st.integers(0, len(content) - 1))
        content[offset] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    path = folder / f"damaged-{name}"
    path.write_bytes(bytes(content))
    with contextlib.suppress(LenetEdgeError):
        format = check_format(path)
        read_contract(path, format)
        load_artifact(path)


@given(rest=st.binary(max_size=300))
def test_files_that_only_start_like_a_model(folder: Path, rest: bytes) -> None:
    for name, head in (("a.tflite", b"\x1c\0\0\0TFL3"), ("a.onnx", b"\x08\x08"), ("a.keras", b"PK"),
                       ("a.c", b"/* Neura")):  # fmt: skip
        path = folder / name
        path.write_bytes(head + rest)
        with contextlib.suppress(LenetEdgeError):
            load_artifact(path)
        if name == "a.onnx":
            with contextlib.suppress(LenetEdgeError):
                external_data(path)


# --- result files ---


def show(run: BenchRun) -> None:
    console = Console(file=open("/dev/null", "w"), width=80, markup=False)  # noqa: SIM115
    with contextlib.closing(console.file):
        console.print(bench_view(run))
        console.print(parity_view(run))
        with contextlib.suppress(DataError):
            comparison = compare_runs(run, run)
            console.print(comparison_view(run, comparison, 0.05))
            json.dumps(comparison.to_json(0.05))
    json.dumps(run.to_json())


@pytest.mark.parametrize("golden", GOLDEN, ids=lambda path: path.stem)
@given(data=st.data())
def test_result_files(folder: Path, golden: Path, data: st.DataObject) -> None:
    facts = shortened(json.loads(golden.read_text()))
    path = write(folder / "results.json", damage(data, facts))
    with contextlib.suppress(LenetEdgeError):
        show(BenchRun.load(path))


def shortened(facts: Any) -> Any:
    """Keep the first entries of each list, so that each value is changed often."""
    for kind in ("measurements", "parity", "skipped"):
        facts[kind] = facts[kind][:2]
    return facts


@given(text=st.binary(max_size=60))
def test_files_that_are_not_results(folder: Path, text: bytes) -> None:
    path = folder / "none.json"
    path.write_bytes(text)
    with pytest.raises(DataError):
        BenchRun.load(path)


DEEP: dict[str, Callable[[Path], Any]] = {
    "results": BenchRun.load,
    "manifest": lambda path: load_artifact(path.with_suffix("")),
}


@pytest.mark.parametrize("reader", DEEP)
def test_json_that_is_nested_too_deeply(tmp_path: Path, reader: str) -> None:
    path = tmp_path / "probe.onnx.json"
    path.with_suffix("").write_bytes((_probe.FOLDER / "probe.onnx").read_bytes())
    path.write_text('{"inputs": [' * 100_000)
    with pytest.raises(LenetEdgeError):
        DEEP[reader](path)


# --- data ---


@given(content=st.binary(max_size=80) | st.binary(max_size=60).map(lambda b: b"\0\0\x08" + b))
def test_idx_files(content: bytes) -> None:
    with contextlib.suppress(DataError):
        assert idx.decode(content, "it").dtype == np.uint8


@given(data=st.data())
def test_reference_files(folder: Path, data: st.DataObject) -> None:
    path = folder / "reference.npz"
    np.savez(path, checkpoint_sha256="0" * 64, dataset="x", logits=np.eye(3, dtype=np.float32),
             images=np.zeros((3, 2, 2, 1), np.uint8), labels=np.zeros(3, np.int32))  # fmt: skip
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(0, 6))):
        offset = data.draw(st.integers(0, len(content) - 1))
        content[offset] = data.draw(st.integers(0, 255))
    if data.draw(st.booleans()):
        del content[data.draw(st.integers(0, len(content))) :]
    path.write_bytes(bytes(content))
    with contextlib.suppress(LenetEdgeError):
        reference = Reference.load(path)
        assert reference.logits.ndim == 2
    with contextlib.suppress(LenetEdgeError):
        npz_file.load_images(path)
    with contextlib.suppress(LenetEdgeError):
        npz_file.load(path)


DTYPES = st.sampled_from(["u1", "i1", "i4", "u8", "f2", "f4", "f8", "c8", "?", "U3", "S2", "M8[s]"])


@given(data=st.data())
def test_arrays_of_every_type_and_shape(folder: Path, data: st.DataObject) -> None:
    arrays = {}
    for name in data.draw(st.lists(st.sampled_from(
        [*npz_file.NAMES, "images", "labels", "class_names", "logits", "checkpoint_sha256",
         "dataset"]
    ), unique=True)):  # fmt: skip
        shape = data.draw(st.lists(st.integers(0, 3), max_size=5))
        numbers = np.array(data.draw(st.integers(-300, 300)))
        arrays[name] = np.full(shape, numbers).astype(data.draw(DTYPES))
    np.savez(folder / "any.npz", **arrays)
    for reader in (npz_file.load_images, npz_file.load, Reference.load):
        with contextlib.suppress(LenetEdgeError):
            reader(folder / "any.npz")
    for array in arrays.values():
        np.save(folder / "any.npy", array)
        with contextlib.suppress(LenetEdgeError):
            load_images(folder / "any.npy")


CELLS = st.sampled_from(
    ["0", "1", "255", "256", "-1", "5.0", "0.5", "1e999", "nan", "", " ", "a", "label", '"', '"x"',
     "pixel0", "\0", "\ufeff", "9" * 400, "1_0", "\r"]
)  # fmt: skip


@given(
    rows=st.lists(st.lists(CELLS, max_size=11), max_size=6),
    delimiter=st.sampled_from([",", ";", "\t", ",,"]),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_csv_files(folder: Path, rows: list[list[str]], delimiter: str, end: str) -> None:
    path = folder / "any.csv"
    path.write_text(end.join(delimiter.join(row) for row in rows), encoding="utf-8", newline="")
    for reader in (csv_file.load, csv_file.load_images):
        with contextlib.suppress(LenetEdgeError):
            reader(path)


NAMES = st.sampled_from(
    ["train", "Test", "val", "cat", "dog", "0", "10", "٣", "x.png", "y.JPG", "z.heic", "._a.png",
     "__MACOSX", "a\nb", "\udcff", "a b"]
)  # fmt: skip


@given(paths=st.lists(st.lists(NAMES, min_size=1, max_size=4), max_size=12))
def test_folders_of_images(folder: Path, paths: list[list[str]]) -> None:
    root = folder / "images"
    for names in paths:
        with contextlib.suppress(OSError):  # a file and a folder of one name
            root.joinpath(*names).parent.mkdir(parents=True, exist_ok=True)
            Image.new("L", (3, 2), len(names)).save(root.joinpath(*names), "PNG")
    for reader in (image_folder.load, lambda path: load_images(path, (4, 4, 1), ("cat", "dog"))):
        with contextlib.suppress(LenetEdgeError):
            reader(root)
    shutil.rmtree(root, ignore_errors=True)


@given(
    height=st.integers(1, 90), width=st.integers(1, 90), seed=st.integers(0, 2**32 - 1),
    kind=st.sampled_from(["noise", "flat", "two", "line", "steps"]),
)  # fmt: skip
def test_images_of_every_kind(height: int, width: int, seed: int, kind: str) -> None:
    random = np.random.default_rng(seed)
    image = random.integers(0, 256, (height, width, 3), np.uint8)
    if kind == "flat":
        image[:] = image[0, 0]
    elif kind == "two":
        image = np.where(image > image.mean(), image[0, 0], image[-1, -1]).astype(np.uint8)
    elif kind == "line":
        image[:] = 255
        image[random.integers(height), :] = 0
    elif kind == "steps":
        image = np.sort(image, axis=int(random.integers(2)))
    with contextlib.suppress(DataError):
        digit = handwriting.normalize_digit(image)
        assert (digit.shape, str(digit.dtype)) == ((28, 28, 1), "uint8")


# --- settings ---

WORDS = st.sampled_from(
    ["max-accuracy-drop", "min_agreement", "max-abs-error", "int8", "=", "1", "-1", "nan", "inf",
     "1e999", "9" * 400, "[", "]", "{", "}", "\n", ".", '"', "'", "true", "[tool.lenet-edge]",
     "[tool.lenet-edge.int8]", "[[tool.lenet-edge]]", "#", ","]
)  # fmt: skip


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Python 3.10 has no tomllib")
@given(words=st.lists(WORDS, max_size=12), text=st.text(max_size=20))
def test_settings(folder: Path, words: list[str], text: str) -> None:
    for content in (" ".join(words), text, " = ".join(words)):
        (folder / "pyproject.toml").write_bytes(
            f"[tool.lenet-edge]\n{content}\n".encode("utf-8", "surrogatepass")
        )
        with contextlib.suppress(LenetEdgeError):
            settings = read_bounds(folder)
            for precision in (*DEFAULTS, "max_abs_error"):
                bounds = bounds_for(precision, settings)
                assert isinstance(bounds, Bounds)
                assert np.isfinite(
                    [value for value in vars(bounds).values() if value is not None]
                ).all()
