"""Recipes: named sets of training settings, and the reason for each setting."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass


@dataclass(frozen=True)
class Augmentation:
    """Limits of the random distortion of training images; see `augmentation.warp_images`.

    The limits are small enough that a digit keeps its class. A 6 turned by 90 degrees would not.
    """

    rotation: float = 7.0  # degrees, in both directions
    shift: float = 1.5  # pixels, along each axis
    zoom: float = 0.08  # fraction of the size, for each axis independently
    shear: float = 0.1  # horizontal pixels for each vertical pixel
    elastic: float = 0.5  # pixels: standard deviation of a smooth displacement, as in handwriting


@dataclass(frozen=True)
class Recipe:
    """Settings of a training. All recipes train the same network.

    Sources: D. P. Kingma and J. Ba, "Adam: a method for stochastic optimization", 2015;
    I. Loshchilov and F. Hutter, "Decoupled weight decay regularization", 2019 (AdamW), and "SGDR:
    stochastic gradient descent with warm restarts", 2017 (cosine schedule, here without restarts).
    """

    name: str
    epochs: int
    batch_size: int = 128
    learning_rate: float = 1e-3  # of Adam; with a schedule, its peak
    warmup_epochs: int = 0  # 0: constant rate; otherwise a linear rise, then a cosine decay to 0
    weight_decay: float = 0.0  # of the weights without the biases, decoupled from the gradient
    ema: float = 0.0  # momentum of the exponential moving average of the weights; 0: no average
    augmentation: Augmentation | None = None
    validation_images: int = 0  # held out of the training images, for the choice of settings


# The published recipe: ten epochs of Adam. No setting was chosen, so no images are held out.
CLASSIC = Recipe("classic", epochs=10)

# The most accurate recipe. Augmentation never repeats an image, so the network can train for long
# and at a high rate (the peak is six times Adam's usual rate) and still generalize. The cosine
# decay and the weight average then remove the noise.
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

# The same settings, with as many epochs as fit into three minutes on the slowest two cores tried.
QUICK = dataclasses.replace(BEST, name="quick", epochs=25)

# Each recipe with its text in --help. The command line builds its choices from this table.
_TABLE = (
    (QUICK, "all of best in a quarter of its epochs, under 3 minutes on 2 cores"),
    (BEST, "augmentation, schedule, weight decay and averaged weights, over 99.5 % accuracy"),
    (CLASSIC, "the published recipe, ten epochs of Adam without validation images"),
)
RECIPES = {recipe.name: recipe for recipe, _ in _TABLE}
SUMMARIES = {recipe.name: summary for recipe, summary in _TABLE}
DEFAULT = QUICK
