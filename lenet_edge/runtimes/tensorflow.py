"""TensorFlow: the Keras model in float, and TensorFlow's TFLite interpreter."""

from __future__ import annotations

import os
import types
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge.artifacts.artifact import Artifact, TensorSpec
from lenet_edge.artifacts.keras_file import loadable
from lenet_edge.errors import TargetError
from lenet_edge.runtimes._tflite import open_interpreter
from lenet_edge.support.safe_import import outside_of_the_current_folder
from lenet_edge.target import (
    Array,
    Delegation,
    InputValues,
    Session,
    Target,
    TensorSession,
    check_dtype,
    check_sizes,
)


def _target(name: str, preference: int, format: str = "keras", device: str = "cpu") -> Target:
    return Target(
        name=f"tensorflow-{name}",
        runtime="tensorflow",
        formats=(format,),
        device=device,
        delegate="GPU" if device == "gpu" else None,
        package="tensorflow",
        extra="host",
        preference=preference,
    )


TARGETS = (
    _target("function", 50),
    _target("gpu", 55, device="gpu"),
    _target("xla", 91),
    _target("eager", 92),
    _target("lite", 93, "tflite"),  # the same kernels as LiteRT, after five seconds of import
)


class KerasSession(TensorSession):
    """Session over a Keras model: eager, in a `tf.function`, or compiled by XLA."""

    def __init__(self, model: Any, artifact: Artifact, target: Target) -> None:
        import tensorflow as tf

        def call(*values: Any) -> Any:
            # Several inputs may form lists and dictionaries, in the order of `flatten`.
            tree = tf.keras.tree
            one = values[0] if len(values) == 1 else None
            packed = tree.pack_sequence_as(model._inputs_struct, values) if one is None else one
            return tree.flatten(model(packed, training=False))

        self._tf, self._device = tf, f"/{target.device.upper()}:0"
        self._call: Any = call
        if target.name != "tensorflow-eager":
            self._call = tf.function(call, jit_compile=target.name == "tensorflow-xla")
        self.input_specs = _specs(model.inputs, artifact.inputs, "input")
        self.output_specs = _specs(model.outputs, artifact.outputs, "output")
        self.runtime_version = tf.__version__
        self.delegation = self._on_gpu() if target.device == "gpu" else None

    def _on_gpu(self) -> Delegation:
        # Soft placement is off, so an operation without a GPU kernel raises an error.
        values = [self._tf.TensorSpec(spec.shape, spec.dtype) for spec in self.input_specs]
        nodes = len(self._call.get_concrete_function(*values).graph.get_operations())
        (device, *_) = self._tf.config.list_physical_devices("GPU")
        details = self._tf.config.experimental.get_device_details(device)
        name = details.get("device_name", device.name)
        return Delegation("GPU", nodes, nodes, device=name, precision="float32")

    def prepare(self, values: InputValues) -> None:
        """Copy the values into tensors on the device."""
        arrays = self.arrays(values)
        check_sizes(self.input_specs, arrays)
        with self._tf.device(self._device):
            self._values = [self._tf.constant(array) for array in arrays]

    def infer(self) -> None:
        """Call the model and copy its results to the host, which waits for the device."""
        with self._tf.device(self._device):
            self._results = [result.numpy() for result in self._call(*self._values)]

    def outputs(self) -> dict[str, Array]:
        """Return a copy of each result."""
        names = [spec.name for spec in self.output_specs]
        return dict(zip(names, map(np.array, self._results), strict=True))

    def close(self) -> None:
        """Release the function and its model."""
        self._call = None


def _specs(
    tensors: Any, manifest_specs: tuple[TensorSpec, ...], side: str
) -> tuple[TensorSpec, ...]:
    # Keras numbers its tensors in each process, so only the manifest's names are stable.
    named = len(manifest_specs) == len(tensors)
    names = [spec.name for spec in manifest_specs] if named else [t.name for t in tensors]
    return tuple(
        TensorSpec(name, tuple(tensor.shape), check_dtype(name, str(tensor.dtype), side))
        for name, tensor in zip(names, tensors, strict=True)
    )


def absence(target: Target) -> str | None:
    """Return why the device is absent, or None if that needs a trial."""
    if target.device == "gpu" and not Path("/dev/nvidiactl").exists():
        return "there is no NVIDIA GPU; install its driver and 'tensorflow[and-cuda]'"
    return None


def open_session(artifact: Artifact, target: Target, num_threads: int) -> Session:
    """Load a .keras file (in safe mode, without pickled code) or a .tflite file."""
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    with outside_of_the_current_folder():
        import tensorflow as tf

        if target.name != "tensorflow-lite":
            _ = tf.keras.layers  # imports Keras, which imports matplotlib

    if target.name == "tensorflow-lite":
        vendor = types.SimpleNamespace(
            Interpreter=tf.lite.Interpreter,
            OpResolverType=tf.lite.experimental.OpResolverType,
            load_delegate=tf.lite.experimental.load_delegate,
        )
        return open_interpreter(vendor, tf.__version__, artifact, target, num_threads, plain=False)
    if target.device == "gpu":
        if not tf.config.list_physical_devices("GPU"):
            raise TargetError(
                "TensorFlow finds no GPU; install the NVIDIA driver, and run: pip install"
                " 'tensorflow[and-cuda]'"
            )
        tf.config.set_soft_device_placement(False)
    threading = tf.config.threading
    if threading.get_intra_op_parallelism_threads() != num_threads:
        try:
            threading.set_intra_op_parallelism_threads(num_threads)
            threading.set_inter_op_parallelism_threads(1)
        except RuntimeError:
            raise TargetError(
                "TensorFlow fixes its number of threads at the first call; use a fresh process"
            ) from None
    with loadable(artifact.path) as path:
        model = tf.keras.models.load_model(path, compile=False, safe_mode=True)
    return KerasSession(model, artifact, target)
