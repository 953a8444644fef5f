"""The examples of docs/add-a-format.md and docs/add-a-runtime.md, added to a copy and run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

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


@pytest.fixture(scope="module")
def extended(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the extended package and the exported files."""
    folder = tmp_path_factory.mktemp("extended")
    link_package(folder, ("runtimes", "runtimes/probe", "export", "inspection"))
    add_documented(FORMAT, folder)
    add_documented(RUNTIME, folder)
    (folder / "exported").symlink_to(ROOT / "exported")
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
    run(extended, line_of(FORMAT, "python -m lenet_edge.flows.make_probe"))
    real = {
        str(path.relative_to(extended))
        for path in (extended / "lenet_edge").rglob("*")
        if path.is_file() and not path.is_symlink() and "__pycache__" not in path.parts
    }
    assert real == {TABLE, *documented_files(FORMAT), *documented_files(RUNTIME), *PROBE}
    assert not any((PACKAGE.parent / name).exists() for name in real - {TABLE})


def test_the_new_targets_work(extended: Path) -> None:
    run(extended, line_of(FORMAT, "python -m lenet_edge.flows.make_probe"))
    code = (
        "import json; from lenet_edge.runtimes import get_target;"
        " from lenet_edge.selection import probe_target;"
        " names = 'plain-numpy-cpu', 'onnx-reference-cpu';"
        " print(json.dumps([probe_target(get_target(name)).works for name in names]))"
    )
    assert json.loads(run(extended, f'python -c "{code}"').stdout) == [True, True]


def test_the_new_format_is_exported_inspected_verified_and_measured(extended: Path) -> None:
    for start in ("lenet-edge export", "lenet-edge inspect", "lenet-edge verify"):
        printed = run(extended, line_of(FORMAT, start)).stdout
        if start.endswith("inspect"):
            assert "60,074 parameters" in printed
            assert "199,968" in printed
    run(extended, f"{line_of(FORMAT, 'lenet-edge bench')} --json bench.json")
    (measurement,) = json.loads((extended / "bench.json").read_text())["measurements"]
    assert measurement["target"] == "plain-numpy-cpu"
    manifest = json.loads((extended / "numpy" / "lenet_float16.npz.json").read_text())
    assert manifest["format"] == "npz"
    assert manifest["converter"].endswith(" npz")


def test_the_new_runtime_verifies_and_measures(extended: Path) -> None:
    code = (
        "import sys; import numpy as np; from lenet_edge.data import mnist;"
        " test = mnist.load('test');"
        " np.savez('few.npz', images=test.images[:300], labels=test.labels[:300])"
    )
    run(extended, f'python -c "{code}"')
    verify = line_of(RUNTIME, "lenet-edge verify")
    run(extended, f"{verify} --reference exported/lenet_float32.tflite --data few.npz"
                  " --max-accuracy-drop 1")  # fmt: skip
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
