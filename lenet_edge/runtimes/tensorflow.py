"""TensorFlow itself, running the .keras checkpoint: the float reference that people start from."""

from __future__ import annotations

import os
from typing import Any

import numpy as np

from lenet_edge.artifact import Artifact, TensorSpec
from lenet_edge.errors import TargetError
from lenet_edge.target import Delegation, Images, Logits, Session, Target

TARGETS = (
    Target(
        name="tensorflow-function",
        runtime="tensorflow",
        formats=("keras",),
        device="cpu",
        delegate=None,
        package="tensorflow",
        extra="host",
        preference=50,
    ),
)


class FunctionSession:
    """A Session over a Keras model inside one `tf.function`."""

    delegation: Delegation | None = None

    def __init__(self, model: Any, artifact: Artifact, runtime_version: str) -> None:
        import tensorflow as tf

        self._constant = tf.constant
        self._function = tf.function(lambda images: model(images, training=False))
        self.inputs = (_spec(model.inputs[0], artifact.inputs),)
        self.outputs = (_spec(model.outputs[0], artifact.outputs),)
        self.runtime_version = runtime_version

    def prepare(self, images: Images) -> None:
        """Copy the images into a tensor."""
        self._images = self._constant(images)

    def infer(self) -> None:
        """Call the function; on the CPU it returns when the work is done."""
        self._result = self._function(self._images)

    def logits(self) -> Logits:
        """Copy the result out."""
        return np.array(self._result, np.float32)

    def close(self) -> None:
        """Drop the function and the model in it."""
        self._function = None


def _spec(tensor: Any, known: tuple[TensorSpec, ...]) -> TensorSpec:
    # Keras numbers its tensors anew in each process; the manifest's name stays.
    name = known[0].name if known else tensor.name
    return TensorSpec(name, tuple(tensor.shape), str(tensor.dtype))


def open_session(artifact: Artifact, target: Target, num_threads: int) -> Session:
    """Load a .keras file (never with pickled code in it) for inference on the CPU."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    import tensorflow as tf

    threading = tf.config.threading
    if threading.get_intra_op_parallelism_threads() != num_threads:
        try:
            threading.set_intra_op_parallelism_threads(num_threads)
            threading.set_inter_op_parallelism_threads(1)
        except RuntimeError:
            raise TargetError(
                "TensorFlow fixes its number of threads when it first runs; use a fresh process"
            ) from None
    model = tf.keras.models.load_model(artifact.path, compile=False, safe_mode=True)
    return FunctionSession(model, artifact, tf.__version__)
