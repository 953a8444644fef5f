"""The Python of docs/python.md and docs/tour.ipynb runs as it stands there."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[1]
TOUR = ROOT / "docs" / "tour.ipynb"


def code_cells(tag: str = "") -> list[str]:
    """Return the code of the cells that have a tag, or of all."""
    cells = json.loads(TOUR.read_text())["cells"]
    return [
        "".join(cell["source"])
        for cell in cells
        if cell["cell_type"] == "code" and tag in ("", *cell["metadata"].get("tags", ()))
    ]


def test_the_notebook_is_kept_without_outputs_and_every_code_cell_has_its_machine() -> None:
    notebook = json.loads(TOUR.read_text())
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
            assert cell["metadata"]["tags"] in (["host"], ["board"])
    assert notebook["nbformat"] == 4
    board = "\n".join(code_cells("board"))
    assert "le.verify(" in board
    assert "le.bench(" in board
    assert "le.train(" not in board


@pytest.mark.costly
def test_the_examples_of_the_python_page_run(tmp_path: Path) -> None:
    """All blocks, one after another in one process that has what the page takes for granted."""
    page = (ROOT / "docs" / "python.md").read_text()
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 6
    shutil.copytree(ROOT / "exported", tmp_path / "exported")
    digits = ROOT / "tests" / "data" / "handwriting"
    shutil.copy(digits / "7-hasty-crayon.jpg", tmp_path / "photo.jpg")
    done = subprocess.run(
        [sys.executable, "-c", "\n".join(blocks)],
        cwd=tmp_path, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    printed = done.stdout.splitlines()
    assert printed[0].startswith("lenet_int8.tflite 0.99")
    assert "ModelFileError missing.tflite: no such file" in done.stdout
    assert "Verify 1/1: lenet_int8.tflite on litert-xnnpack" in printed
    assert printed[-1] == "1 of 1"
    assert (tmp_path / "report.md").exists()
    assert "<svg" in (tmp_path / "report.html").read_text()


@pytest.mark.slow
def test_the_notebook_runs_in_a_kernel(tmp_path: Path) -> None:
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient").NotebookClient(
        nbformat.read(TOUR, 4),
        timeout=600,
        kernel_name="python3",
        resources={"metadata": {"path": str(tmp_path)}},
    )
    done = client.execute()  # raises the error of a cell
    shown = {
        "".join(cell.source): [output.data for output in cell.outputs if "data" in output]
        for cell in done.cells
        if cell.cell_type == "code"
    }

    def html_of(call: str) -> str:
        ((data,),) = [data for source, data in shown.items() if call in source]
        text: Any = data["text/html"]
        return str(text)

    assert "data:image/png;base64," in html_of("le.train(")  # the curve
    assert html_of("le.export(").count("<tr>") == 3
    assert "lenet_int8.tflite" in html_of("le.verify(")
    assert "p50 µs" in html_of("le.bench(")
    assert html_of("report = ").startswith("<iframe")
    assert "&lt;svg" in html_of("report = ")
    assert "<td" in html_of("le.predict(")
    assert (tmp_path / "tour" / "report.html").exists()
