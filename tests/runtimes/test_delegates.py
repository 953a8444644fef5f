"""External TFLite delegates: the nodes they take, their results, and their failures.

The delegate is real. It is compiled from toy_delegate.c, and the runtimes load it like a vendor's.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lenet_edge.data.dataset import Dataset
from lenet_edge.results.result_file import BenchRun
from lenet_edge.runtimes import _delegates
from tests import needs
from tests.conftest import LenetEdge

SOURCE = Path(__file__).with_name("toy_delegate.c")
CROSS_COMPILER = "aarch64-linux-gnu-gcc"
pytestmark = pytest.mark.needs("gcc")
RUNTIMES = (
    "litert",
    pytest.param("tflite-runtime", marks=[pytest.mark.slow, needs.tflite_runtime]),
)
BRIEFLY = ("--batch-size", "1", "--rounds", "1", "--min-time", "0", "--max-time", "0.1")


def compiled(path: Path, source: Path = SOURCE, compiler: str = "gcc") -> Path:
    command = [compiler, "-O3", "-Wall", "-Werror", "-shared", "-fPIC", "-o", path, source]
    subprocess.run(list(map(str, command)), check=True, timeout=60)
    return path


@pytest.fixture(scope="module")
def toy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return compiled(tmp_path_factory.mktemp("toy") / "libtoy.so")


@pytest.fixture
def file(exports: Path) -> Path:
    return exports / "lenet_float32.tflite"


@pytest.fixture
def few(file: Path, test_part: Dataset, tmp_path: Path) -> list[str]:
    """The options of `verify` for 300 images: all 10,000 take seconds on the toy."""
    images = tmp_path / "few.npz"
    np.savez(images, images=test_part.images[:300], labels=test_part.labels[:300])
    return ["--data", str(images), "--reference", str(file), "--max-accuracy-drop", "1"]


def options(*pairs: str) -> list[str]:
    return [word for pair in pairs for word in ("--delegate-option", pair)]


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_wrong_delegate_fails_where_the_cpu_passes(
    lenet_edge_here: LenetEdge, file: Path, toy: Path, few: list[str], tmp_path: Path, runtime: str
) -> None:
    verify = ["verify", file, *few, "--target", runtime]
    for bias, status in (("5", 3), ("0", 0)):
        done = lenet_edge_here(
            *verify, "--delegate", toy, *options("claim=all", f"bias={bias}"), "--json", "o.json"
        )
        assert done.returncode == status, done.stderr + done.stdout
        (report,) = BenchRun.load(tmp_path / "o.json").parity
        assert report.target == f"{runtime}-libtoy"
        assert report.passed == (bias == "0")
        assert report.max_abs_error == pytest.approx(float(bias), abs=1e-3)
    done = lenet_edge_here(*verify)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("command", ["verify", "bench"])
@pytest.mark.parametrize(
    ("claim", "taken", "macs", "left"),
    [
        ("all", 8, 199_968, ()),
        (
            "dense", 3, 58_920,
            ("CONV_2D", "MAX_POOL_2D", "CONV_2D", "MAX_POOL_2D", "RESHAPE"),
        ),
    ],
)  # fmt: skip
def test_the_nodes_that_a_delegate_takes_are_reported(
    lenet_edge_here: LenetEdge, file: Path, toy: Path, few: list[str], tmp_path: Path, command: str,
    claim: str, taken: int, macs: int, left: tuple[str, ...],
) -> None:  # fmt: skip
    how = BRIEFLY if command == "bench" else few
    command_line = [
        command, file, "--target", "litert", "--delegate", toy, *options(f"claim={claim}"), *how,
        "--json", "o.json",
    ]  # fmt: skip
    done = lenet_edge_here(*command_line)
    output = " ".join(done.stdout.split())
    if left:
        assert done.returncode != 0
        assert "libtoy took 3 of 8 nodes and 29 % of the multiplications" in output
        assert "on the CPU stayed CONV_2D" in output
        assert "--allow-fallback accepts that" in output
        done = lenet_edge_here(*command_line, "--allow-fallback")
        assert "partial: lenet_float32.tflite" in done.stdout or command == "verify"
    assert done.returncode == 0, done.stdout + done.stderr
    run = BenchRun.load(tmp_path / "o.json")
    (result,) = run.measurements or run.parity
    assert result.delegation is not None
    assert (result.delegation.nodes_taken, result.delegation.nodes_total) == (taken, 8)
    assert (result.delegation.macs_taken, result.delegation.macs_total) == (macs, 199_968)
    assert tuple(name.split()[0] for name in result.delegation.left_behind) == left


def test_partial_and_wrong_cells_have_no_rank(
    lenet_edge_here: LenetEdge, file: Path, toy: Path
) -> None:
    command_line = ["bench", file, "--target", "litert", "--delegate", toy, *BRIEFLY]
    for more, output in (
        (["--allow-fallback"], "partial:"),
        (options("claim=all", "bias=5"), "Do not use lenet_float32.tflite on litert-libtoy"),
    ):
        done = lenet_edge_here(*command_line, *more)
        assert done.returncode == 0, done.stderr
        (row,) = (line for line in done.stdout.splitlines() if line.startswith("litert-libtoy"))
        assert row.split()[-1] == "–"
        assert output in " ".join(done.stdout.split())


@pytest.mark.parametrize("more", [(), ("--allow-fallback",)])
def test_a_delegate_that_takes_no_node_fails(
    lenet_edge_here: LenetEdge, file: Path, toy: Path, few: list[str], more: tuple[str, ...]
) -> None:
    done = lenet_edge_here("verify", file, *few, "--target", "litert", "--delegate", toy,
                      *options("claim=none"), *more)  # fmt: skip
    assert done.returncode == 3
    assert "took 0 of 8 nodes" in " ".join(done.stdout.split())


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_no_device(lenet_edge_here: LenetEdge, file: Path, toy: Path, runtime: str) -> None:
    done = lenet_edge_here("verify", file, "--target", runtime, "--delegate", toy,
                      *options("fail=create"))  # fmt: skip
    assert done.returncode == 3
    output = " ".join(done.stdout.split())
    assert "libtoy.so found no device, or cannot use it: toy: no device on the bus" in output


@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_free_batch_is_refused_and_a_fixed_one_is_taken_whole(
    lenet_edge_here: LenetEdge, exports: Path, fixed: Path, toy: Path, few: list[str], runtime: str
) -> None:
    refusing = [*few, "--target", runtime, "--delegate", toy, *options("fail=graph", "claim=all")]
    done = lenet_edge_here("verify", exports / "lenet_float32.tflite", *refusing)
    assert done.returncode == 3
    output = " ".join(done.stdout.split())
    assert "the delegate libtoy refuses lenet_float32.tflite" in output
    assert "its batch is free, so try: lenet-edge export --batch-size 1" in output
    done = lenet_edge_here("verify", fixed / "lenet_float32_b40.tflite", *refusing)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "libtoy took 8 of 8 nodes" in done.stdout


def test_libraries_that_are_not_delegates(
    lenet_edge_here: LenetEdge, file: Path, tmp_path: Path
) -> None:
    def verify(delegate: str) -> subprocess.CompletedProcess[str]:
        return lenet_edge_here("verify", file, "--target", "litert", "--delegate", delegate)

    last = verify("none.so").stderr.splitlines()[-1]
    assert "none.so: no such file" in last
    assert "edgetpu" in last  # the message lists the known names
    (tmp_path / "text.so").write_text("not a library")
    assert "text.so is not a shared library" in verify("text.so").stderr.splitlines()[-1]
    (tmp_path / "empty.c").write_text("int nothing;\n")
    compiled(tmp_path / "libempty.so", tmp_path / "empty.c")
    done = verify("libempty.so")
    assert done.returncode == 3
    output = " ".join(done.stdout.split())
    assert "libempty.so is a library but not a TFLite delegate" in output
    assert "it lacks tflite_plugin_create_delegate" in output


def test_a_library_with_a_missing_dependency(
    lenet_edge_here: LenetEdge, file: Path, tmp_path: Path
) -> None:
    (tmp_path / "driver.c").write_text("int driver(void) { return 1; }\n")
    (tmp_path / "user.c").write_text("int driver(void); int used(void) { return driver(); }\n")
    compiled(tmp_path / "libvendordriver.so", tmp_path / "driver.c")
    command = ["gcc", "-shared", "-fPIC", "-o", "libuser.so", "user.c", "-L.", "-lvendordriver"]
    subprocess.run(command, cwd=tmp_path, check=True, timeout=60)
    (tmp_path / "libvendordriver.so").unlink()
    done = lenet_edge_here("verify", file, "--target", "litert", "--delegate", "libuser.so")
    assert done.returncode == 3
    assert "libvendordriver.so: cannot open shared object file" in " ".join(done.stdout.split())


def test_a_known_delegate_that_is_not_installed(lenet_edge_here: LenetEdge, file: Path) -> None:
    done = lenet_edge_here("verify", file, "--target", "litert", "--delegate", "edgetpu")
    assert done.returncode == 3
    output = " ".join(done.stdout.split())
    assert "the delegate libedgetpu.so.1 cannot be loaded" in output
    assert "install it, or the library that it needs" in output


@pytest.mark.needs(CROSS_COMPILER)
def test_a_library_of_another_architecture(
    lenet_edge_here: LenetEdge, file: Path, tmp_path: Path
) -> None:
    """The linker would only report that the file does not exist."""
    compiled(tmp_path / "libarm.so", compiler=CROSS_COMPILER)
    done = lenet_edge_here("verify", file, "--target", "litert", "--delegate", "libarm.so")
    assert done.returncode == 1
    last = done.stderr.splitlines()[-1]
    assert "libarm.so is built for aarch64, and this Python is for x86_64" in last


def test_options_and_targets_that_do_not_fit(
    lenet_edge_here: LenetEdge, file: Path, toy: Path
) -> None:
    done = lenet_edge_here("verify", file, "--delegate", toy, "--delegate-option", "claim")
    assert done.returncode == 2
    assert "'claim' is not KEY=VALUE" in done.stderr
    done = lenet_edge_here("verify", file, "--target", "openvino", "--delegate", toy)
    assert "only litert and tflite-runtime load external delegates" in done.stderr.splitlines()[-1]


def test_a_short_name_never_means_a_file_of_the_current_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "libedgetpu.so.1").write_bytes(Path(sys.executable).read_bytes())
    assert _delegates.find_library("edgetpu") == "libedgetpu.so.1"  # not a path: for the linker
    assert _delegates.find_library("./libedgetpu.so.1") == str(tmp_path / "libedgetpu.so.1")
