"""Session for the runtimes that have a TFLite `Interpreter`: LiteRT, tflite-runtime, TensorFlow."""

from __future__ import annotations

import dataclasses
import importlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge.artifacts.artifact import Artifact, TensorSpec
from lenet_edge.errors import MissingPackageError, TargetError
from lenet_edge.extras import host_command
from lenet_edge.runtimes import _delegates
from lenet_edge.runtimes._layer_probe import (
    CutProbe,
    LayerProbe,
    LayerStep,
    check_cut_size,
    live_values,
)
from lenet_edge.runtimes._tflite_cut import cut
from lenet_edge.runtimes._tflite_operators import STATES, count_macs
from lenet_edge.target import (
    Array,
    Delegation,
    InputValues,
    Target,
    TensorSession,
    check_dtype,
    check_sizes,
)


class InterpreterSession(TensorSession):
    """Session over a TFLite `Interpreter` from any of its packages.

    `path` is the file, and `open_content` opens other content in the same way.
    """

    def __init__(
        self,
        interpreter: Any,
        target: Target,
        runtime_version: str,
        path: Path,
        open_content: Callable[[bytes], Any],
    ) -> None:
        self._interpreter, self._target = interpreter, target
        self._path, self._open_content = path, open_content
        inputs, outputs = interpreter.get_input_details(), interpreter.get_output_details()
        self.input_specs, self.output_specs = tensor_specs(inputs), tensor_specs(outputs, "output")
        self._inputs = [details["index"] for details in inputs]
        self._outputs = [details["index"] for details in outputs]
        self._shapes = [tuple(map(int, details["shape"])) for details in inputs]
        self.runtime_version = runtime_version
        self.state = state_of(interpreter)
        # Until they are known, free sizes are 1, which a model of images may be too large for.
        self._allocated = all(None not in spec.shape[1:] for spec in self.input_specs)
        if self._allocated:
            self._allocate()

    def _allocate(self) -> None:
        self._interpreter.allocate_tensors()
        if self._target.delegate and self.delegation is None:
            self.delegation = delegation_of(self._interpreter, self._target.delegate)
        self._allocated = True

    def prepare(self, values: InputValues) -> None:
        """Quantize the values and copy them into the input tensors, resized if necessary."""
        arrays = self.arrays(values)
        shapes = [array.shape for array in arrays]
        if shapes != self._shapes or not self._allocated:
            check_sizes(self.input_specs, arrays, free_batch=True)  # TensorFlow's would crash
            for index, old, new in zip(self._inputs, self._shapes, shapes, strict=True):
                if old != new:
                    self._interpreter.resize_tensor_input(index, new)
            self._allocate()
            self._shapes = shapes
        for index, array in zip(self._inputs, arrays, strict=True):
            self._interpreter.set_tensor(index, array)

    def infer(self) -> None:
        """Invoke the interpreter."""
        self._interpreter.invoke()

    def outputs(self) -> dict[str, Array]:
        """Return a copy of each output tensor."""
        get = self._interpreter.get_tensor
        return {
            spec.name: get(index)
            for spec, index in zip(self.output_specs, self._outputs, strict=True)
        }

    def _first_output(self) -> Array:
        output: Array = self._interpreter.get_tensor(self._outputs[0])
        return output

    def layer_probes(self, values: InputValues) -> Iterator[LayerProbe]:
        """Yield the probe that cuts the graph after each operator.

        No package offers TFLite's profiler to Python.
        """
        content = self._path.read_bytes()
        operators = self._interpreter._get_ops_details()
        details = self._interpreter.get_tensor_details()
        names = {tensor["index"]: tensor["name"] for tensor in details}
        nodes = [
            (node["op_name"], [*map(int, node["inputs"])], [*map(int, node["outputs"])])
            for node in operators
            if node["op_name"] != "DELEGATE"
        ]
        check_cut_size(self._path.name, len(nodes), len(content))
        steps = []
        for kind, _, made in nodes:
            tensor = next((names[tensor] for tensor in made if tensor >= 0), None)
            name = kind if tensor is None else tensor.split(";")[0]
            steps.append(LayerStep(name, kind, (name,), tensor))
        numeric = {t["index"] for t in details if np.dtype(t["dtype"]).kind in "biuf"}
        ends = [node[1:] for node in nodes]
        cuts = [self._cut(content, ends, n, values, numeric) for n in range(len(nodes) + 1)]
        yield CutProbe(steps, [each.infer for each in cuts])

    def _cut(
        self,
        content: bytes,
        nodes: Sequence[tuple[list[int], list[int]]],
        kept: int,
        values: InputValues,
        numeric: set[int],
    ) -> InterpreterSession:
        """Return a session that is ready to run the first operators of the graph."""
        # A resource, such as a variable, is no output.
        live = live_values(nodes, kept, self._outputs)
        outputs = [tensor for tensor in live if tensor in numeric] or self._inputs[:1]
        interpreter = self._open_content(cut(content, kept, outputs))
        session = InterpreterSession(
            interpreter, self._target, self.runtime_version, self._path, self._open_content
        )
        session.prepare(values)
        return session

    def close(self) -> None:
        """Release the interpreter and its model."""
        del self._interpreter


