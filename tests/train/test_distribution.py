"""Tests of distributed training, with several worker processes on this machine."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from lenet_edge.data.dataset import Dataset
from lenet_edge.errors import DataError, LenetEdgeError
from lenet_edge.train import loop
from lenet_edge.train.distribution import make_replicas
from lenet_edge.train.recipe import BEST
from lenet_edge.train.saved_state import TrainingSettings
from tests.conftest import first_images
from tests.ports import free_port

ROOT = Path(__file__).parents[2]
# Program of a worker process: train for some steps, then write the weights and the losses.
STEPS = """
import dataclasses, sys
import numpy as np
from lenet_edge.train.distribution import make_replicas
replicas = make_replicas(sys.argv[1]) if sys.argv[1] != "none" else None
from lenet_edge.data import mnist
from lenet_edge.train import loop
from lenet_edge.train.recipe import BEST
from lenet_edge.train.saved_state import TrainingSettings
batch, count = 128, int(sys.argv[3])
recipe = dataclasses.replace(BEST, epochs=2, validation_images=0, batch_size=batch)
training = mnist.load("train").subset(slice(batch * count))
model, history = loop.train(training, mnist.load("test").subset(slice(500)),
                            TrainingSettings(recipe, seed=5), replicas=replicas)
losses = [epoch["loss"] for epoch in history.epochs]
np.savez(sys.argv[2], *model.get_weights(), losses=losses, raw=losses)
"""


def start(strategy: str, output: Path, steps: int, config: object = None) -> subprocess.Popen[str]:
    environment = {**os.environ, **({"TF_CONFIG": json.dumps(config)} if config else {})}
    return subprocess.Popen(
        [sys.executable, "-c", STEPS, strategy, str(output), str(steps)],
        cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


def finish(process: subprocess.Popen[str], output: Path) -> dict[str, npt.NDArray[np.float32]]:
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 0, stderr
    with np.load(output) as stored:
        return dict(stored)


def cluster_of(count: int) -> list[object]:
    hosts = [f"127.0.0.1:{free_port()}" for _ in range(count)]
    return [
        {"cluster": {"worker": hosts}, "task": {"type": "worker", "index": index}}
        for index in range(count)
    ]


@pytest.mark.slow
def test_two_workers_take_the_steps_of_one_process(tmp_path: Path) -> None:
    """Equal up to float32 rounding, after four steps with all settings of the best recipe."""
    alone_file, one_file = tmp_path / "alone.npz", tmp_path / "one.npz"
    alone = finish(start("none", alone_file, 2), alone_file)
    one_device = finish(start("one", one_file, 2), one_file)
    outputs = [tmp_path / f"{index}.npz" for index in range(2)]
    processes = [
        start("multi-worker", output, 2, config)
        for output, config in zip(outputs, cluster_of(2), strict=True)
    ]
    first, second = (
        finish(process, output) for process, output in zip(processes, outputs, strict=True)
    )
    assert first.keys() == alone.keys()
    for name, value in alone.items():
        np.testing.assert_array_equal(first[name], second[name])
        np.testing.assert_allclose(one_device[name], value, atol=1e-4, rtol=1e-4, err_msg=name)
        np.testing.assert_allclose(first[name], value, atol=1e-4, rtol=1e-4, err_msg=name)


def train(folder: Path, config: object, *options: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "lenet_edge", "train", "--strategy", "multi-worker"]
    return subprocess.Popen(
        [*command, "--epochs", "1", "--output", "lenet.keras", *options],
        cwd=folder, env={**os.environ, "TF_CONFIG": json.dumps(config)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip


@pytest.mark.slow
def test_ctrl_c_stops_a_worker_that_waits_for_another(tmp_path: Path) -> None:
    with train(tmp_path, cluster_of(2)[0]) as worker:
        assert worker.stderr
        while "Waiting for all workers of TF_CONFIG" not in worker.stderr.readline():
            assert worker.poll() is None
        time.sleep(3)
        worker.send_signal(signal.SIGINT)
        assert worker.wait(20) == -signal.SIGINT
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
def test_a_worker_reports_that_another_was_stopped(tmp_path: Path) -> None:
    first, second = (train(tmp_path, config, "--epochs", "50") for config in cluster_of(2))
    with first, second:
        assert second.stderr
        while not second.stderr.readline().startswith("epoch 1/50: "):
            assert second.poll() is None
        second.send_signal(signal.SIGTERM)
        assert second.wait(20) == -signal.SIGTERM
        _, stderr = first.communicate(timeout=120)
    assert first.returncode == 1
    assert re.fullmatch(
        r"Error: another worker disconnected \(.*(onnection|ocket|peer).*\);"
        r" start all workers again with --resume",
        stderr.splitlines()[-1],
    )


@pytest.mark.slow
def test_ctrl_c_in_a_terminal_stops_all_its_workers(tmp_path: Path) -> None:
    workers = [train(tmp_path, config, "--epochs", "50") for config in cluster_of(2)]
    with workers[0], workers[1]:
        assert workers[0].stderr
        while not workers[0].stderr.readline().startswith("epoch 1/50: "):
            assert workers[0].poll() is None
        for worker in workers:
            worker.send_signal(signal.SIGINT)
        last_lines = [worker.communicate(timeout=120)[1].splitlines()[-1] for worker in workers]
    assert last_lines == ["Stopped; go on with the same command and --resume", "Stopped"]
    assert [worker.returncode for worker in workers] == [130, 130]


@pytest.mark.slow
def test_two_workers_can_share_one_output_folder(tmp_path: Path, test_part: Dataset) -> None:
    images, labels = test_part.images, test_part.labels
    np.savez(
        tmp_path / "few.npz",
        x_train=images[100:1600], y_train=labels[100:1600],
        x_test=images[:100], y_test=labels[:100],
    )  # fmt: skip
    workers = [train(tmp_path, config, "--dataset", "few.npz") for config in cluster_of(2)]
    (first, _), (second, stderr) = (worker.communicate(timeout=300) for worker in workers)
    assert [worker.returncode for worker in workers] == [0, 0]
    assert "of 100 test images right" in first
    assert (second, stderr.splitlines()[-1]) == (
        "",
        "Done; the first worker has written the checkpoint",
    )
    assert {path.name for path in tmp_path.iterdir()} == {
        "few.npz", "lenet.keras", "lenet.keras.json", "lenet.training",
    }  # fmt: skip


@pytest.mark.parametrize(
    "config",
    [
        None,
        "rubbish",
        {"cluster": {"worker": ["a:1"]}},
        {"cluster": {"worker": ["a:1"]}, "task": {"type": "worker", "index": 1}},
        {"cluster": {"worker": ["a:1"]}, "task": {"type": "chief", "index": 0}},
    ],
)
def test_an_invalid_tf_config_is_an_error_before_any_wait(
    config: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("TF_CONFIG", raising=False)
    if config is not None:
        monkeypatch.setenv("TF_CONFIG", config if isinstance(config, str) else json.dumps(config))
    with pytest.raises(LenetEdgeError, match="needs the environment variable TF_CONFIG, such as"):
        make_replicas("multi-worker")


def test_a_batch_that_replicas_cannot_divide_is_an_error(test_part: Dataset) -> None:
    replicas = make_replicas("one")
    assert (replicas.count, replicas.is_chief) == (1, True)
    replicas.count = 3  # as on three devices
    settings = TrainingSettings(dataclasses.replace(BEST, epochs=1, batch_size=128))
    with pytest.raises(DataError, match="a batch of 128 cannot be divided among 3 replicas"):
        loop.train(
            first_images(test_part, 2000), first_images(test_part, 100), settings, replicas=replicas
        )
