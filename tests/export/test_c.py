"""Tests of the C array: its content, its arena size, and its compilation."""

import dataclasses
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from lenet_edge.artifacts.artifact import Artifact, load_artifact
from lenet_edge.data import mnist
from lenet_edge.data.dataset import to_input
from lenet_edge.errors import ModelFileError
from lenet_edge.export import c
from lenet_edge.runtimes.tflite_micro import ALIGNMENT

Matrix = dict[tuple[str, str], Artifact]


@pytest.fixture(scope="module")
def command(exports: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """The folder that `export --format c` writes, and its messages."""
    from lenet_edge.cli import main

    folder = tmp_path_factory.mktemp("c")
    arguments = ["export", exports / "lenet.keras", "--format", "c", "--output-dir", folder]
    done = CliRunner().invoke(main, [*map(str, arguments)], catch_exceptions=False)
    assert done.exit_code == 0, done.stderr
    return folder, done.stderr


@pytest.fixture(scope="module")
def folder(command: tuple[Path, str]) -> Path:
    return command[0]


def read_define(folder: Path, name: str) -> str:
    match = re.search(rf"#define LENET_INT8_{name} (.+)", (folder / "lenet_int8.h").read_text())
    assert match
    return match[1]


def test_files(folder: Path) -> None:
    names = {path.name for path in folder.iterdir() if "reference" not in path.name}
    assert names == {
        "lenet.keras", "lenet.keras.json", "lenet_int8.tflite", "lenet_int8.tflite.json",
        "lenet_int8.c", "lenet_int8.h",
    }  # fmt: skip


def test_header_agrees_with_the_manifest(folder: Path) -> None:
    artifact = load_artifact(folder / "lenet_int8.tflite")
    image = artifact.inputs[0]
    assert float(read_define(folder, "INPUT_SCALE")[:-1]) == pytest.approx(image.scale, rel=1e-8)
    assert read_define(folder, "INPUT_ZERO_POINT") == f"({image.zero_point})"
    assert read_define(folder, "SIZE") == str(artifact.size_bytes)
    assert read_define(folder, "LABELS").count('"') == 20


def test_arena_is_the_smallest_that_works(folder: Path) -> None:
    from tflite_micro.python.tflite_micro import runtime

    content = (folder / "lenet_int8.tflite").read_bytes()
    arena = int(read_define(folder, "ARENA_SIZE"))
    micro = runtime.Interpreter.from_bytes(content, arena_size=arena)
    micro.set_input(np.zeros((1, 28, 28, 1), np.int8), 0)
    micro.invoke()
    with pytest.raises(RuntimeError):
        runtime.Interpreter.from_bytes(content, arena_size=arena - ALIGNMENT)


@pytest.mark.needs("cc")
def test_compiled_program_holds_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    program = tmp_path / "main.c"
    program.write_text(
        '#include <stdio.h>\n#include "lenet_int8.h"\n'
        "static const char *labels[] = LENET_INT8_LABELS;\n"
        "int main(void) {\n"
        "  if ((unsigned long)lenet_int8 % 16 || labels[9][0] != '9') return 1;\n"
        "  return fwrite(lenet_int8, 1, sizeof lenet_int8, stdout) != LENET_INT8_SIZE;\n"
        "}\n"
    )
    sources = [program, folder / "lenet_int8.c"]
    subprocess.run(
        ["cc", "-Wall", "-Werror", "-I", folder, *sources, "-o", tmp_path / "main"], check=True
    )
    done = subprocess.run([tmp_path / "main"], capture_output=True, check=True)
    assert done.stdout == (folder / "lenet_int8.tflite").read_bytes()


def test_different_logits_are_refused(matrix: Matrix, tmp_path: Path) -> None:
    artifact = matrix["tflite", "int8"]
    images = to_input(mnist.load("test").images[:3])
    moved = tmp_path / artifact.name
    shutil.copyfile(artifact.path, moved)
    result = c.try_micro(moved, images.tolist())
    assert result["largest_difference"] == 0
    # Imitate a wrong kernel: the manifest has another zero point than the file.
    output = dataclasses.replace(artifact.outputs[0], zero_point=7)
    from lenet_edge.artifacts.artifact import write_manifest

    write_manifest(dataclasses.replace(artifact, path=moved, outputs=(output,)))
    with pytest.raises(ModelFileError, match="gives other logits in tflite-micro"):
        c.write(load_artifact(moved), images)
    assert not moved.with_suffix(".c").exists()


def test_export_command(command: tuple[Path, str]) -> None:
    folder, messages = command
    assert re.search(r"lenet_int8\.c: needs an arena of [\d,]+ bytes", messages)
    assert (folder / "lenet_int8.c").exists()
