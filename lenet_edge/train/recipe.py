"""Recipes: every setting of a training, each with its reason."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True)
class Augmentation:
    """How far an image is bent, at most, before the network sees it; see `augmentation.warp`.

    Small enough that a digit stays that digit: a 6 turned by 90 degrees would be none.
    """

    rotation: float = 7.0  # degrees, to both sides
    shift: float = 1.5  # pixels, along each axis
    zoom: float = 0.08  # of the size, along each axis by itself
    shear: float = 0.1  # pixels of slant for each pixel of height
    elastic: float = 0.5  # pixels; standard deviation of a smooth displacement, as of a hand


@dataclass(frozen=True)
class Recipe:
    """How a model is trained. The network is the same in each."""

    name: str
    epochs: int
    batch_size: int = 128
    learning_rate: float = 1e-3  # Adam's; the peak, where there is a schedule
    warmup_epochs: int = 0  # 0: no schedule. Else it rises for so long, then falls as a cosine
    weight_decay: float = 0.0  # of matrices, decoupled from the gradient (AdamW)
    ema: float = 0.0  # the model is a running average of the weights, which forgets this slowly
    augmentation: Augmentation | None = None
    validation_images: int = 0  # held out of the training images to choose settings by


# As published: ten epochs of Adam. Nothing was chosen, so that nothing is held out.
CLASSIC = Recipe("classic", epochs=10)

# For accuracy. No image is seen twice, so that the network can be trained long and hard (a peak six
# times Adam's usual rate) and still generalises; the cosine and the average then settle the noise.
BEST = Recipe(
    "best",
    epochs=100,
    learning_rate=6e-3,
    warmup_epochs=1,
    weight_decay=0.05,
    ema=0.999,
    augmentation=Augmentation(),
    validation_images=5000,
)

# The same, as far as it goes in under three minutes on the slowest two cores it was tried on.
QUICK = dataclasses.replace(BEST, name="quick", epochs=25)

# Each recipe with its line in --help, which the command line builds from this table.
_TABLE = (
    (QUICK, "all of best in a quarter of its epochs, under 3 minutes on 2 cores"),
    (BEST, "augmentation, schedule, weight decay and averaged weights, over 99.5 % accuracy"),
    (CLASSIC, "the published recipe, ten epochs of Adam without validation images"),
)
RECIPES = {recipe.name: recipe for recipe, _ in _TABLE}
SUMMARIES = {recipe.name: summary for recipe, summary in _TABLE}
DEFAULT = QUICK
