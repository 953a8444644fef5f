"""The commands of benchmarks.training on few images, with their results in the current folder."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks import quantized, training
from lenet_edge.data import mnist
from lenet_edge.train.recipe import FINETUNE
from tests.conftest import first_images

_LOAD = mnist.load
_NUM_IMAGES = {"train": 2000, "test": 200}


def _keep(name: str, facts: dict[str, Any]) -> None:
    Path(f"{name}.json").write_text(json.dumps(facts) + "\n")


def main(arguments: Sequence[str]) -> None:
    """Run a command with 2 epochs, and few files to export."""
    mnist.load = lambda part: first_images(_LOAD(part), _NUM_IMAGES[part])
    vars(quantized).update(_HARD_EPOCHS=2, FINETUNE=dataclasses.replace(FINETUNE, epochs=2))
    vars(training).update(
        SMALL_EPOCHS=2, FORMATS=("native",), PRECISIONS=("float32", "int8"), _keep=_keep
    )
    training.main(arguments)