def open_interpreter(
    vendor: Any, version: str, artifact: Artifact, target: Target, num_threads: int, plain: bool
) -> InterpreterSession:
    """Open a .tflite file with the interpreter of one of the packages.

    Args:
        vendor: the module with `Interpreter`, `OpResolverType` and `load_delegate`.
        version: the version of the vendor's package.
        artifact: the file.
        target: the target; if it names an external delegate, the delegate is loaded.
        num_threads: the number of threads for one inference.
        plain: whether to leave out the vendor's default delegates. XNNPACK would take every node
            before an external delegate, so with one the default delegates are always left out.

    Raises:
        TargetError: the delegate cannot be loaded, or it refuses the graph.
    """
    resolver = vendor.OpResolverType
    delegates = _delegates.load(target, vendor.load_delegate)
    settings: dict[str, Any] = {
        "num_threads": num_threads,
        "experimental_delegates": delegates,
        "experimental_op_resolver_type": (
            resolver.BUILTIN_WITHOUT_DEFAULT_DELEGATES if plain or delegates else resolver.AUTO
        ),
    }
    try:
        interpreter = vendor.Interpreter(str(artifact.path), **settings)
    except RuntimeError as error:
        if not delegates:
            raise
        reason = " ".join(str(error).split())
        remedy = (
            f"its batch is free, so try: {host_command('lenet-edge export --batch-size 1')}"
            if artifact.batch_size is None
            else "try another precision or another delegate"
        )
        raise TargetError(
            f"the delegate {target.delegate} refuses {artifact.name}"
            f"{f' ({reason})' if reason else ''}; {remedy}"
        ) from error

    def open_content(content: bytes) -> Any:
        # A delegate belongs to one interpreter.
        own = {"experimental_delegates": _delegates.load(target, vendor.load_delegate)}
        return vendor.Interpreter(model_content=content, **settings | own)

    return InterpreterSession(interpreter, target, version, artifact.path, open_content)


def plain_interpreter(path: str) -> Any:
    """Return an allocated interpreter without delegates that keeps the values of all tensors.

    Raises:
        MissingPackageError: neither LiteRT nor tflite-runtime is installed.
    """
    for package in ("ai_edge_litert", "tflite_runtime"):
        try:
            module = importlib.import_module(f"{package}.interpreter")
        except ImportError:
            continue
        interpreter = module.Interpreter(
            path,
            experimental_op_resolver_type=module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
            experimental_preserve_all_tensors=True,
        )
        interpreter.allocate_tensors()
        return interpreter
    raise MissingPackageError("ai_edge_litert", "litert")


def tensor_specs(listed: Sequence[dict[str, Any]], side: str = "input") -> tuple[TensorSpec, ...]:
    """Return the TensorSpecs of `get_input_details` or `get_output_details`, with unique names.

    Raises:
        TargetError: a tensor holds text, or a resource.
    """
    specs: list[TensorSpec] = []
    for number, details in enumerate(listed):
        spec = _tensor_spec(details, side)
        if not spec.name or spec.name in {earlier.name for earlier in specs}:
            spec = dataclasses.replace(spec, name=f"{spec.name or side}:{number}")
        specs.append(spec)
    return tuple(specs)


def state_of(interpreter: Any) -> str | None:
    """Return "carried" if a model keeps variables or recurrent states between its calls."""
    kinds = {operator["op_name"] for operator in interpreter._get_ops_details()}
    return "carried" if kinds & {"ASSIGN_VARIABLE", *STATES} else None


def _tensor_spec(details: dict[str, Any], side: str) -> TensorSpec:
    signature = details.get("shape_signature", details["shape"])
    if not len(signature):  # files of old converters have none
        signature = details["shape"]
    scale, zero_point = details["quantization"]
    return TensorSpec(
        name=details["name"],
        shape=tuple(None if size < 0 else int(size) for size in signature),
        dtype=check_dtype(details["name"], details["dtype"], side),
        scale=float(scale) or None,  # 0.0 means "not quantized"
        zero_point=int(zero_point) if scale else None,
    )


def calls_batch_size(interpreter: Any) -> int:
    """Return the number of images in a call of an interpreter."""
    sizes = [details["shape"] for details in interpreter.get_input_details()]
    return int(sizes[0][0]) or 1 if sizes and len(sizes[0]) else 1


def _first_output(node: dict[str, Any], tensors: dict[int, dict[str, Any]]) -> str:
    """Return the name of the first output of a node; empty for one that assigns a variable."""
    first = next(iter(node["outputs"]), -1)
    return tensors[first]["name"].split(";")[0] if first >= 0 else ""


def delegation_of(interpreter: Any, delegate: str) -> Delegation:
    """Return the nodes of an interpreter that a delegate took, and the nodes left to the CPU.

    The interpreter keeps replaced nodes in its list, and appends one DELEGATE node per partition.
    The delegate took every node between the outputs and the inputs of a partition.
    """
    operators = interpreter._get_ops_details()
    tensors = {tensor["index"]: tensor for tensor in interpreter.get_tensor_details()}
    nodes = [node for node in operators if node["op_name"] != "DELEGATE"]
    producer = {tensor: node for node in nodes for tensor in node["outputs"]}
    claimed: set[int] = set()
    for partition in operators:
        if partition["op_name"] != "DELEGATE":
            continue
        borders = set(partition["inputs"])
        waiting = list(partition["outputs"])
        while waiting:
            node = producer.get(waiting.pop())
            if node is not None and node["index"] not in claimed:
                claimed.add(node["index"])
                waiting += [tensor for tensor in node["inputs"] if tensor not in borders]
    batch_size = calls_batch_size(interpreter)
    macs = {node["index"]: count_macs(node, tensors, batch_size) for node in nodes}
    known = None not in macs.values()
    return Delegation(
        delegate,
        nodes_total=len(nodes),
        nodes_taken=len(claimed),
        left_behind=tuple(
            f"{node['op_name']} {_first_output(node, tensors)}".strip()
            for node in nodes
            if node["index"] not in claimed
        ),
        macs_total=sum(count or 0 for count in macs.values()) if known else None,
        macs_taken=sum(macs[index] or 0 for index in claimed) if known else None,
    )
