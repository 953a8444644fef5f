"""Cortex-M targets: what is missing, what does not fit, what fails, and files of other shapes."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from lenet_edge.artifacts.artifact import Artifact, load_artifact
from lenet_edge.errors import TargetError
from lenet_edge.microcontrollers.program import CallLayout
from lenet_edge.results.result_file import BenchRun
from lenet_edge.runtimes import get_target, open_session
from lenet_edge.selection import Pair, pair_up
from lenet_edge.target import Array, InputValues
from lenet_edge.verify.verify import verify
from tests import needs
from tests.conftest import LenetEdge
from tests.cortex_m import lenet
from tests.export.native_random import reference
from tests.export.test_from_tflite import two_inputs

EXPORTED = Path(__file__).parents[2] / "exported"
M4 = get_target("cortex-m4")
INSTALL = "apt install gcc-arm-none-eabi libnewlib-arm-none-eabi qemu-system-arm"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Path]:
    """Empty PATH, and return a function that adds a program to it."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))

    def add(name: str, text: str) -> Path:
        path = folder / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    return add


def test_layout_of_a_call() -> None:
    layout = CallLayout((3, 8))
    assert (layout.offsets, layout.num_bytes) == ((0, 16), 24)
    small, wide = np.arange(6, dtype=np.uint8).reshape(2, 3), np.array([[1.5], [2.5]])
    blocks = layout.pack([small, wide], 2)
    assert len(blocks) == 48
    assert layout.unpack(blocks, 2) == [small.tobytes(), wide.tobytes()]


def test_without_its_programs_a_core_is_skipped(
    programs: Callable[[str, str], Path], lenet_edge_here: LenetEdge
) -> None:
    file = EXPORTED / "lenet_native_int8.c"
    _, skipped = pair_up([load_artifact(file)], ["cortex-m"])
    assert [each.target for each in skipped] == [
        f"cortex-m{number}" for number in (0, 3, 4, 7, 33, 55)
    ]
    assert skipped[0].reason == (
        "there is no compiler for Cortex-M and qemu-system-arm is not installed;"
        f" {INSTALL}, or pip install ziglang for the compiler"
    )
    programs("arm-none-eabi-gcc", "echo gcc")
    done = lenet_edge_here("verify", str(file), "--target", "cortex-m4")
    assert done.returncode == 1
    assert f"left out: qemu-system-arm is not installed; {INSTALL}" in done.stderr


@pytest.mark.parametrize(("core", "file", "reason"), [
    ("cortex-m0", "lenet_native_float32.c", r"at least 26\d,\d{3} bytes of flash, .* has 262,144"),
    ("cortex-m0", "lenet_native_dynamic.c", r"at least 3\d,\d{3} bytes of RAM, .* has 16,384"),
])  # fmt: skip
def test_what_cannot_run_is_refused_before_anything_is_built(
    core: str, file: str, reason: str, programs: Callable[[str, str], Path], tmp_path: Path
) -> None:
    programs("qemu-system-arm", "exit 1")
    programs("arm-none-eabi-gcc", f'[ "$1" = --version ] || echo built > {tmp_path}/built')
    with pytest.raises(TargetError, match=reason):
        open_session(load_artifact(EXPORTED / file), get_target(core))
    assert not (tmp_path / "built").exists()


def test_a_tflite_file_is_skipped_with_the_way_to_run_it() -> None:
    files = [load_artifact(EXPORTED / name) for name in ("lenet_int8.tflite", "lenet_int8.onnx")]
    pairs, (skipped,) = pair_up(files, ["cortex-m4"])
    assert (pairs, skipped.artifact) == ([], "lenet_int8.tflite")
    assert "TensorFlow Lite Micro's library" in skipped.reason
    assert skipped.reason.endswith("lenet-edge export FILE.tflite --format native")


def compute(artifact: Artifact, values: InputValues) -> dict[str, Array]:
    with closing(open_session(artifact, M4)) as session:
        session.prepare(values)
        session.infer()
        return session.outputs()


@pytest.mark.costly
@pytest.mark.needs(*needs.CORTEX_M)
def test_a_fault_is_one_line_of_the_report(tmp_path: Path) -> None:
    """The file has no manifest, as a file that a user has changed."""
    text = (EXPORTED / "lenet_native_int8.c").read_text()
    end = text.index("void lenet(const int8_t image[784], int8_t logits[10]) {\n")
    head, body = text[:end], text[end:]
    path = tmp_path / "lenet_native_int8.c"
    path.write_text(head + body.replace("{\n", "{\n  __builtin_trap();\n", 1))
    shutil.copy(next(EXPORTED.glob("reference-*.npz")), tmp_path)
    reports, skipped = verify([Pair(load_artifact(path), M4)], num_images=10)
    assert not reports
    assert skipped[0].reason.startswith("cortex-m4: the program stopped with a HardFault at 0x")
    assert "\n" not in skipped[0].reason
    path.write_text(head + "#error\n" + body)
    with pytest.raises(TargetError, match=r"cannot be built: arm-none-eabi-gcc reports: .*error"):
        compute(load_artifact(path), np.zeros((1, 28, 28, 1), np.float32))


@pytest.mark.costly
@pytest.mark.needs(*needs.CORTEX_M)
def test_bench_counts_instead_of_timing(lenet_edge_here: LenetEdge, tmp_path: Path) -> None:
    files = [str(EXPORTED / f"lenet_native_{precision}.c") for precision in ("int8", "float32")]
    done = lenet_edge_here("bench", *files, "--target", "cortex-m0", "--json", "run.json")
    assert done.returncode == 1, done.stdout  # the float32 file does not fit
    run = BenchRun.load(tmp_path / "run.json")
    assert not run.measurements
    assert [(count.artifact, count.cpu) for count in run.instruction_counts] == [
        ("lenet_native_int8.c", "cortex-m0")
    ]
    assert "262,144" in run.skipped[0].reason


@pytest.mark.slow
@pytest.mark.needs(*needs.CORTEX_M)
def test_a_file_is_verified_on_all_images(lenet_edge_here: LenetEdge, tmp_path: Path) -> None:
    file = EXPORTED / "lenet_native_int8.c"
    done = lenet_edge_here("verify", str(file), "--target", "cortex-m4", "--json", "verified.json")
    assert done.returncode == 0, done.stdout
    (report,) = BenchRun.load(tmp_path / "verified.json").parity
    assert (report.verdict, report.target, report.num_samples) == ("pass", "cortex-m4", 10_000)


@pytest.mark.costly
@pytest.mark.needs(*needs.CORTEX_M)
def test_several_inputs_and_outputs(tmp_path: Path) -> None:
    content = two_inputs()
    artifact = lenet.write_c(content, tmp_path / "two.c")
    random = np.random.default_rng(1)
    left = random.integers(0, 256, (3, 40, 40, 4)).astype(np.uint8)
    right = random.standard_normal((3, 40, 40, 4)).astype(np.float32)
    outputs = compute(artifact, {"t0": left, "t1": right})
    real, both = reference(content, [left[:, None], right[:, None]])
    np.testing.assert_array_equal(outputs[artifact.outputs[0].name], real[:, 0])
    np.testing.assert_array_equal(outputs[artifact.outputs[1].name], both[:, 0])
