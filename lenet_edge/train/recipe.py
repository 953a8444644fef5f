"""Recipes: named sets of training settings, and the reason for each setting."""

from __future__ import annotations

import dataclasses
import math
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
    """Settings of a training, of any network.

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

# The recipe of `finetune`: a trained network needs only little time to adapt to the rounding. A
# higher rate would change what it has learned: with 1e-3, LeNet gave other classes for 0.26 % of
# the held-out images, and 0.08 % with this rate.
FINETUNE = Recipe(
    "finetune",
    epochs=5,
    learning_rate=3e-4,
    warmup_epochs=1,
    ema=0.999,
    augmentation=Augmentation(),
    validation_images=5000,
)

# Few images need small batches and more epochs. Otherwise a training ends after too few steps. With
# 306 images of three shapes, `quick` classified 63 % of 1,200 others after 50 steps of 128 images,
# 96 to 97 % after 1,700 steps of 16 images, and 98 % after 3,400. A lower rate did not help.
_MIN_STEPS = 3000
_MIN_STEPS_PER_EPOCH = 20
_MIN_BATCH_SIZE = 16
_MAX_EPOCHS = 200  # of `quick`; an epoch has a fixed cost, so tiny sets would take too long


def adapt(recipe: Recipe, num_images: int) -> Recipe:
    """Return the recipe with a batch size and epochs for a number of training images.

    Sets of the size of MNIST leave a recipe unchanged.
    """
    if recipe.epochs * (num_images // recipe.batch_size) >= _MIN_STEPS:
        return recipe
    batch_size = recipe.batch_size
    while batch_size > _MIN_BATCH_SIZE and num_images // batch_size < _MIN_STEPS_PER_EPOCH:
        batch_size //= 2
    steps_per_epoch = max(1, num_images // batch_size)
    epochs = min(math.ceil(_MIN_STEPS / steps_per_epoch), _MAX_EPOCHS)
    return dataclasses.replace(recipe, batch_size=batch_size, epochs=max(recipe.epochs, epochs))


def choose_recipe(
    name: str,
    num_images: int,
    epochs: int | None = None,
    batch_size: int | None = None,
    learning_rate: float | None = None,
) -> tuple[Recipe, str]:
    """Return the recipe for a number of training images, with the values of the user.

    Args:
        name: the name of a recipe, also "finetune".
        num_images: the number of training images.
        epochs: the number of epochs; None means that of `adapt`.
        batch_size: the number of images in a batch; None means that of `adapt`.
        learning_rate: the learning rate, or its peak; None means the recipe's.

    Returns:
        The recipe, and a line that says how it was adapted; the line is empty if it was not.
    """
    recipe = FINETUNE if name == FINETUNE.name else RECIPES[name]
    adapted = adapt(recipe, num_images)
    chosen = dataclasses.replace(
        adapted,
        epochs=epochs or adapted.epochs,
        batch_size=batch_size or adapted.batch_size,
        learning_rate=learning_rate or adapted.learning_rate,
    )
    changes = [
        f"{getattr(adapted, field)} {unit} instead of {getattr(recipe, field)}"
        for field, stated, unit in (
            ("batch_size", batch_size, "images in a batch"), ("epochs", epochs, "epochs"),
        )
        if stated is None and getattr(adapted, field) != getattr(recipe, field)
    ]  # fmt: skip
    if not changes:
        return chosen, ""
    return chosen, f"Few training images, so recipe {name} has {' and '.join(changes)}"


# Each recipe with its text in --help. The command line builds its choices from this table.
_TABLE = (
    (QUICK, "all of best in a quarter of its epochs, under 3 minutes on 2 cores"),
    (BEST, "augmentation, schedule, weight decay and averaged weights, over 99.5 % accuracy"),
    (CLASSIC, "the published recipe, ten epochs of Adam without validation images"),
)
RECIPES = {recipe.name: recipe for recipe, _ in _TABLE}
SUMMARIES = {recipe.name: summary for recipe, summary in _TABLE}
DEFAULT = QUICK
