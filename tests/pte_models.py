"""ExecuTorch files of small models; the probe model: ``python -m tests.pte_models``"""

from __future__ import annotations

from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

from lenet_edge.artifacts.artifact import describe_file, load_artifact, write_manifest
from lenet_edge.runtimes._probe import FOLDER, weights
from tests.extending import ROOT

LARGEST_BATCH = 128


def write_pte(
    path: Path, function: Any, examples: tuple[Any, ...], free: bool = False, lowered: bool = True
) -> Path:
    """Export a function of tensors.

    Args:
        path: the file to write.
        function: a function of tensors, which may refer to others.
        examples: a tensor for each input.
        free: whether the first size of each input that has axes is free, up to that of the example.
        lowered: whether XNNPACK computes what it can.
    """
    import torch
    from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
    from executorch.exir import to_edge_transform_and_lower

    class Module(torch.nn.Module):  # type: ignore[misc]
        def forward(self, *inputs: Any) -> Any:
            return function(*inputs)

    batch = torch.export.Dim("batch", min=1, max=LARGEST_BATCH)
    shapes = {"inputs": tuple({0: batch} if each.ndim else None for each in examples)}
    program = torch.export.export(
        Module().eval(), examples, dynamic_shapes=shapes if free else None
    )
    partitioner = [XnnpackPartitioner()] if lowered else None
    edge = to_edge_transform_and_lower(program, partitioner=partitioner)
    path.write_bytes(edge.to_executorch().buffer)
    return path


def write_lenet(path: Path, batch: int | None = None) -> Path:
    """Write LeNet with the weights of ``exported/lenet_float32.onnx``."""
    import onnx
    import torch
    from onnx import numpy_helper
    from torch.nn import functional

    graph = onnx.load(ROOT / "exported" / "lenet_float32.onnx").graph
    tensors = [torch.tensor(numpy_helper.to_array(tensor)) for tensor in graph.initializer]
    first, first_bias, second, second_bias, *dense = (t for t in tensors if t.is_floating_point())
    dense[::2] = [matrix.T.contiguous() for matrix in dense[::2]]  # in `lenet`, calls would do it

    def lenet(image: Any) -> Any:
        values = image.reshape(-1, 1, 28, 28)
        for kernels, bias in ((first, first_bias), (second, second_bias)):
            values = functional.relu(functional.conv2d(values, kernels, bias))
            values = functional.max_pool2d(values, 2)
        values = values.reshape(-1, 400)
        for number in range(0, len(dense), 2):
            values = functional.relu(values) if number else values
            values = functional.linear(values, dense[number], dense[number + 1])
        return values

    example = torch.zeros(batch or LARGEST_BATCH, 28, 28, 1)
    return write_pte(path, lenet, (example,), free=batch is None)


def write_probe() -> None:
    """Write the probe model and its manifest into the package."""
    import torch

    matrix = torch.from_numpy(weights())
    path = FOLDER / "probe.pte"
    write_pte(
        path,
        lambda image: image.reshape(-1, len(matrix)) @ matrix,
        (torch.zeros(128, 4, 4, 1),),
        True,
    )
    describe(path, FOLDER / "probe.onnx")


def describe(path: Path, like: Path) -> None:
    """Write the manifest of a .pte file that is the same network as another file."""
    other = load_artifact(like)
    artifact = describe_file(
        path, precision="float32", batch_size=None,
        inputs=tuple(replace(spec, name="input") for spec in other.inputs),
        outputs=tuple(replace(spec, name="output") for spec in other.outputs),
        parent_sha256=None, converter=f"executorch {version('executorch')}", calibration=None,
        labels=other.labels, preprocessing=other.preprocessing, head=other.head,
    )  # fmt: skip
    write_manifest(artifact)


if __name__ == "__main__":
    write_probe()
