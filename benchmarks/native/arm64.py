"""Instructions of LeNet as C on 64-bit Arm, and the exactness of each int8 kernel set, in QEMU.

Executed instructions are not time, but they are the same in every run. The count is a mean over
images. It includes neither the driver nor the reading of images.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.native import CHECKPOINT
from lenet_edge.artifacts.artifact import load_artifact
from lenet_edge.data import mnist
from lenet_edge.data.dataset import to_input
from lenet_edge.target import quantize
from tests.aarch64 import machine
from tests.export.native_random import reference

COUNTED = 100
# Name, precision, core, flags, and the bar for the instructions over those of float32.
ROWS: tuple[tuple[str, str, str, tuple[str, ...], float | None], ...] = (
    ("float32", "float32", "neon", (), None),
    ("dynamic", "dynamic", "neon", (), 1.0),
    ("int8 with SDOT", "int8", "dotprod", (), 0.35),
    ("int8 with NEON", "int8", "neon", (), 0.75),
    ("int8, plain C", "int8", "neon", ("-DPLAIN_C",), None),
)


def measure() -> dict[str, Any]:
    """Return instructions per image, and the differing bytes of 10,000 images."""
    from lenet_edge.export.exporter import export

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        training, test = mnist.load("train"), mnist.load("test")
        precisions = ("float32", "dynamic", "int8")
        export(CHECKPOINT, folder, training, test, ("tflite", "native"), precisions)
        images = to_input(test.images)
        tflite = load_artifact(folder / "lenet_int8.tflite")
        (expected,) = reference(tflite.path.read_bytes(), [quantize(images, tflite.inputs[0])])
        rows: list[dict[str, Any]] = []
        for label, precision, core, flags, bar in ROWS:
            print(f"{label} ...", file=sys.stderr)
            artifact = load_artifact(folder / f"lenet_native_{precision}.c")
            values = quantize(images, artifact.inputs[0])
            program = machine.build(artifact, folder / "program", *flags)
            model = machine.CORES[core]
            count = machine.count_instructions(program, values[:COUNTED], model)
            row = {"name": label, "core": model, "instructions": count, "bar": bar}
            row["ratio"] = count / rows[0]["instructions"] if rows else 1.0
            if precision == "int8":
                logits = machine.run(program, values, model)
                row["wrong_bytes"] = int(np.count_nonzero(logits != expected.reshape(logits.shape)))
                row["images"] = len(logits)
            rows.append(row)
    return {"counted_images": COUNTED, "compiler": machine.compiler_version(), "rows": rows}


def show(result: dict[str, Any]) -> None:
    print(f"\nLeNet on 64-bit Arm, {result['compiler']}: executed instructions per image")
    for row in result["rows"]:
        bar = f" <= {row['bar']}" if row["bar"] else ""
        text = f"  {row['name']:16} {row['instructions']:10,.0f}  {row['ratio']:.3f}{bar}"
        if "images" in row:
            text += f"; {row['wrong_bytes']} bytes differ on {row['images']:,} images"
        print(text)
