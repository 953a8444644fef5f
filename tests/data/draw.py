"""Program that draws the digits in tests/data/handwriting: python -m tests.data.draw

This file stores ten digits in five hands as strokes of a pen. The program draws each digit twice,
with two of nine kinds of pen and paper. The digits come from no font and no data set, and no
network was trained on them.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

FOLDER = Path(__file__).with_name("handwriting")
Point = tuple[float, float]
Array = npt.NDArray[np.float64]

# Each hand writes in a field of 10 by 14, with the origin at the top left. A stroke is a list of
# points on a smooth line. A repeated point is a corner.
HANDS = {
    "upright": {
        0: ["5,0 1.5,3 1,7 2,12 5,14 8,12 9,7 8.2,2.5 5,0"],
        1: ["5,0 5,14"],
        2: ["1.5,3.5 3,0.8 6,0.2 8.3,2.5 7.8,5.5 4.5,10 1,14 1,14 9,13.8"],
        3: ["1.5,2 4.5,0.2 8,2 7.4,5 4.5,6.6 4.5,6.6 8,8 8.6,11 6,13.8 1.4,12.6"],
        4: ["2.4,0.4 1.6,7.6 1.6,7.6 8.8,7.4", "7.2,0.2 6.8,14"],
        5: ["8,0.4 2.4,0.6 2.4,0.6 2,6 2,6 5.4,5 8.4,7.6 8,11.6 4.8,13.8 1.4,12.6"],
        6: ["7,0.4 3.6,3.6 1.6,8 2,12 4.8,14 8,12.2 8,9 5,7.4 2.2,9.4"],
        7: ["1.4,0.6 8.8,0.4 8.8,0.4 4.2,14"],
        8: ["7.6,2 5,0.2 2.2,2.2 3.4,5.4 7.4,8.6 8.2,11.8 5,14 1.8,11.8 3,8.4 7,5.2 7.8,2.4"],
        9: ["8,2.6 5.2,0.2 2,2.6 2.4,5.8 5.4,6.6 7.8,4 8,2.6 8,2.6 7.6,14"],
    },
    "slanted": {
        0: ["7.5,1 4,1.5 1.5,6 1,11 3,13.8 6,12.5 8.5,7.5 8.6,2.5 6.3,0.2"],
        1: ["7,0 4,14"],
        2: ["2.5,3 5,0.3 8.3,1 8.6,4 6,8.5 2,12.6 1,13.6 2.5,12.2 4.5,12.6 6.5,13.8 9,12.8"],
        3: ["3,1.6 6,0.2 8.8,2 7.6,5 4.6,6.5 4.6,6.5 7.4,7.6 7.4,11 4.4,13.8 0.8,12.4"],
        4: ["3.8,0.6 1.4,7.8 1.4,7.8 9,7", "7.8,1 5.2,14"],
        5: ["3.6,0.8 2.6,6 2.6,6 6,5.4 7.8,8 6.6,12 3.6,13.8 0.6,12.8", "3.6,0.8 9.4,0.2"],
        6: ["8.4,0.2 4.4,4 1.6,9 1.8,12.6 4.2,14 7,12.4 7.6,9.4 5.4,8 2.4,10"],
        7: ["2,1.2 9,0.6 9,0.6 6,6.6 3.6,13.8"],
        8: ["8.6,2 6.2,0.2 3.6,2 4.2,5 6.8,8.6 6.6,12 3.6,14 1.2,12 2.6,8.6 7.2,5.2 8.8,2.2"],
        9: ["8.8,2.2 6.2,0.2 3,2.4 2.8,5.4 5.4,6.6 8.2,3.8 8.9,2 8.9,2 7,8 5.2,14"],
    },
    "continental": {
        0: ["5,0.2 3,2 2.4,7 3.2,12.4 5,14 6.8,12 7.4,6.5 6.6,1.6 4.6,0.3"],
        1: ["2.6,4 6,0 6,0 6,14"],
        2: ["2,2.4 5,0 8,2 7.4,5.6 3.5,11 1.5,13.6 1.5,13.6 8.5,13.6"],
        3: ["1.8,0.4 8.2,0.4 8.2,0.4 4.6,5.4 4.6,5.4 8,7 8.6,10.4 5.8,13.8 1.6,12.6"],
        4: ["6.8,14 6.8,0.2 6.8,0.2 1,9 1,9 9.2,9"],
        5: ["7.8,0.2 2.8,0.2 2.8,0.2 2.4,5.8 2.4,5.8 6.2,5.4 8.2,8.6 7,12.6 3.8,14 1.8,13"],
        6: ["6.2,0 3,5 2,10 3.4,13.6 6.2,13.8 7.8,11 6.4,8.4 3.6,8.8 2.2,10.8"],
        7: ["1.6,0.6 8.6,0.6 8.6,0.6 5.6,7 4,14", "3,7.2 8,6.8"],
        8: [
            "5,0.2 2.6,1.8 2.6,4.6 5,6.4 7.4,4.6 7.4,1.8 5,0.2",
            "5,6.4 2,8.4 1.8,11.8 5,14 8.2,11.8 8,8.4 5,6.4",
        ],
        9: ["7.6,3 5,0.2 2.4,3 4,6.4 7,5 7.7,2.6 7.7,2.6 7.6,9 6,13.4 2.6,13.6"],
    },
    "round": {
        0: ["5,1.5 1.3,3.5 0,7.5 1.5,11.8 5,13.2 8.6,11.6 10,7.4 8.4,3.2 5.2,1.4 4.2,2.2"],
        1: ["3,2.5 5.2,0 5.2,0 5.2,13.8", "2.5,14 8,13.8"],
        2: ["1,4 2.2,1.2 5.5,0.2 8.8,2 8.6,5.4 5.4,9 2,12 0.6,13.8 0.6,13.8 5,13.2 9.6,13.9"],
        3: ["0.8,2.8 3.6,0.2 8.2,1.2 8.4,5 5,6.8 3.6,6.9 5.6,6.8 9.4,8.6 9,12.4 4.6,14 0.6,11.6"],
        4: ["1.8,0.8 1.2,5 2.4,7.8 5.4,8 8.4,6.6", "8.6,0.4 8.2,7 7.8,13.8"],
        5: ["2.2,0.8 1.8,5.8 1.8,5.8 5.4,4.8 9.2,7 9.4,11 6,13.9 2.2,13.6 0.6,11.8", "2.2,.7 9,.4"],
        6: ["7.4,0.8 3,3.2 0.8,8 1.6,12.4 5,14 9,12.2 9.2,8.8 5.8,7 2,8.6 1,10"],
        7: ["1.2,2 1.4,0.6 1.4,0.6 9,0.8 9,0.8 6.4,6 5,13.8"],
        8: ["8.6,2.4 5.2,0.4 1.6,2.2 2.4,5.2 7.8,8.4 9,11.8 5,13.8 1,11.6 2.4,8.2 7.6,5.2 8.6,2.6"],
        9: ["9,3 5.6,0.4 1.4,2.8 2,6.6 6,7.2 9,4.2 9,3 9,3 8.6,13.8"],
    },
    "hasty": {
        0: ["6.5,0.5 3,1 1,6 1.6,11.5 4.4,14 8,11 8.8,5 7,1.2 4.2,0.6 3,1.8"],
        1: ["4.5,0.2 5.2,7 5.6,14"],
        2: ["1.8,2 5,0.4 7.8,2.2 6.6,6.4 2,13.4 2,13.4 8.4,12.6"],
        3: ["2,1.4 5,0.3 7.4,2 6.6,5 4,6.8 7,8.4 7.2,11.8 4,13.8 1.8,12.8"],
        4: ["2.6,0.6 2,6.6 2,6.6 7.4,6.2", "7.4,1.6 6.8,8 6.6,14"],
        5: ["7.8,0.8 3.4,1 3.4,1 2.8,5.6 5.2,6 7.2,8.6 6.2,12.4 3.2,13.8 1.6,12.6"],
        6: ["5.6,0.3 3,5.2 2.2,10.6 4,13.8 7,12.4 7,9.6 4.6,8.6 2.6,11"],
        7: ["2.2,1 7.8,0.6 7.8,0.6 5.4,14"],
        8: ["6.8,1.8 4.8,0.2 3.2,2 4,5 6.2,8.8 6.2,12.2 4.4,14 2.8,12 3.6,8.6 6.2,5 7,2"],
        9: ["7,2 4.8,0.4 3,2.6 3.6,5.6 6,5.4 7,2.4 7,2.4 6.4,14"],
    },
}


def points_of(stroke: str) -> list[Point]:
    """Parse the points of a stroke."""
    return [(float(x), float(y)) for x, y in (point.split(",") for point in stroke.split())]


def smooth(points: list[Point], steps: int = 12) -> list[Point]:
    """Compute a Catmull-Rom curve through `points`; a repeated point is a corner."""
    line: list[Point] = []
    for i in range(len(points) - 1):
        before, start, end, after = (
            points[max(0, min(len(points) - 1, i + step))] for step in (-1, 0, 1, 2)
        )
        for step in range(steps):
            t = step / steps
            x, y = (
                0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t**2
                       + (3 * b - a - 3 * c + d) * t**3)
                for a, b, c, d in zip(before, start, end, after, strict=True)
            )  # fmt: skip
            line.append((x, y))
    return [*line, points[-1]]


def write(
    size: tuple[int, int], strokes: list[str], height: float, centre: Point, pen: float,
    rng: np.random.Generator,
) -> Array:  # fmt: skip
    """Draw a digit with a random rotation and random shifts of its points.

    Returns:
        The share of ink in each pixel, 0 to 1.
    """
    angle = math.radians(rng.uniform(-9, 9))
    zoom = 4  # draw at four times the size and reduce, for smooth edges
    sheet = Image.new("L", (size[0] * zoom, size[1] * zoom))
    brush = ImageDraw.Draw(sheet)
    radius = pen * zoom / 2
    for stroke in strokes:
        points = points_of(stroke)
        shaken = [(x + rng.normal(0, 0.12), y + rng.normal(0, 0.12)) for x, y in points]
        for i in range(1, len(points)):  # keep repeated points equal
            if points[i] == points[i - 1]:
                shaken[i] = shaken[i - 1]
        line = []
        for x, y in smooth(shaken):
            across, down = (x - 5) * height / 14, (y - 7) * height / 14
            line.append((
                (centre[0] + across * math.cos(angle) - down * math.sin(angle)) * zoom,
                (centre[1] + across * math.sin(angle) + down * math.cos(angle)) * zoom,
            ))  # fmt: skip
        brush.line(line, fill=255, width=max(1, round(2 * radius)))
        for x, y in line:
            brush.ellipse((x - radius, y - radius, x + radius, y + radius), fill=255)
    ink: Array = np.asarray(sheet.resize(size, Image.Resampling.BOX), np.float64) / 255
    return ink


def paper(size: tuple[int, int], colour: Point | tuple[float, ...]) -> Array:
    return np.tile(np.array(colour, np.float64), (size[1], size[0], 1))


def inked(sheet: Array, ink: Array, colour: tuple[float, ...]) -> Array:
    return sheet + (np.array(colour) - sheet) * ink[..., None]


def light(sheet: Array, dark: float, angle: float) -> Array:
    """Light the sheet from one side: the brightness falls from 1 to `dark`."""
    height, width = sheet.shape[:2]
    y, x = np.mgrid[:height, :width]
    distance = (x / width - 0.5) * math.cos(angle) + (y / height - 0.5) * math.sin(angle)
    lit: Array = sheet * np.clip((1 + dark) / 2 + distance * (1 - dark), 0, 1)[..., None]
    return lit


def grain(sheet: Array, strength: float, rng: np.random.Generator) -> Array:
    return sheet + rng.normal(0, strength, sheet.shape[:2])[..., None]


def canvas(strokes: list[str], rng: np.random.Generator) -> Array:
    """Draw with a thick black brush on a white square, as on a drawing page."""
    ink = write((200, 200), strokes, rng.uniform(110, 160),
                tuple(rng.uniform(85, 115, 2)), rng.uniform(12, 18), rng)  # fmt: skip
    return inked(paper((200, 200), (255, 255, 255)), ink, (0, 0, 0))


def ballpoint(strokes: list[str], rng: np.random.Generator) -> Array:
    """Draw with a thin blue pen, anywhere on a large white sheet."""
    ink = write((320, 240), strokes, rng.uniform(70, 130),
                (rng.uniform(90, 230), rng.uniform(80, 160)), rng.uniform(1.8, 3), rng)  # fmt: skip
    return grain(inked(paper((320, 240), (246, 246, 242)), ink, (40, 50, 140)), 2, rng)


def pencil(strokes: list[str], rng: np.random.Generator) -> Array:
    """Draw with a grey, rough pencil on paper that is lit from one side."""
    ink = write((320, 240), strokes, rng.uniform(90, 150),
                (rng.uniform(110, 210), rng.uniform(95, 145)), rng.uniform(3, 5), rng)  # fmt: skip
    rough = ink * rng.uniform(0.55, 1, ink.shape)
    sheet = inked(paper((320, 240), (235, 230, 220)), rough, (95, 95, 100))
    return grain(light(sheet, rng.uniform(0.4, 0.7), rng.uniform(0, 2 * math.pi)), 4, rng)


def marker(strokes: list[str], rng: np.random.Generator) -> Array:
    """Draw a small digit with a broad red felt pen, near a corner of cream paper."""
    height = rng.uniform(45, 70)
    ink = write((240, 240), strokes, height, (rng.choice([50.0, 185.0]), rng.choice([55.0, 180.0])),
                height * rng.uniform(0.13, 0.19), rng)  # fmt: skip
    return inked(paper((240, 240), (250, 242, 214)), ink, (196, 30, 40))


def chalk(strokes: list[str], rng: np.random.Generator) -> Array:
    """Draw with chalk on a green board with smears."""
    ink = write((280, 240), strokes, rng.uniform(110, 170),
                (rng.uniform(110, 170), rng.uniform(100, 140)), rng.uniform(6, 9), rng)  # fmt: skip
    clouds = Image.fromarray(rng.integers(0, 256, (8, 9), dtype=np.uint8)).resize((280, 240))
    board = paper((280, 240), (34, 66, 52)) + np.asarray(clouds, np.float64)[..., None] / 255 * 26
    return grain(inked(board, ink * rng.uniform(0.6, 1, ink.shape), (236, 236, 228)), 5, rng)


def notebook(strokes: list[str], rng: np.random.Generator) -> Array:
    """Draw with a dark pen on lined paper, with the shadow of a hand across it."""
    ink = write((320, 240), strokes, rng.uniform(80, 120),
                (rng.uniform(100, 220), rng.uniform(95, 145)), rng.uniform(4, 6), rng)  # fmt: skip
    sheet = paper((320, 240), (240, 240, 235))
    sheet[16::24] = (205, 215, 235)
    sheet = inked(sheet, ink, (25, 25, 45))
    y, x = np.mgrid[:240, :320]
    edge = rng.uniform(60, 260) + (y - 120) * rng.uniform(-0.8, 0.8)
    shade = 1 - 0.4 / (1 + np.exp((x - edge) / rng.uniform(1.5, 6)))
    return grain(sheet * shade[..., None], 3, rng)


def crayon(strokes: list[str], rng: np.random.Generator) -> Array:
    """Draw in colours of similar brightness: yellow on white, or orange on light blue."""
    ink = write((220, 260), strokes, rng.uniform(120, 180),
                (rng.uniform(90, 130), rng.uniform(115, 145)), rng.uniform(9, 14), rng)  # fmt: skip
    colours = [((255, 255, 255), (250, 215, 40)), ((176, 214, 236), (238, 150, 60))]
    ground, colour = colours[int(rng.integers(2))]
    return grain(inked(paper((220, 260), ground), ink * rng.uniform(0.75, 1, ink.shape), colour),
                 2, rng)  # fmt: skip


def desk(strokes: list[str], rng: np.random.Generator) -> Array:
    """Draw with a dark pen on a sheet on a dark desk; the image shows both."""
    height, middle = rng.uniform(70, 100), (rng.uniform(130, 190), rng.uniform(105, 135))
    ink = write((320, 240), strokes, height, middle, rng.uniform(3, 6), rng)
    sheet = paper((320, 240), (84, 62, 48))
    sheet *= (
        1 + 0.1 * np.sin(np.arange(240) / rng.uniform(2, 5))[:, None, None]
    )  # grain of the wood
    top, left = int(middle[1] - rng.uniform(70, 90)), int(middle[0] - rng.uniform(80, 110))
    sheet[max(top, 0) : top + 160, left : left + 190] = (236, 234, 228)
    return grain(light(inked(sheet, ink, (35, 40, 90)), 0.75, rng.uniform(0, 6)), 3, rng)


def icon(strokes: list[str], rng: np.random.Generator) -> Array:
    """Draw white on black and very small, as in a screenshot."""
    ink = write((48, 48), strokes, rng.uniform(24, 36), tuple(rng.uniform(21, 27, 2)),
                rng.uniform(2.5, 4.5), rng)  # fmt: skip
    return inked(paper((48, 48), (12, 12, 12)), ink, (240, 240, 240))


PENS: dict[str, tuple[Callable[[list[str], np.random.Generator], Array], str]] = {
    "canvas": (canvas, "png"),
    "ballpoint": (ballpoint, "jpg"),
    "pencil": (pencil, "jpg"),
    "marker": (marker, "png"),
    "chalk": (chalk, "jpg"),
    "notebook": (notebook, "jpg"),
    "crayon": (crayon, "jpg"),
    "desk": (desk, "jpg"),
    "icon": (icon, "png"),
}


def main(folder: Path = FOLDER) -> None:
    """Write all images to `folder`; every run gives the same images."""
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(20261125)
    names = list(PENS)
    for h, (hand, digits) in enumerate(HANDS.items()):
        for digit, strokes in digits.items():
            for name in (names[(digit + 2 * h) % 9], names[(digit + 2 * h + 4) % 9]):
                draw, suffix = PENS[name]
                pixels = np.clip(draw(strokes, rng), 0, 255).astype(np.uint8)
                image = Image.fromarray(pixels)
                if suffix == "jpg":  # photos are slightly blurred
                    image = image.filter(ImageFilter.GaussianBlur(0.6))
                options = {"quality": 60} if suffix == "jpg" else {"optimize": True}
                image.save(folder / f"{digit}-{hand}-{name}.{suffix}", **options)


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
