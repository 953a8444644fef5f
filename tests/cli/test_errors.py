"""Tests of bad input: the error is one line with the fix, and no file on disk changes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.conftest import LenetEdge

_CHECKPOINT = str(Path(__file__).parents[2] / "exported" / "lenet.keras")
# (arguments, exit status, text that the error must contain)
BAD_USAGE = [
    (["bench", "--batch-size", "0"], 2, "1 to 10,000"),
    (["bench", "--batch-size", "8,many"], 2, "1,8,32"),
    (["bench", "--num-threads", "0"], 2, "--num-threads"),
    (["bench", "--num-threads", "1,many"], 2, "1,4"),
    (["bench", "--precision", "fine"], 2, "5%"),
    (["bench", "--max-time", "0.1"], 2, "--min-time"),
    (["bench", "--resume"], 2, "--json FILE"),
    (["bench", "--scenario", "multi-stream", "--batch-size", "4"], 2, "batches of 8"),
    (["compare", "missing.json", "missing.json"], 1, "cannot read missing.json"),
    (
        ["report"],
        1,
        "name result files, or make it with: lenet-edge run",
    ),
    (["report", "missing.json"], 1, "cannot read missing.json"),
    (["report", "missing.json", "--max-latency", "soon"], 2, "50us, 2ms or 1s"),
    (["report", "missing.json", "--max-latency", "1.2.3ms"], 2, "50us, 2ms or 1s"),
    (["report", "missing.json", "--max-bytes", "0"], 2, "--max-bytes"),
    (["verify", "--max-accuracy-drop", "-1"], 2, "--max-accuracy-drop"),
    (["train", "--epochs", "0"], 2, "--epochs"),
    (["train", "--learning-rate", "0"], 2, "--learning-rate"),
    (["train", "--output", "lenet.h5"], 2, ".keras"),
    (["export", "--format", "coreml"], 2, "tflite"),
    (["predict", ""], 2, "An argument is empty"),
    (["export", _CHECKPOINT, "--output-dir", "\udcff"], 1, "is not valid UTF-8"),
    (["run", "--output-dir", "\udcff"], 1, "is not valid UTF-8"),
    (["train", "--output", "\udcff.keras"], 1, "is not valid UTF-8"),
    (["tune", _CHECKPOINT, "--output-dir", "\udcff"], 1, "is not valid UTF-8"),
    (["benhc"], 2, "benhc"),
    (["verify"], 1, "lenet-edge export"),
    (["verify", "missing.tflite"], 1, "missing.tflite: no such file"),
    (["bench", "missing.onnx"], 1, "missing.onnx: no such file"),
    (["export", "missing.keras"], 1, "missing.keras: no such file"),
    (["run", "missing.keras"], 1, "missing.keras: no such file"),
]


@pytest.mark.parametrize(("arguments", "status", "says"), BAD_USAGE, ids=str)
def test_wrong_usage(
    lenet_edge: LenetEdge,
    lenet_edge_here: LenetEdge,
    arguments: list[str],
    status: int,
    says: str,
) -> None:
    # Python decodes the arguments of a process. Of the rest, one for each status needs a process.
    is_bytes = any("\udcff" in argument for argument in arguments)
    needs_process = is_bytes or arguments in (["benhc"], ["verify"])
    done = (lenet_edge if needs_process else lenet_edge_here)(*arguments)
    assert (done.returncode, done.stdout) == (status, "")
    assert says in one_line(done.stderr)


def one_line(stderr: str) -> str:
    """Return the error of a command, after the check that it is one line and the last one."""
    assert "Traceback" not in stderr
    errors = [line for line in stderr.splitlines() if line.startswith("Error: ")]
    assert stderr.splitlines()[-1:] == errors, stderr
    return errors[0]


@pytest.fixture
def own_exports(exports: Path, tmp_path: Path) -> Path:
    """Copy the exported files, so that a test can damage them."""
    return Path(shutil.copytree(exports, tmp_path / "own"))


def test_an_empty_file(lenet_edge: LenetEdge, own_exports: Path) -> None:
    file = own_exports / "lenet_int8.tflite"
    file.write_bytes(b"")
    assert "is empty" in one_line(lenet_edge("verify", file).stderr)


def test_a_file_that_is_not_a_model(lenet_edge: LenetEdge, own_exports: Path) -> None:
    file = own_exports / "lenet_int8.tflite"
    file.write_text("Dear diary, today I trained a network.")
    assert "is not a model" in one_line(lenet_edge("bench", file).stderr)


def test_a_tflite_file_renamed_to_onnx(lenet_edge: LenetEdge, own_exports: Path) -> None:
    file = own_exports / "lenet_int8.tflite"
    renamed = file.rename(own_exports / "other.onnx")
    assert "is named .onnx but is a tflite file" in one_line(lenet_edge("verify", renamed).stderr)


def test_a_file_changed_after_its_manifest(lenet_edge: LenetEdge, own_exports: Path) -> None:
    file = own_exports / "lenet_int8.tflite"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 0xFF
    file.write_bytes(content)
    assert "the sha256 differs" in one_line(lenet_edge("verify", file).stderr)


def test_a_checkpoint_that_is_cut_off(lenet_edge_here: LenetEdge, own_exports: Path) -> None:
    file = own_exports / "lenet.keras"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    done = lenet_edge_here("export", file, "--output-dir", own_exports)
    assert done.returncode == 1
    assert "lenet.keras" in one_line(done.stderr)


def test_an_unknown_target_gets_a_suggestion(lenet_edge: LenetEdge, exports: Path) -> None:
    done = lenet_edge("bench", exports / "lenet_int8.tflite", "--target", "litret")
    assert "did you mean litert" in one_line(done.stderr)
    assert done.returncode == 1


def test_a_target_of_another_format(lenet_edge: LenetEdge, exports: Path) -> None:
    done = lenet_edge("bench", exports / "lenet_int8.tflite", "--target", "onnxruntime-cpu")
    assert "none of the files runs on onnxruntime-cpu" in one_line(done.stderr)


@pytest.mark.costly
def test_debug_shows_the_traceback(lenet_edge: LenetEdge) -> None:
    for arguments in (["--debug", "verify", "no.onnx"], ["verify", "no.onnx", "--debug"]):
        done = lenet_edge(*arguments)
        assert "Traceback" in done.stderr
        assert done.returncode == 1


def test_an_output_folder_that_cannot_be_written(
    lenet_edge: LenetEdge, exports: Path, tmp_path: Path
) -> None:
    # root ignores permissions. A file with the name of the folder is an error for root too.
    (tmp_path / "taken").write_text("mine")
    done = lenet_edge("verify", exports / "lenet_float32.tflite", "--target", "litert",
                      "--json", "taken/result.json")  # fmt: skip
    assert "cannot write taken/result.json" in one_line(done.stderr)
    assert (tmp_path / "taken").read_text() == "mine"


def test_a_read_only_folder(lenet_edge_here: LenetEdge, exports: Path) -> None:
    # No user can create files in /sys, not even root.
    done = lenet_edge_here("export", exports / "lenet.keras", "--output-dir", "/sys/lenet-edge")
    assert done.returncode == 1
    assert "cannot write into /sys/lenet-edge:" in one_line(done.stderr)
