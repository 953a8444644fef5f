"""Tests of the models of a server without the server."""

import dataclasses
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lenet_edge.artifacts.artifact import load_artifact
from lenet_edge.serve.models import Models
from tests.serve.conftest import EXPORTED


@pytest.mark.costly
def test_each_model_gets_images_by_its_own_resize_rule(tmp_path: Path) -> None:
    file = load_artifact(EXPORTED / "lenet_int8.tflite")
    stretched, cropped = (
        dataclasses.replace(
            file, preprocessing=dataclasses.replace(file.preprocessing, resize=rule)
        )
        for rule in ("stretch", "crop")
    )
    wide = Image.new("L", (280, 56))  # its ends are white, and a crop leaves them out
    wide.paste(255, (0, 0, 28, 56))
    wide.save(tmp_path / "wide.png")
    with closing(Models([stretched, cropped])) as models:
        pixels = models.decode_image(str(tmp_path / "wide.png"))
    assert {int(np.max(image)) for image in pixels.values()} == {0, 255}
