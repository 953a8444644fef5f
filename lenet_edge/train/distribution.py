"""Distributed training with tf.distribute: the replicas that share the steps of one training.

Every replica holds all images and draws the same random numbers, and processes its own slice of
each batch. Together the replicas take the same steps as a single device with the whole batch.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import lenet_edge.model  # noqa: F401  imported first: it silences TensorFlow
from lenet_edge.errors import DataError, LenetEdgeError

import numpy as np  # isort: skip
import numpy.typing as npt  # isort: skip
import tensorflow as tf  # isort: skip

ONE, MIRRORED, MULTI_WORKER = STRATEGIES = ("one", "mirrored", "multi-worker")


def make_replicas(strategy: str) -> Replicas:
    """Create the replicas of a strategy.

    Call this before any other TensorFlow operation.

    Args:
        strategy: "one" uses a single device; "mirrored", all GPUs of this machine;
            "multi-worker", all processes that TF_CONFIG names, including the calling process, and
            waits until they are connected.

    Raises:
        LenetEdgeError: TF_CONFIG is missing or malformed, or the processes cannot connect.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if strategy == ONE:
        return Replicas(tf.distribute.OneDeviceStrategy("/gpu:0" if gpus else "/cpu:0"))
    if strategy == MIRRORED:
        return Replicas(tf.distribute.MirroredStrategy())
    _check_tf_config(os.environ.get("TF_CONFIG"))
    try:
        with _interruptible():
            return Replicas(tf.distribute.MultiWorkerMirroredStrategy())
    except (tf.errors.OpError, ValueError, KeyError, TypeError) as error:
        raise LenetEdgeError(
            f"the workers in TF_CONFIG did not connect ({_cause(error)}); start this command on"
            " each of them, with its own task index"
        ) from error


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C end the process while TensorFlow waits in native code.

    TensorFlow also installs a handler for SIGTERM that does not end the process. Restore the
    previous handlers of both signals at the end.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _check_tf_config(text: str | None) -> None:
    example = '{"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", "index": 0}}'
    try:
        config = json.loads(text or "")
        cluster, task = config["cluster"], config["task"]
        is_valid = 0 <= int(task["index"]) < len(cluster[task["type"]])
    except (ValueError, KeyError, TypeError):
        is_valid = False
    if not is_valid:
        raise LenetEdgeError(
            f"--strategy multi-worker needs the environment variable TF_CONFIG, such as {example},"
            " on each machine with its own index"
        )


class Replicas:
    """The replicas of one training, in this process and in others.

    `count` is their number. `is_chief` is True if this process writes the files.
    """

    def __init__(self, strategy: Any) -> None:
        self._strategy = strategy
        self.count = int(strategy.num_replicas_in_sync)
        resolver = strategy.cluster_resolver
        # TensorFlow's convention: the task "chief" writes files, or else the first worker.
        self.is_chief = resolver is None or resolver.task_type in (None, "chief") or (
            resolver.task_id == 0 and "chief" not in resolver.cluster_spec().jobs
        )  # fmt: skip

    def scope(self) -> Any:
        """Return the context in which the model and its optimizer must be created."""
        return self._strategy.scope()

    def check_batch_size(self, batch_size: int) -> None:
        """Check that the replicas can divide a batch evenly; otherwise gradients are not the mean.

        Raises:
            DataError: `batch_size` is not a multiple of the number of replicas.
        """
        if batch_size % self.count:
            raise DataError(
                f"a batch of {batch_size} cannot be divided among {self.count} replicas; give a"
                f" --batch-size that is a multiple of {self.count}"
            )

    def run(self, step: Callable[..., Any], *arguments: Any) -> Any:
        """Run `step` on every replica, and return the result of one replica of this process."""
        results = self._strategy.run(step, args=arguments)
        return self._strategy.experimental_local_results(results)[0]

    def local_slice(self, whole: Any) -> Any:
        """Return this replica's part of a batch: equal slices of the first axis, in order."""
        size = whole.shape[0] // self.count
        first = _replica_context().replica_id_in_sync_group * size
        part = whole[first : first + size]
        part.set_shape((size, *whole.shape[1:]))
        return part

    def sum_over_replicas(self, value: Any) -> Any:
        """Return the sum of `value` over all replicas."""
        return _replica_context().all_reduce(tf.distribute.ReduceOp.SUM, value)

    def check_same_settings(self, name: str, settings: Any) -> None:
        """Check that all workers have the same settings.

        Args:
            name: the name of the settings in the error message.
            settings: an object with a `repr` that determines it.

        Raises:
            LenetEdgeError: the settings of this worker differ from those of the first worker.
        """
        digest = hashlib.sha256(repr(settings).encode()).digest()
        own = np.frombuffer(digest[:4], np.int32)
        (first,) = self.broadcast_from_first([own])
        if first != own:
            raise LenetEdgeError(
                f"the {name} of this worker differ from those of the first worker; start all"
                " workers with the same command, on the same images"
            )

    def broadcast_from_first(self, values: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """Return the values of the first replica on every replica.

        Args:
            values: arrays; shapes and dtypes must be the same on all replicas.
        """

        def broadcast() -> list[Any]:
            is_first = tf.equal(_replica_context().replica_id_in_sync_group, 0)
            return [
                self.sum_over_replicas(tf.where(is_first, value, tf.zeros_like(value)))
                for value in map(tf.constant, values)
            ]

        return [value.numpy() for value in self.run(tf.function(broadcast))]


def _replica_context() -> Any:
    return tf.distribute.get_replica_context()


@contextlib.contextmanager
def report_lost_workers() -> Iterator[None]:
    """Turn TensorFlow's errors about a lost worker into a `LenetEdgeError` with instructions."""
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.InternalError,
            tf.errors.DeadlineExceededError, tf.errors.CancelledError) as error:  # fmt: skip
        raise LenetEdgeError(
            f"another worker disconnected ({_cause(error)}); start all workers again with --resume"
        ) from error


def _cause(error: Exception) -> str:
    text = str(error).strip()
    match = re.search(r"aborted by: *(.+)", text)  # follows a stack trace of this program
    return (match[1] if match else text.partition("\n")[0] or type(error).__name__)[:200]
