"""Counts of instructions: equal in every run, equal to those of other counters, and sensitive."""

from __future__ import annotations

import re
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from lenet_edge.artifacts.artifact import Artifact, load_artifact
from lenet_edge.bench.instructions import bare_metal, emulated, program
from lenet_edge.bench.instructions.count import CPUS, count_instructions
from lenet_edge.errors import TargetError
from lenet_edge.report.comparison import compare_runs
from lenet_edge.results.result_file import BenchRun
from tests import needs
from tests.c_files import write_changed
from tests.conftest import LenetEdge

pytestmark = pytest.mark.costly
ROOT = Path(__file__).parents[2]
PROBE = ROOT / "lenet_edge" / "runtimes" / "probe" / "probe.c"
LENET = ROOT / "exported" / "lenet_native_int8.c"
ARM64 = ("aarch64-linux-gnu-gcc", "cc", "qemu-aarch64")
CORTEX = ("arm-none-eabi-gcc", "cc", "qemu-system-arm")
TOOLS = {"x86-64": ("cc", "valgrind"), "arm64": ARM64, "cortex-m4": CORTEX}


def with_text(path: Path, folder: Path, old: str, new: str) -> Artifact:
    """Return a copy of a C file in which the text `old` is replaced by `new`."""
    text = path.read_text()
    assert old in text
    return write_changed(path, folder / path.name, text.replace(old, new))


@pytest.mark.parametrize("cpu", TOOLS)
def test_a_count_is_equal_in_every_run_and_shows_one_more_multiplication(
    cpu: str, tmp_path: Path
) -> None:
    needs.require(*TOOLS[cpu])
    count = count_instructions(load_artifact(PROBE), cpu)
    assert count_instructions(load_artifact(PROBE), cpu) == count
    assert count.layers is not None
    assert list(count.layers) == ["dense", "memcpy"]
    assert 0.5 * count.instructions < sum(count.layers.values()) <= count.instructions
    more = with_text(
        PROBE, tmp_path, "best_here()(image, logits);\n",
        "best_here()(image, logits);\n  static volatile float one = 1;\n  logits[0] *= one;\n",
    )  # fmt: skip
    added = count_instructions(more, cpu).instructions - count.instructions
    assert 1 <= added <= 12


@pytest.mark.slow
@pytest.mark.needs("cc", "valgrind")
def test_one_percent_more_in_a_kernel_fails_the_gate(lenet_edge: LenetEdge, tmp_path: Path) -> None:
    done = lenet_edge("bench", LENET, "--count", "x86-64", "--json", "base.json")
    assert done.returncode == 0, done.stderr
    kernel = "KERNEL AVX2 void dense_avx2(const struct dense *d, const int8_t *in, int8_t *out) {"
    nothing = 'for (int n = 0; n < 300; n++) __asm__ volatile("nop");'
    slower = with_text(LENET, tmp_path, kernel, f"{kernel}\n  {nothing}")
    base = BenchRun.load(tmp_path / "base.json")
    new = replace(base, instruction_counts=(count_instructions(slower, "x86-64"),))
    comparison = compare_runs(base, new)
    assert [count.key for count in base.instruction_counts] == [
        (LENET.name, "native-cpu", "x86-64")
    ]
    assert not base.measurements
    ((cell, reason),) = comparison.regressions(0.01)
    assert cell == "lenet_native_int8.c on x86-64"
    assert "most in lenet_1/dense" in reason
    assert not compare_runs(base, base).has_regression(0.0)


@pytest.mark.needs(*CORTEX)
def test_the_plugin_counts_what_icount_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    """They are two counters of QEMU. The call of the network takes three instructions more."""
    sums: list[int] = []
    count_layers = bare_metal._count_layers

    def recorded(*arguments: Any) -> dict[str, int]:
        layers = count_layers(*arguments)
        sums.append(sum(layers.values()))
        return layers

    monkeypatch.setattr(bare_metal, "_count_layers", recorded)
    count = count_instructions(load_artifact(LENET), "cortex-m4")
    assert 0 <= count.instructions - sums[0] / count.images <= 3
    assert count.flash_bytes is not None
    assert count.flash_bytes["constants"] > 50_000
    assert count.stack_bytes is not None
    assert 1728 < count.stack_bytes < 8192  # the file says that it needs 1,728 bytes for tensors


@pytest.mark.needs(*ARM64)
def test_the_plugin_counts_what_a_trace_of_single_steps_lists(tmp_path: Path) -> None:
    """The trace has one line for each instruction. It needs no plugin."""
    built = program.build(load_artifact(PROBE), ["aarch64-linux-gnu-gcc"], tmp_path)
    inputs, totals, lengths = tmp_path / "inputs", [], []
    for calls in (1, 2):
        inputs.write_bytes(bytes(64 * calls))
        totals.append(emulated.count(built, inputs, tmp_path, "cortex-a72").instructions)
        version = subprocess.run(["qemu-aarch64", "--version"], capture_output=True, text=True)
        is_old = re.search(r"version [1-7]\.", version.stdout)
        single = "-singlestep" if is_old else "-one-insn-per-tb"
        subprocess.run(
            ["qemu-aarch64", "-cpu", "cortex-a72", single, "-d", "exec,nochain", "-D",
             tmp_path / "trace", built.path, inputs], check=True,
        )  # fmt: skip
        names = re.findall(r"^Trace .*\] ?(\S*)$", (tmp_path / "trace").read_text(), re.MULTILINE)
        lengths.append(sum(name in ("probe", "run", "best_here", "memcpy") for name in names))
    assert totals[1] == 2 * totals[0]
    assert totals[0] == lengths[0]
    assert totals[1] == lengths[1]


@pytest.mark.parametrize("cpu", CPUS)
def test_without_the_programs_one_line_has_the_command_that_installs_them(
    cpu: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(TargetError, match=r"^[^\n]*apt install [a-z0-9-]+[^\n]*$"):
        count_instructions(load_artifact(PROBE), cpu)


def test_only_c_files_are_counted() -> None:
    with pytest.raises(TargetError, match="--format native"):
        count_instructions(load_artifact(PROBE.with_suffix(".tflite")), "arm64")
