"""Import rules: layers, the board without TensorFlow, and lazy imports, in real processes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import click
import pytest

from lenet_edge.cli import main

ROOT = Path(__file__).parents[1]
COMMANDS = main.list_commands(click.Context(main))


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *command], cwd=ROOT, capture_output=True, text=True, timeout=120
    )


def test_the_layers_and_the_board_are_kept() -> None:
    code = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports())"
    done = run("-c", code)
    assert done.returncode == 0, done.stdout
    assert "Contracts: 4 kept, 0 broken." in done.stdout


def modules_after(code: str) -> set[str]:
    """Return the top-level packages that a fresh process has imported after `code`."""
    done = run(
        "-c",
        "import json, sys\n"
        f"try:\n    {code}\nexcept SystemExit as end:\n    assert not end.code, end.code\n"
        "print('\\n' + json.dumps(sorted({name.split('.')[0] for name in sys.modules})))",
    )
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stdout.splitlines()[-1]))


@pytest.mark.parametrize("command", [None, *COMMANDS])
def test_help_imports_nothing_heavy(command: str | None) -> None:
    arguments = [command, "--help"] if command else ["--help"]
    loaded = modules_after(f"from lenet_edge.cli import main; main({arguments!r})")
    assert "click" in loaded
    heavy = {"numpy", "tensorflow", "keras", "rich", "onnx", "onnxruntime", "openvino", "tf2onnx"}
    assert not loaded & (heavy | {"ai_edge_litert", "tflite_runtime", "tornado", "PIL"})


def test_predict_imports_heavy_packages_only_in_its_worker() -> None:
    image = ROOT / "tests" / "data" / "handwriting" / "7-hasty-crayon.jpg"
    loaded = modules_after(f"from lenet_edge.cli import main; main(['predict', {str(image)!r}])")
    assert not loaded & {"numpy", "PIL", "rich", "ai_edge_litert", "tornado"}


def test_a_tflite_file_becomes_c_without_tensorflow() -> None:
    """Its import takes five seconds, twice: the worker that compares the outputs is a process."""
    loaded = modules_after("from lenet_edge.export.from_tflite import export_tflite")
    assert not loaded & {"tensorflow", "ai_edge_litert"}


def test_stages_of_a_board_import_no_runtime() -> None:
    stages = ("verify.verify", "verify.inference", "bench.plan", "bench.timing", "report.page",
              "prediction", "serve.server", "doctor.checks")  # fmt: skip
    loaded = modules_after("import " + ", ".join(f"lenet_edge.{stage}" for stage in stages))
    assert "numpy" in loaded
    assert not loaded & {
        "tensorflow", "onnx", "onnxruntime", "openvino", "ai_edge_litert", "tflite_runtime",
    }  # fmt: skip


def test_listing_the_targets_imports_no_runtime() -> None:
    loaded = modules_after("from lenet_edge.runtimes import all_targets; assert all_targets()")
    assert not loaded & {"tensorflow", "onnxruntime", "openvino", "ai_edge_litert"}
