"""Tests that a resumed training ends with the weights of an uninterrupted one."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from lenet_edge.data import mnist
from tests.conftest import LenetEdge, first_images

pytestmark = pytest.mark.costly

EPOCHS = 8


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "some.npz"
    training, test = (
        first_images(mnist.load("train"), 12_000),
        first_images(mnist.load("test"), 500),
    )
    np.savez(path, x_train=training.images, y_train=training.labels,
             x_test=test.images, y_test=test.labels)  # fmt: skip
    return path


def command(data: Path, output: Path, *options: str) -> list[str]:
    return [
        sys.executable, "-m", "lenet_edge", "train", "--dataset", str(data), "--seed", "5",
        "--epochs", str(EPOCHS), "--output", str(output), *options,
    ]  # fmt: skip


def start(arguments: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(arguments, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def epochs_done(folder: Path) -> int:
    path = folder / "history.json"
    return len(json.loads(path.read_text())["epochs"]) if path.exists() else 0


def wait_until_epoch(process: subprocess.Popen[bytes], folder: Path, epoch: int) -> None:
    while epochs_done(folder) < epoch:
        assert process.poll() is None, process.stderr and process.stderr.read().decode()
        time.sleep(0.001)


def kill_while_writing(process: subprocess.Popen[bytes], folder: Path) -> None:
    """Kill the training at the moment at which the temporary file of a state exists."""
    while not any(name.startswith(".tmp-") and "state" in name for name in os.listdir(folder)):
        assert process.poll() is None
    process.kill()
    process.wait()


@pytest.mark.slow
def test_a_training_killed_at_any_moment_resumes_to_the_same_weights(
    data: Path, tmp_path: Path
) -> None:
    uninterrupted, killed = tmp_path / "whole.keras", tmp_path / "broken.keras"
    subprocess.run(command(data, uninterrupted), check=True, capture_output=True)

    folder = tmp_path / "broken.training"
    process = start(command(data, killed))
    wait_until_epoch(process, folder, 1)
    time.sleep(random.Random(0).uniform(0, 0.2))  # at some step of an epoch
    process.kill()
    assert process.wait() == -signal.SIGKILL
    before = epochs_done(folder)
    assert 1 <= before < EPOCHS - 2

    process = start(command(data, killed, "--resume"))
    wait_until_epoch(process, folder, before + 1)
    kill_while_writing(process, folder)
    assert before < epochs_done(folder) < EPOCHS
    assert not killed.exists()

    subprocess.run(command(data, killed, "--resume"), check=True, capture_output=True)
    assert epochs_done(folder) == EPOCHS
    assert not (folder / "state.npz").exists()
    import tensorflow as tf

    weights = [tf.keras.models.load_model(path).get_weights() for path in (uninterrupted, killed)]
    for expected, resumed in zip(*weights, strict=True):
        assert expected.tobytes() == resumed.tobytes()


@pytest.mark.slow
def test_ctrl_c_keeps_the_last_completed_epoch(
    lenet_edge: LenetEdge, data: Path, tmp_path: Path
) -> None:
    output = tmp_path / "mine.keras"
    process = start(command(data, output, "--recipe", "best"))
    wait_until_epoch(process, tmp_path / "mine.training", 1)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate()
    assert process.returncode == 130
    assert stderr.decode().splitlines()[-1] == "Stopped; go on with the same command and --resume"

    state = (tmp_path / "mine.training" / "state.npz").read_bytes()
    again = lenet_edge(*command(data, output, "--recipe", "best")[3:])
    assert again.returncode == 1
    assert "stopped after epoch" in again.stderr.splitlines()[-1]
    assert "continue it with --resume" in again.stderr.splitlines()[-1]
    other = lenet_edge(*command(data, output, "--learning-rate", "0.1", "--resume")[3:])
    assert other.returncode == 1
    assert "with name best, not quick" in other.stderr.splitlines()[-1]
    assert (tmp_path / "mine.training" / "state.npz").read_bytes() == state


# Run the command. Send SIGINT while native code of TensorFlow calls Python, as soon as the state
# of an epoch is saved.
SIGINT_INSIDE_TENSORFLOW = """
import os, signal, sys
from pathlib import Path
from tensorflow.python.eager.context import Context
from lenet_edge.cli import main

handle, state = Context._handle.fget, Path("mine.training/state.npz")

def interrupted(self):
    if state.exists() and not sent:
        sent.append(True)
        os.kill(os.getpid(), signal.SIGINT)
    return handle(self)

sent = []
Context._handle = property(interrupted)
main(sys.argv[1:])
"""


@pytest.mark.slow
def test_ctrl_c_inside_tensorflow_stops_cleanly(data: Path, tmp_path: Path) -> None:
    arguments = command(data, tmp_path / "mine.keras")[3:]
    done = subprocess.run(
        [sys.executable, "-c", SIGINT_INSIDE_TENSORFLOW, *arguments],
        cwd=tmp_path, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 130
    assert done.stderr.splitlines()[-1] == "Stopped; go on with the same command and --resume"


def test_resume_without_a_saved_state_is_an_error(lenet_edge: LenetEdge) -> None:
    done = lenet_edge("train", "--resume", "--output", "new.keras")
    assert done.returncode == 1
    assert "there is no unfinished training in new.training" in done.stderr.splitlines()[-1]
