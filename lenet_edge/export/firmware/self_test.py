"""Images of the self-test with the outputs of LiteRT's reference kernels, as a C file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from lenet_edge import worker
from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.classifier_io import to_model_input
from lenet_edge.errors import ModelFileError
from lenet_edge.model_inputs import random_inputs
from lenet_edge.runtimes.litert import open_reference_kernels
from lenet_edge.runtimes.native import Interface
from lenet_edge.support.temporary import temporary_folder
from lenet_edge.target import Array, quantize

NUM_IMAGES = 10
_TIMEOUT_S = 300
# Large images may fill this part of the flash; then there are fewer of them.
_SHARE_OF_FLASH = 4


@dataclass(frozen=True)
class SelfTest:
    """The bytes of all inputs of each image, and of all expected outputs."""

    inputs: npt.NDArray[np.uint8]
    outputs: npt.NDArray[np.uint8]


def count_images(input_bytes: int, flash_bytes: int) -> int:
    """Return the number of images: ten, or fewer if they are large."""
    return max(1, min(NUM_IMAGES, flash_bytes // _SHARE_OF_FLASH // input_bytes))


def make(artifact: Artifact, tflite: Path, images: Array | None, flash_bytes: int) -> SelfTest:
    """Select the images, and compute their outputs in a worker.

    Args:
        artifact: the C file.
        tflite: the .tflite file that it was made from.
        images: images, of which the first are used; None for random inputs.
        flash_bytes: the flash of the board.
    """
    if images is not None and len(artifact.inputs) == 1:
        values = to_model_input(images[:NUM_IMAGES], artifact)
        rows = [[quantize(value, artifact.inputs[0])] for value in values]
    else:
        rows = [list(call.values()) for call in random_inputs(artifact.inputs, 1, NUM_IMAGES)]
    inputs = np.array(
        [np.frombuffer(b"".join(each.tobytes() for each in row), np.uint8) for row in rows]
    )
    inputs = inputs[: count_images(inputs.shape[1], flash_bytes)]
    with temporary_folder() as folder:
        np.save(folder / "inputs.npy", inputs)
        call = compute_outputs.bind(tflite.absolute(), folder / "inputs.npy", folder / "out.npy")
        worker.run(call.within(_TIMEOUT_S))
        return SelfTest(inputs, np.load(folder / "out.npy", allow_pickle=False))


@worker.function
def compute_outputs(tflite: Path, inputs: Path, outputs: Path) -> None:
    """Compute the outputs of LiteRT's reference kernels.

    Args:
        tflite: the .tflite file.
        inputs: the .npy file with the bytes of all inputs of each image.
        outputs: the .npy file to write, with the bytes of all outputs of each image.
    """
    litert = open_reference_kernels(tflite.read_bytes())
    litert.allocate_tensors()
    results = []
    for image in np.load(inputs, allow_pickle=False):
        place = 0
        for details in litert.get_input_details():
            tensor = np.zeros(details["shape"], details["dtype"])
            end = place + tensor.nbytes
            values = np.frombuffer(image[place:end].tobytes(), tensor.dtype)
            litert.set_tensor(details["index"], values.reshape(tensor.shape))
            place = end
        litert.invoke()
        tensors = [litert.get_tensor(details["index"]) for details in litert.get_output_details()]
        results.append(np.frombuffer(b"".join(each.tobytes() for each in tensors), np.uint8))
    np.save(outputs, np.array(results))


def model_file(artifact: Artifact, interface: Interface, stem: str, test: SelfTest) -> str:
    """Return the text of firmware_model.c: the tensors, the call, and the self-test."""
    specs = (*artifact.inputs, *artifact.outputs)
    names = [f"input_{n}" for n in range(len(artifact.inputs))]
    names += [f"output_{n}" for n in range(len(artifact.outputs))]
    buffers, entries = [], []
    for spec, size, name in zip(specs, interface.sizes, names, strict=True):
        kind = _C_TYPES.get(spec.dtype)
        if kind is None:
            raise ModelFileError(
                f"{artifact.name} has a tensor of {spec.dtype}, which firmware does not take;"
                " choose --format native"
            )
        buffers.append(f"static _Alignas(16) {kind} {name}[{size}];")
        code = np.dtype(spec.dtype).char
        entries.append(f"    {{(uint8_t *){name}, sizeof {name}, '{code}'}},")
    split = len(artifact.inputs)
    digits = ", ".join(f"0x{artifact.sha256[n : n + 2]}" for n in range(0, 64, 2))
    return "\n".join(
        [
            f"/* Tensors and self-test of {stem}.c. Made by lenet-edge; do not edit. */",
            '#include "firmware.h"',
            f'#include "{stem}.h"',
            "",
            *buffers,
            "",
            f"static void run(void) {{ {interface.name}({', '.join(names)}); }}",
            "",
            "static const struct firmware_tensor inputs[] = {",
            *entries[:split],
            "};",
            "static const struct firmware_tensor outputs[] = {",
            *entries[split:],
            "};",
            "/* The images of the self-test, and the outputs of LiteRT's reference kernels. */",
            _byte_array("images", test.inputs),
            _byte_array("expected", test.outputs),
            "const struct firmware_model firmware_model = {",
            f'    "{interface.name}",',
            f"    {{{digits}}},",
            f"    {split}, {len(specs) - split}, {len(test.inputs)},",
            "    inputs, outputs, images, expected, run,",
            "};",
            "",
        ]
    )


_C_TYPES = {"float32": "float", "int8": "int8_t", "uint8": "uint8_t", "int16": "int16_t",
            "int32": "int32_t"}  # fmt: skip


def _byte_array(name: str, values: npt.NDArray[np.uint8]) -> str:
    rows = [
        "    " + "".join(f"{value}," for value in values.ravel()[start : start + 20])
        for start in range(0, values.size, 20)
    ]
    return "\n".join([f"static const uint8_t {name}[] = {{", *rows, "};"])
