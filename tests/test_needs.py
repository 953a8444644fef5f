"""Tests that need absent programs: the reason, the closing line, and the failure in CI."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests import needs

ROOT = Path(__file__).parents[1]
TESTS = """
import pytest
from tests import needs

@pytest.mark.needs("cc", "clang")
def test_marked(): ...

@pytest.mark.parametrize("number", [1, 2])
def test_inside(number):
    needs.require("ssh")

def test_other():
    pytest.skip("another reason")

def test_runs(): ...
"""


def test_the_reason_names_programs_and_packages(monkeypatch: pytest.MonkeyPatch) -> None:
    assert needs.missing() is None
    assert needs.missing("python3") is None
    monkeypatch.setenv("PATH", "/nowhere")
    assert needs.missing("cc") == "cc is not installed; apt-get install gcc"
    reason = needs.missing("wasm-ld", "clang")
    assert reason == "wasm-ld, clang are not installed; apt-get install clang lld"


def test_the_summary_counts_tests_and_collects_packages() -> None:
    assert needs.summary(["Skipped: only root can mount"]) is None
    reasons = [
        "Skipped: cc is not installed; apt-get install gcc",
        "Skipped: only root can mount",
        "Skipped: clang, cc are not installed; apt-get install clang gcc",
    ]
    assert needs.summary(reasons[:1]) == "1 test left out: install gcc"
    assert needs.summary(reasons) == "2 tests left out: install clang gcc"


@pytest.mark.costly
@pytest.mark.parametrize("complete", [False, True])
def test_a_run_without_the_programs(tmp_path: Path, complete: bool) -> None:
    (tmp_path / "test_example.py").write_text(TESTS)
    processes = "0" if complete else "1"
    command = [sys.executable, "-m", "pytest", "-p", "tests.conftest", "-n", processes]
    environment = {**os.environ, "PATH": "/nowhere", "PYTHONPATH": str(ROOT)}
    environment["LENET_EDGE_TESTS_COMPLETE"] = str(int(complete))
    done = subprocess.run(
        [*command, "--rootdir", tmp_path, "-c", ROOT / "pyproject.toml", tmp_path],
        env=environment, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    line = "3 tests left out: install clang gcc openssh-client"
    assert (line in done.stdout) is not complete, done.stdout
    assert done.returncode == (1 if complete else 0), done.stdout
    counts = "2 failed, 1 passed, 1 skipped, 1 error" if complete else "1 passed, 4 skipped"
    assert counts in done.stdout


def test_ci_installs_every_package_and_forbids_leaving_tests_out() -> None:
    script = (ROOT / ".ci" / "run").read_text()
    assert "export LENET_EDGE_TESTS_COMPLETE=1" in script
    installed = script.split("packages=(")[1].split(")")[0].split()
    always = {"binutils", "util-linux"}  # gcc depends on the first, Debian on the second
    assert set(needs.PACKAGES.values()) - always <= set(installed)
