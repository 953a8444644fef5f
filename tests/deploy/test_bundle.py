"""Tests of bundles: small, reproducible, and complete for a board."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lenet_edge.deploy import bundle
from lenet_edge.deploy.wheels import SYSTEMS, find_wheels
from lenet_edge.errors import BoardError
from lenet_edge.selection import load_artifacts
from lenet_edge.support.files import sha256_of
from tests import archives
from tests.conftest import LenetEdge

ROOT = Path(__file__).parents[2]
EXPORTED = ROOT / "exported"
DIGIT = ROOT / "tests" / "data" / "handwriting" / "7-hasty-crayon.jpg"


def unpack(archive: Path, folder: Path) -> Path:
    archives.unpack(archive, folder)
    return folder / bundle.NAME


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    inherited = {k: v for k, v in os.environ.items() if k != "PYTHON"}
    return subprocess.run(
        [str(folder / "run.sh"), *arguments],
        cwd=ROOT,  # this folder contains another lenet_edge
        env={**inherited, **environment},
        capture_output=True,
        text=True,
        timeout=600,
    )


@pytest.fixture(scope="module")
def unpacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    artifacts = load_artifacts([EXPORTED / "lenet_int8.tflite"], EXPORTED)
    bundle.make_bundle(artifacts, 500).save(folder / "one.tar.xz")
    return unpack(folder / "one.tar.xz", folder)


@pytest.mark.costly
def test_bundle_of_all_files_is_small_and_reproducible(
    lenet_edge: LenetEdge, tmp_path: Path
) -> None:
    files = [*EXPORTED.glob("lenet_*.tflite"), *EXPORTED.glob("lenet_*.onnx")]
    for name in ("a.tar.xz", "b.tar.xz"):
        done = lenet_edge("bundle", *files, "--output", name, "--json", "facts.json")
        assert done.returncode == 0, done.stderr
    facts = json.loads((tmp_path / "facts.json").read_text())
    assert sha256_of(tmp_path / "a.tar.xz") == sha256_of(tmp_path / "b.tar.xz") == facts["sha256"]
    assert facts["size_bytes"] == (tmp_path / "a.tar.xz").stat().st_size < 1_600_000
    folder = unpack(tmp_path / "a.tar.xz", tmp_path)
    for name, sha256 in facts["files"].items():
        assert sha256_of(folder / name) == sha256
    (reference,) = folder.glob("exported/reference-*.npz")
    with np.load(reference, allow_pickle=False) as arrays:
        assert arrays["images"].shape == (4000, 28, 28, 1)
        assert str(arrays["dataset"]) == "mnist-test, 4000 of 10000"
        (full,) = EXPORTED.glob("reference-*.npz")
        with np.load(full, allow_pickle=False) as complete:
            assert np.array_equal(arrays["logits"][2], complete["logits"][5])


@pytest.mark.costly
def test_bundle_runs_its_own_code(unpacked: Path) -> None:
    assert not list(unpacked.glob("lenet_edge/train"))
    assert not list(unpacked.rglob("train.npz"))
    for name in ("json", "numpy", "click"):  # beside run.sh, where users put images and models
        (unpacked / f"{name}.py").write_text("raise SystemExit('not code of the bundle')\n")
    verified = run(unpacked, "verify", "--target", "litert", "--json", "-", PYTHON=sys.executable)
    (report,) = json.loads(verified.stdout)["parity"]
    assert report["num_samples"] == 500, verified.stderr
    predicted = run(unpacked, "predict", str(DIGIT), PYTHON=sys.executable)
    assert predicted.stdout.split()[1] == "7", predicted.stderr
    (unpacked / "lenet_edge/__init__.py").write_text('__version__ = "of the bundle"\n')
    assert "of the bundle" in run(unpacked, "--version", PYTHON=sys.executable).stdout


def test_every_command_of_the_bundle_starts(unpacked: Path) -> None:
    commands = sorted(path.stem for path in (unpacked / "lenet_edge/cli").glob("[a-z]*.py"))
    assert {"verify", "bench", "predict", "serve", "doctor"} < set(commands)
    assert not {"train", "export", "deploy"} & set(commands)
    for name in commands:
        done = run(unpacked, name, "--help", PYTHON=sys.executable)
        assert done.returncode == 0, done.stderr
        assert f"Usage: lenet-edge {name}" in done.stdout


def test_every_module_of_the_bundle_finds_its_imports(unpacked: Path) -> None:
    """Imports inside functions are left out: some are for commands that only a host has."""
    package = unpacked / "lenet_edge"
    missing = []
    for path in package.rglob("*.py"):
        for statement in ast.parse(path.read_text()).body:
            if isinstance(statement, ast.ImportFrom) and statement.module:
                parts = statement.module.split(".")
                module = unpacked.joinpath(*parts)
                if parts[0] == "lenet_edge" and not (
                    module.is_dir() or module.with_suffix(".py").exists()
                ):
                    missing.append(f"{path.relative_to(package)}: {statement.module}")
    assert missing == []


@pytest.mark.slow
def test_bundle_with_wheels_needs_only_python(lenet_edge: LenetEdge, tmp_path: Path) -> None:
    """This machine stands for a board without a network."""
    system = f"bookworm-{'amd64' if os.uname().machine == 'x86_64' else 'arm64'}"
    if sys.version_info[:2] != SYSTEMS[system].python:
        pytest.skip(f"the wheels of {system} are for another Python")
    done = lenet_edge("bundle", EXPORTED / "lenet_int8.tflite", "--wheels", system)
    assert done.returncode == 0, done.stderr
    assert "litert" in done.stdout
    folder = unpack(tmp_path / "lenet-edge.tar.xz", tmp_path)
    base_python = Path(sys.executable).resolve()  # outside of this virtual environment
    environment = {"PATH": f"{base_python.parent}:/usr/bin:/bin", "HOME": str(tmp_path)}
    for _ in range(2):  # the first run creates the venv
        predicted = run(folder, "predict", str(DIGIT), **environment)
        assert predicted.stdout.split()[1] == "7", predicted.stderr
    missing = run(folder, "train", **environment)
    assert "No such command" in missing.stderr
    (folder / "venv" / "complete").unlink()  # as after an interrupted installation
    assert run(folder, "targets", **environment).returncode == 0
    assert (folder / "venv" / "complete").exists()


def test_missing_wheel_is_named() -> None:
    with pytest.raises(BoardError, match=r"tflite-runtime has no wheel for aarch64, Python 3\.13"):
        find_wheels(SYSTEMS["trixie-arm64"], ["tflite"])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--num-images", "0"], "0 test images prove nothing; ask for more"),
        (["--num-images", "many"], 'a number or "all"'),
        (["--wheels", "buster-arm64"], "is not one of 'bookworm-amd64'"),
        (["--runtime", "onnx"], "--runtime needs --wheels"),
    ],
)
def test_invalid_options_are_refused(
    lenet_edge: LenetEdge, options: list[str], message: str
) -> None:
    done = lenet_edge("bundle", EXPORTED / "lenet_int8.tflite", *options)
    assert done.returncode in (1, 2)
    assert message in done.stderr
    assert "Traceback" not in done.stderr
