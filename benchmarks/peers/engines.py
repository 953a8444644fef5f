"""The engines to compare, each with the best way to run LeNet that its documents show.

The targets of lenet-edge run through their sessions. The other engines have an adapter here: a
function that returns a `Call`. All of them have the weights of ``exported/lenet_float32.onnx``.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.record import EXPORTED
from lenet_edge.artifacts.artifact import load_artifact
from lenet_edge.runtimes import absence, get_target, open_session
from lenet_edge.support.child_program import run_program
from lenet_edge.support.python_command import python_module
from tests import pte_models

Array = npt.NDArray[Any]
ONNX = Path(EXPORTED) / "lenet_float32.onnx"


@dataclass(frozen=True)
class Call:
    """One inference of an engine.

    Attributes:
        version: the version of the engine.
        load: takes an image, float32 of shape (1, 28, 28, 1).
        infer: computes; only this is timed.
        logits: returns the ten logits.
    """

    version: str
    load: Callable[[Array], object]
    infer: Callable[[], object]
    logits: Callable[[], Array]


@dataclass(frozen=True)
class Engine:
    """One engine with one file.

    Attributes:
        name: the name of the engine.
        file: a file of ``exported/``, or a description of the network.
        target: the target of lenet-edge that runs the file; None for an adapter.
        package: the Python package of the engine.
        adapter: opens the network, if there is no target.
        source: writes the file to a folder, if it is not in ``exported/``.
    """

    name: str
    file: str
    target: str | None = None
    package: str | None = None
    adapter: Callable[[], Call] | None = None
    source: Callable[[Path], Path] | None = None

    @property
    def label(self) -> str:
        """The engine and the file."""
        return f"{self.name}, {self.file}"

    def absence(self) -> str | None:
        """Return why the engine cannot be measured here, None if nothing is known to be missing."""
        if self.target:
            try:
                return absence(get_target(self.target))
            except Exception as error:
                return str(error)
        assert self.package
        parent = self.package.split(".")[0]
        installed = find_spec(parent) and find_spec(self.package)
        return None if installed else f"{self.package} is not installed"

    def open(self, folder: Path) -> Call:
        """Open the network.

        Args:
            folder: the folder for files that are not in ``exported/``.
        """
        if self.adapter:
            return self.adapter()
        path = self.source(folder) if self.source else Path(EXPORTED) / self.file
        assert self.target
        session = open_session(load_artifact(path), get_target(self.target))
        session.prepare(np.zeros((1, 28, 28, 1), np.float32))  # some sessions now replace `infer`
        return Call(session.runtime_version, session.prepare, session.infer, session.logits)


def _write_pte(folder: Path) -> Path:
    path = folder / "lenet_float32.pte"
    if not path.exists():
        pte_models.write_lenet(path, batch=1)
        pte_models.describe(path, ONNX)
    return path


def _write_ncnn(folder: Path) -> Path:
    path = folder / "lenet_ncnn_float32.param"
    if not path.exists():
        checkpoint = str(Path(EXPORTED).resolve() / "lenet.keras")
        command = ("lenet_edge", "export", checkpoint, "--format", "ncnn", "--output-dir")
        done = run_program([*python_module(*command), str(folder)], folder)
        if done.returncode:
            raise RuntimeError(done.stderr)
    return path


def _weights() -> dict[str, Array]:
    """Return the float32 weights of LeNet by their names in the .onnx file."""
    import onnx
    from onnx import numpy_helper

    tensors = {each.name: numpy_helper.to_array(each) for each in onnx.load(ONNX).graph.initializer}
    return {name: tensor for name, tensor in tensors.items() if tensor.dtype == np.float32}


def open_torch() -> Call:
    """PyTorch as most programs call it: a module in inference mode, one thread."""
    import torch
    from torch.nn import functional

    torch.set_num_threads(1)
    weights = [torch.tensor(each) for each in _weights().values()]
    for number in range(4, len(weights), 2):
        weights[number] = weights[number].T.contiguous()
    image = torch.zeros(1, 28, 28, 1)
    result = torch.zeros(1, 10)

    def infer() -> None:
        nonlocal result
        with torch.inference_mode():
            values = image.reshape(1, 1, 28, 28)
            for number in (0, 2):
                values = functional.conv2d(values, weights[number], weights[number + 1])
                values = functional.max_pool2d(functional.relu(values), 2)
            values = values.reshape(1, 400)
            for number in (4, 6, 8):
                values = functional.relu(values) if number > 4 else values
                values = functional.linear(values, weights[number], weights[number + 1])
            result = values

    return Call(
        torch.__version__,
        lambda values: image.copy_(torch.from_numpy(values)),
        infer,
        lambda: np.array(result),
    )


def open_tvm() -> Call:
    """TVM without tuning, which would take minutes."""
    import onnx
    import tvm
    from tvm import relax
    from tvm.relax.frontend.onnx import from_onnx
    from tvm.target import codegen

    module = from_onnx(
        onnx.load(ONNX), shape_dict={"image": [1, 28, 28, 1]}, keep_params_in_input=False
    )
    executable = relax.build(
        module, tvm.target.Target({"kind": "llvm", "mcpu": codegen.llvm_get_system_cpu()})
    )
    machine = relax.VirtualMachine(executable, tvm.cpu())
    main = machine["main"]
    image = np.zeros((1, 28, 28, 1), np.float32)
    tensor = tvm.runtime.tensor(image)
    result: list[Any] = []

    def infer() -> None:
        result[:] = [main(tensor)]

    def logits() -> Array:
        value = result[0]
        return np.array((value if hasattr(value, "numpy") else value[0]).numpy())

    return Call(tvm.__version__, tensor.copyfrom, infer, logits)


def open_iree() -> Call:
    """IREE, compiled for this CPU from the ONNX graph."""
    import iree.compiler.tools as tools
    import iree.runtime as runtime
    from iree.compiler import version

    with tempfile.TemporaryDirectory() as folder:
        mlir = Path(folder) / "lenet.mlir"
        _import_onnx(mlir)
        flags = ["--iree-llvmcpu-target-cpu=host", "--iree-opt-level=O3"]
        content = tools.compile_file(
            str(mlir), input_type="onnx", target_backends=["llvm-cpu"], extra_args=flags
        )
    config = runtime.Config("local-sync")
    module = runtime.load_vm_module(
        runtime.VmModule.copy_buffer(config.vm_instance, content), config
    )
    name = next(name for name in module.vm_module.function_names if not name.startswith("_"))
    function = module[name.removesuffix("$async")]
    state: dict[str, Any] = {}

    def load(values: Array) -> None:
        state["image"] = runtime.asdevicearray(config.device, values)

    def infer() -> None:
        state["result"] = function(state["image"])

    def logits() -> Array:
        return np.array(state["result"].to_host())

    return Call(getattr(version, "VERSION", "?"), load, infer, logits)


def _import_onnx(path: Path) -> None:
    """Write the ONNX graph with a batch of one as MLIR."""
    import onnx
    from iree.compiler.extras import onnx_importer
    from iree.compiler.ir import Context
    from onnx import shape_inference

    model = onnx.load(ONNX)
    for value in (*model.graph.input, *model.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    model = shape_inference.infer_shapes(model)
    information = onnx_importer.ModelInfo(model)
    with Context() as context:
        module = information.create_module(context=context)
        importer = onnx_importer.NodeImporter.define_function(
            information.main_graph, module.operation
        )
        importer.import_all()
        path.write_text(str(module), encoding="utf-8")


ENGINES = (
    Engine("native C", "lenet_native_float32.c", "native-cpu"),
    Engine("native C", "lenet_native_dynamic.c", "native-cpu"),
    Engine("native C", "lenet_native_int8.c", "native-cpu"),
    Engine("LiteRT", "lenet_float32.tflite", "litert-xnnpack"),
    Engine("LiteRT", "lenet_dynamic.tflite", "litert-xnnpack"),
    Engine("LiteRT", "lenet_int8.tflite", "litert-xnnpack"),
    Engine("tflite-runtime", "lenet_float32.tflite", "tflite-runtime-cpu"),
    Engine("tflite-runtime", "lenet_int8.tflite", "tflite-runtime-cpu"),
    Engine("TFLite Micro", "lenet_int8.tflite", "tflite-micro-cpu"),
    Engine("ONNX Runtime", "lenet_float32.onnx", "onnxruntime-cpu"),
    Engine("ONNX Runtime", "lenet_int8.onnx", "onnxruntime-cpu"),
    Engine("OpenVINO", "lenet_float32.onnx", "openvino-cpu"),
    Engine("OpenVINO", "lenet_int8.onnx", "openvino-cpu"),
    Engine("OpenCV", "lenet_float32.onnx", "opencv-cpu"),
    Engine("OpenCV", "lenet_int8.onnx", "opencv-cpu"),
    Engine("ncnn", "float32, from the checkpoint", "ncnn-cpu", source=_write_ncnn),
    Engine("ExecuTorch", "float32, from PyTorch", "executorch-cpu", source=_write_pte),
    Engine("TVM", "lenet_float32.onnx, not tuned", package="tvm", adapter=open_tvm),
    Engine("IREE", "lenet_float32.onnx", package="iree.compiler", adapter=open_iree),
    Engine("PyTorch", "float32, eager", package="torch", adapter=open_torch),
)
# Engines that are not measured, with the reason.
LEFT_OUT = {"MNN": "its converter installs packages into the first pip on the path"}
