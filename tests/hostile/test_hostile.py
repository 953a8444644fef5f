"""A short form of `python -m tests.hostile`, and the worst hostile files one by one."""

from __future__ import annotations

import os
import zipfile
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from lenet_edge.artifacts import keras_file
from lenet_edge.artifacts.embedded import read_contract
from lenet_edge.artifacts.file_check import check_format
from lenet_edge.errors import ModelFileError
from lenet_edge.runtimes import _probe
from lenet_edge.support import npz
from tests.conftest import LenetEdge
from tests.hostile.harm import KERAS, external_weights, keras_with
from tests.hostile.mutate import SHARES, digest, make
from tests.hostile.run import run, uploads


@pytest.mark.costly
def test_a_seed_always_makes_the_same_files(tmp_path: Path) -> None:
    formats = Counter[str]()
    for number in range(40):
        folders = [tmp_path / f"{number}-{again}" for again in (1, 2)]
        cases = []
        for folder in folders:
            folder.mkdir()
            cases.append(make(7, number, folder))
        # Zip archives contain their time of creation. External data contains its folder's name.
        if cases[0].format not in ("npz", "keras") and "outside" not in cases[0].how:
            assert digest(folders[0]) == digest(folders[1]), cases[0]
            assert (cases[0].how, cases[0].format) == (cases[1].how, cases[1].format)
        formats[cases[0].format] += 1
    assert len(formats) >= len(SHARES) - 1


# Four files in every run. The slow test takes the next files of the same seed.
@pytest.mark.costly
@pytest.mark.parametrize(
    "numbers", [range(4), pytest.param(range(4, 14), marks=pytest.mark.slow)], ids=["4", "10"]
)
def test_no_file_does_harm(numbers: range) -> None:
    outcomes = list(run(1, numbers))
    assert [outcome for outcome in outcomes if outcome.fault] == []
    assert len(outcomes) == 5 * len(numbers)
    assert any(outcome.status for outcome in outcomes)


@pytest.mark.costly
@pytest.mark.parametrize("count", [40, pytest.param(400, marks=pytest.mark.slow)])
def test_no_upload_does_harm(count: int) -> None:
    statuses = Counter(status for _, status, _ in uploads(1, range(count)))
    assert set(statuses) == {200, 400}


@pytest.mark.parametrize("how", [how for how, harm in KERAS.items() if harm.must_be_refused])
def test_a_keras_file_that_does_harm(tmp_path: Path, how: str) -> None:
    import random

    path, mark = tmp_path / "foreign.keras", tmp_path / "owned"
    keras_with(path, random.Random(1), how, mark)
    if how.startswith("weights: "):  # Keras refuses these, in a worker
        check_format(path)
        return
    with pytest.raises(ModelFileError) as caught:
        check_format(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)
    assert not mark.exists()


@pytest.mark.slow
@pytest.mark.parametrize("how", ["weights: external", "weights: linked", "weights: virtual"])
def test_weights_from_another_file(lenet_edge: LenetEdge, tmp_path: Path, how: str) -> None:
    import random

    keras_with(tmp_path / "foreign.keras", random.Random(1), how, tmp_path / "owned")
    done = lenet_edge("inspect", "foreign.keras")
    assert done.returncode == 1
    assert "Not allowed: H5 file with" in done.stderr.splitlines()[-1]


def test_a_keras_file_as_keras_writes_it(tmp_path: Path) -> None:
    assert check_format(_probe.FOLDER / "probe.keras") == "keras"
    # The file is packed again, and gets a custom loss, which is never loaded.
    path = tmp_path / "again.keras"
    with (
        zipfile.ZipFile(_probe.FOLDER / "probe.keras") as archive,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as other,
    ):
        for name in archive.namelist():
            content = archive.read(name).decode("latin-1")
            loss = '"compile_config": {"loss": {"module": "builtins", "class_name": "function"}}'
            assert name != "config.json" or '"registered_name"' in content
            if name == "config.json":
                content = content.rstrip()[:-1] + f", {loss}}}"
            other.writestr(name, content.encode("latin-1"))
    keras_file.check_keras_file(path)


@pytest.mark.parametrize("place", ["initializer", "node"])
def test_onnx_weights_outside_of_the_folder(tmp_path: Path, place: str) -> None:
    inside = tmp_path / "model"
    (inside / "sub").mkdir(parents=True)
    for folder in (tmp_path, inside, inside / "sub"):
        (folder / "w.bin").write_bytes(bytes(16))
    (inside / "link.bin").symlink_to(tmp_path / "w.bin")
    for where in ("../w.bin", str(tmp_path / "w.bin"), "link.bin", "sub/../../w.bin", "/dev/zero"):
        path = external_weights(inside / "x.onnx", where, place)
        with pytest.raises(ModelFileError, match=r"x\.onnx has weights in .*outside of its folder"):
            check_format(path)
    for where in ("w.bin", "sub/w.bin", "sub/../w.bin"):
        assert check_format(external_weights(inside / "x.onnx", where, place)) == "onnx"


HANGS = {
    "an integer of a million bytes": b"\x08\x08\x10" + b"\xff" * 1_000_000,
    "more fields than any model": b"\x08\x08" * 2_500_000,
    "a field longer than the file": b"\x08\x08\x3a\xff\xff\xff\xff\x0f",
}


@pytest.mark.costly
@pytest.mark.parametrize("name", HANGS)
def test_an_onnx_file_that_hangs_a_naive_reader(tmp_path: Path, name: str) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(HANGS[name])
    with pytest.raises(ModelFileError, match="is damaged"):
        check_format(path)
    with pytest.raises(ModelFileError, match="is damaged"):
        read_contract(path, "onnx")


def test_a_sparse_file_of_a_terabyte_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "x.tflite"
    path.write_bytes((_probe.FOLDER / "probe.tflite").read_bytes())
    os.truncate(path, 2**40)
    with pytest.raises(ModelFileError, match="a model file has at most"):
        check_format(path)


def test_arrays_that_unpack_to_more_than_the_limit(tmp_path: Path) -> None:
    path = tmp_path / "bomb.npz"
    np.savez_compressed(path, zeros=np.zeros(2**26, np.uint8))
    assert path.stat().st_size < 100_000
    assert npz.read_arrays(path, 2**27)["zeros"].nbytes == 2**26
    with pytest.raises(ValueError, match="and the limit is"):
        npz.read_arrays(path, 2**25)
