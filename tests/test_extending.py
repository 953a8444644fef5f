"""The examples of docs/add-a-format.md and docs/add-a-runtime.md, added to a copy and run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lenet_edge.data.dataset import Dataset
from tests.extending import (
    PACKAGE,
    ROOT,
    TABLE,
    add_documented,
    documented_files,
    link_package,
    page,
    shell_lines,
)
from tests.interfaces import assignment, check_with_mypy

pytestmark = pytest.mark.costly

FORMAT, RUNTIME = page("add-a-format.md"), page("add-a-runtime.md")
PROBE = ("lenet_edge/runtimes/probe/probe.npz", "lenet_edge/runtimes/probe/probe.npz.json")

ON_FEW = "--reference exported/lenet_float32.tflite --data few.npz --max-accuracy-drop 1"


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory, test_part: Dataset) -> Path:
    """A folder with the extended package, the exported files and 300 images."""
    folder = tmp_path_factory.mktemp("extended")
    link_package(folder, ("runtimes", "runtimes/probe", "export", "inspection"))
    add_documented(FORMAT, folder)
    add_documented(RUNTIME, folder)
    (folder / "exported").symlink_to(ROOT / "exported")
    np.savez(folder / "few.npz", images=test_part.images[:300], labels=test_part.labels[:300])
    run(folder, line_of(FORMAT, "python -m lenet_edge.flows.make_probe"))
    return folder


def run(folder: Path, line: str) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(folder),
    }
    process = subprocess.run(
        ["bash", "-c", line],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert process.returncode == 0, (line, process.stdout, process.stderr)
    return process


def line_of(text: str, start: str) -> str:
    (line,) = (line for line in shell_lines(text) if line.startswith(start))
    return line


def test_only_the_documented_files_are_touched(extended: Path) -> None:
    real = {
        str(path.relative_to(extended))
        for path in (extended / "lenet_edge").rglob("*")
        if path.is_file() and not path.is_symlink() and "__pycache__" not in path.parts
    }
    assert real == {TABLE, *documented_files(FORMAT), *documented_files(RUNTIME), *PROBE}
    assert not any((PACKAGE.parent / name).exists() for name in real - {TABLE})


def test_the_new_targets_work(extended: Path) -> None:
    code = (
        "import json; from lenet_edge.runtimes import get_target;"
        " from lenet_edge.selection import probe_target;"
        " names = 'plain-numpy-cpu', 'onnx-reference-cpu';"
        " print(json.dumps([probe_target(get_target(name)).works for name in names]))"
    )
    assert json.loads(run(extended, f'python -c "{code}"').stdout) == [True, True]


def test_the_new_format_is_exported_inspected_verified_and_measured(extended: Path) -> None:
    run(extended, line_of(FORMAT, "lenet-edge export"))
    printed = run(extended, line_of(FORMAT, "lenet-edge inspect")).stdout
    assert "60,074 parameters" in printed
    assert "199,968" in printed
    run(extended, f"{line_of(FORMAT, 'lenet-edge verify')} {ON_FEW}")
    run(extended, f"{line_of(FORMAT, 'lenet-edge bench')} --json bench.json")
    (measurement,) = json.loads((extended / "bench.json").read_text())["measurements"]
    assert measurement["target"] == "plain-numpy-cpu"
    manifest = json.loads((extended / "numpy" / "lenet_float16.npz.json").read_text())
    assert manifest["format"] == "npz"
    assert manifest["converter"].endswith(" npz")


def test_the_new_runtime_verifies_and_measures(extended: Path) -> None:
    verify = line_of(RUNTIME, "lenet-edge verify")
    run(extended, f"{verify} {ON_FEW}")
    bench = line_of(RUNTIME, "lenet-edge bench")
    run(extended, f"{bench} --rounds 1 --max-time 0.5 --json runtime.json")
    (measurement,) = json.loads((extended / "runtime.json").read_text())["measurements"]
    assert measurement["target"] == "onnx-reference-cpu"


def test_mypy_accepts_the_new_files(extended: Path, tmp_path: Path) -> None:
    head = (
        "from lenet_edge.export.converter import Converter\n"
        "from lenet_edge.inspection.layer import LayerReader\n"
        "from lenet_edge.runtimes import RuntimeModule\n"
    )
    checks = (
        ("lenet_edge.export.npz", "Converter"),
        ("lenet_edge.inspection.npz", "LayerReader"),
        ("lenet_edge.runtimes.onnx_reference", "RuntimeModule"),
        ("lenet_edge.runtimes.plain_numpy", "RuntimeModule"),
    )
    text = head + "".join(assignment(*check, n) for n, check in enumerate(checks))
    assert check_with_mypy(tmp_path, text, root=extended) == ""
