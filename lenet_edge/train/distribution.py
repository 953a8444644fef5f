"""Who takes a part of each batch: tf.distribute's strategies, under the names of ``--strategy``.

All workers hold all images and draw the same random numbers, and each takes its slice of every
batch: together they take the steps that one would take with the whole.
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

import lenet_edge.model  # noqa: F401  imported first: it quiets TensorFlow
from lenet_edge.errors import DataError, LenetEdgeError

import numpy as np  # isort: skip
import numpy.typing as npt  # isort: skip
import tensorflow as tf  # isort: skip

ONE, MIRRORED, MULTI_WORKER = STRATEGIES = ("one", "mirrored", "multi-worker")


def make_replicas(strategy: str) -> Replicas:
    """Return the workers of a strategy; call it before anything else is done with TensorFlow.

    Args:
        strategy: "one" is a single device; "mirrored", every GPU of this machine; "multi-worker",
            every process that TF_CONFIG names, this one among them. It waits for the others.

    Raises:
        LenetEdgeError: TF_CONFIG is missing or not what TensorFlow documents.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if strategy == ONE:
        return Replicas(tf.distribute.OneDeviceStrategy("/gpu:0" if gpus else "/cpu:0"))
    if strategy == MIRRORED:
        return Replicas(tf.distribute.MirroredStrategy())
    _check_config(os.environ.get("TF_CONFIG"))
    try:
        with _interruptible():
            return Replicas(tf.distribute.MultiWorkerMirroredStrategy())
    except (tf.errors.OpError, ValueError, KeyError, TypeError) as error:
        raise LenetEdgeError(
            f"the workers of TF_CONFIG did not come together ({_cause(error)}); start this"
            " command on each of them, with its own task index"
        ) from error


@contextlib.contextmanager
def _interruptible() -> Iterator[None]:
    """Let Ctrl-C end the program while TensorFlow waits and does not come back to Python.

    It also takes SIGTERM for itself, and lives on: what was there before is put back.
    """
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _check_config(text: str | None) -> None:
    example = '{"cluster": {"worker": ["HOST:PORT", ...]}, "task": {"type": "worker", "index": 0}}'
    try:
        config = json.loads(text or "")
        kinds, task = config["cluster"], config["task"]
        fits = 0 <= int(task["index"]) < len(kinds[task["type"]])
    except (ValueError, KeyError, TypeError):
        fits = False
    if not fits:
        raise LenetEdgeError(
            f"--strategy multi-worker needs the environment variable TF_CONFIG, such as {example},"
            " on each machine with its own index"
        )


class Replicas:
    """The replicas that share a training, in this process and others."""

    def __init__(self, strategy: Any) -> None:
        self._strategy = strategy
        self.count = int(strategy.num_replicas_in_sync)
        resolver = strategy.cluster_resolver
        # As TensorFlow has it: the chief, or where there is none the first worker, keeps files.
        self.is_chief = resolver is None or resolver.task_type in (None, "chief") or (
            resolver.task_id == 0 and "chief" not in resolver.cluster_spec().jobs
        )  # fmt: skip

    def scope(self) -> Any:
        """Return the context in which the model and its optimizer are built."""
        return self._strategy.scope()

    def check_batch_size(self, batch_size: int) -> None:
        """Refuse a batch that cannot be divided evenly: its gradients would not be the mean.

        Raises:
            DataError: it cannot.
        """
        if batch_size % self.count:
            raise DataError(
                f"a batch of {batch_size} cannot be divided among {self.count} workers; give a"
                f" --batch-size that is a multiple of {self.count}"
            )

    def run(self, step: Callable[..., Any], *arguments: Any) -> Any:
        """Let each worker take its part of a step, and return what one of them returned."""
        found = self._strategy.run(step, args=arguments)
        return self._strategy.experimental_local_results(found)[0]

    def local_slice(self, whole: Any) -> Any:
        """Return this worker's part of a batch: equal slices of the first axis, in order."""
        size = whole.shape[0] // self.count
        first = _replica().replica_id_in_sync_group * size
        part = whole[first : first + size]
        part.set_shape((size, *whole.shape[1:]))
        return part

    def sum_over_replicas(self, value: Any) -> Any:
        """Return the sum of what each worker has."""
        return _replica().all_reduce(tf.distribute.ReduceOp.SUM, value)

    def check_same_settings(self, what: str, settings: Any) -> None:
        """Check that all workers were started alike.

        Raises:
            LenetEdgeError: this one has not what the first has.
        """
        ours = np.frombuffer(hashlib.sha256(repr(settings).encode()).digest()[:4], np.int32)
        (theirs,) = self.broadcast_from_first([ours])
        if theirs != ours:
            raise LenetEdgeError(
                f"this worker's {what} are not those of the first; start all with the same"
                " command, on the same images"
            )

    def broadcast_from_first(self, values: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """Return what the first worker has, on each; shapes and types must be alike."""

        def share() -> list[Any]:
            first = tf.equal(_replica().replica_id_in_sync_group, 0)
            return [
                self.sum_over_replicas(tf.where(first, v, tf.zeros_like(v)))
                for v in map(tf.constant, values)
            ]

        return [found.numpy() for found in self.run(tf.function(share))]


def _replica() -> Any:
    return tf.distribute.get_replica_context()


@contextlib.contextmanager
def report_lost_workers() -> Iterator[None]:
    """Turn the loss of another worker into an error that says what to do."""
    try:
        yield
    except (tf.errors.UnavailableError, tf.errors.AbortedError, tf.errors.InternalError,
            tf.errors.DeadlineExceededError, tf.errors.CancelledError) as error:  # fmt: skip
        raise LenetEdgeError(
            f"another worker went away ({_cause(error)}); start all of them again with --resume"
        ) from error


def _cause(error: Exception) -> str:
    text = str(error).strip()
    found = re.search(r"aborted by: *(.+)", text)  # behind a trace of our own program
    return (found[1] if found else text.partition("\n")[0] or type(error).__name__)[:200]
