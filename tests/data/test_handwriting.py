"""Tests of the normalization of digits, on drawings that no model was trained on; see draw.py."""

from __future__ import annotations

from collections import Counter
from contextlib import closing
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from lenet_edge.artifacts.artifact import load_artifact
from lenet_edge.data import image_file
from lenet_edge.data.dataset import Dataset, to_input
from lenet_edge.data.handwriting import normalize_digit
from lenet_edge.errors import DataError
from lenet_edge.runtimes import get_target, open_session
from tests.data import draw

EXPORTED = Path(__file__).parents[2] / "exported"
FILES = sorted(draw.FOLDER.iterdir())


def predict_digits(images: list[npt.NDArray[np.uint8]]) -> list[int]:
    file = load_artifact(EXPORTED / "lenet_int8.tflite")
    with closing(open_session(file, get_target("litert-xnnpack"))) as session:
        session.prepare(to_input(np.stack(images)))
        session.infer()
        digits: list[int] = session.logits().argmax(axis=1).tolist()
        return digits


def rgb(grey: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
    return np.repeat(grey, 3, axis=-1)


def test_drawn_digits_are_recognized() -> None:
    assert len(FILES) == 100
    normalized = [
        normalize_digit(image_file.decode_image(path.read_bytes(), path.name)) for path in FILES
    ]
    wrong = [
        f"{path.name} as {digit}"
        for path, digit in zip(FILES, predict_digits(normalized), strict=True)
        if digit != int(path.name[0])
    ]
    assert len(wrong) <= 0.1 * len(FILES), wrong
    by_pen = Counter(name.split("-")[2].split(".")[0] for name in wrong)
    assert max(by_pen.values(), default=0) <= 2, wrong  # no kind of drawing fails as a whole


def test_the_images_equal_those_that_draw_py_draws(tmp_path: Path) -> None:
    draw.main(tmp_path)
    assert [path.name for path in sorted(tmp_path.iterdir())] == [path.name for path in FILES]
    for path in FILES:  # compare pixels, because Pillow versions compress differently
        committed, drawn = (
            image_file.decode_image((folder / path.name).read_bytes(), path.name).astype(int)
            for folder in (draw.FOLDER, tmp_path)
        )
        assert np.abs(committed - drawn).mean() < 0.5


@pytest.mark.parametrize("inverted", [False, True])
def test_normalization_keeps_mnist_images(test_part: Dataset, inverted: bool) -> None:
    """The accuracy on normalized MNIST images is as before, in both polarities."""
    images = test_part.images[:500]
    normalized = [normalize_digit(rgb(255 - i if inverted else i)) for i in images]
    accuracy = np.mean(predict_digits(normalized) == test_part.labels[:500])
    assert accuracy >= np.mean(predict_digits(list(images)) == test_part.labels[:500]) - 0.01


def test_the_result_has_the_geometry_of_mnist() -> None:
    """The longer side has 20 pixels, the centre of mass is central, and ink is 255 on 0."""
    sheet = np.full((200, 300, 3), 255, np.uint8)
    sheet[40:120, 30:50] = sheet[100:120, 30:90] = (20, 20, 90)
    digit = normalize_digit(sheet)
    assert digit.shape == (28, 28, 1)
    assert digit.dtype == np.uint8
    rows, columns = np.nonzero(digit[..., 0])
    assert [int(np.ptp(rows)) + 1, int(np.ptp(columns)) + 1] == [20, 15]
    assert digit.max() == 255
    mass = digit[..., 0].astype(float)
    for axis in (0, 1):
        centre = mass.sum(axis=1 - axis) @ np.arange(28) / mass.sum()
        assert abs(centre - 14) <= 0.5


@pytest.mark.parametrize("pen", [1, 2, 40, 56])
def test_any_pen_width_is_recognized(pen: int) -> None:
    rng = np.random.default_rng(7)
    normalized = []
    for strokes in draw.HANDS["round"].values():
        ink = draw.write((280, 280), strokes, 200, (140, 140), pen, rng)
        sheet = draw.inked(draw.paper((280, 280), (255,) * 3), ink, (0,) * 3)
        normalized.append(normalize_digit(sheet.astype(np.uint8)))
    assert sum(p == digit for digit, p in enumerate(predict_digits(normalized))) >= 9


def test_a_drawing_may_touch_the_edge() -> None:
    """The digit has two separate strokes, of which one touches the edge."""
    five = ["2.2,2.2 1.8,6 1.8,6 5.4,4.8 9.2,7 9.4,11 6,13.9 2.2,13.6 0.6,11.8", "2.6,0 9,0"]
    ink = draw.write((200, 200), five, 180, (100, 92), 12, np.random.default_rng(3))
    assert ink[0].any()
    sheet = draw.inked(draw.paper((200, 200), (255,) * 3), ink, (0,) * 3).astype(np.uint8)
    digit = normalize_digit(sheet)
    padded = np.pad(sheet, ((28, 28), (28, 28), (0, 0)), constant_values=255)
    assert (digit == normalize_digit(padded)).all()
    assert predict_digits([digit]) == [5]


def blank(kind: str) -> npt.NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    return {
        "white": np.full((100, 100, 3), 255, np.uint8),
        "one pixel": np.zeros((1, 1, 3), np.uint8),
        "two pixels": rgb(np.array([[[0], [255]]], np.uint8)),
        "a line": np.zeros((1, 1000, 3), np.uint8),
        "a column": rng.integers(0, 256, (1000, 2, 3), dtype=np.uint8),
        "a gradient": rgb(np.arange(256, dtype=np.uint8)[None, :, None].repeat(90, axis=0)),
        "grainy paper": np.clip(rng.normal(200, 6, (300, 300, 3)), 0, 255).astype(np.uint8),
    }[kind]


@pytest.mark.parametrize(
    "kind",
    ["white", "one pixel", "two pixels", "a line", "a column", "a gradient", "grainy paper"],
)
def test_an_image_without_ink_is_an_error(kind: str) -> None:
    with pytest.raises(DataError, match=r"there is no digit in x\.png; it is blank"):
        normalize_digit(blank(kind), "x.png")


def test_any_image_gives_a_digit_or_a_data_error() -> None:
    rng = np.random.default_rng(1)
    for _ in range(60):
        height, width = rng.integers(1, 90, 2)
        image = (rng.random((height, width, 3)) ** rng.integers(1, 9) * 255).astype(np.uint8)
        try:
            assert normalize_digit(image).shape == (28, 28, 1)
        except DataError:
            continue
