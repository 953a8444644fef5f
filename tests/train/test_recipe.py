"""Tests of the table of recipes, and of their adaptation to few images."""

from __future__ import annotations

import dataclasses

import pytest

from lenet_edge.cli.train import command
from lenet_edge.train.recipe import DEFAULT, RECIPES, SUMMARIES, choose_recipe


def test_the_command_line_lists_every_recipe() -> None:
    (option,) = (parameter for parameter in command.params if parameter.name == "recipe")
    facts = option.to_info_dict()
    assert list(facts["type"]["choices"]) == list(RECIPES) == list(SUMMARIES)
    assert facts["default"] == DEFAULT.name
    for name, summary in SUMMARIES.items():
        assert f"{name}: {summary}" in facts["help"]


@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("num_images", [1, 10, 306, 3000, 20_000, 60_000])
def test_few_images_get_small_batches_and_more_epochs(name: str, num_images: int) -> None:
    recipe, line = choose_recipe(name, num_images)
    if num_images >= 60_000:
        assert (recipe, line) == (RECIPES[name], "")
        return
    usual = RECIPES[name]
    assert recipe.epochs >= usual.epochs
    assert recipe.batch_size <= usual.batch_size
    assert (line == "") == (recipe == usual)
    assert dataclasses.replace(usual, epochs=recipe.epochs, batch_size=recipe.batch_size) == recipe
    if num_images >= 306:
        assert recipe.epochs * (num_images // recipe.batch_size) >= 3000


def test_the_values_of_the_user_are_kept() -> None:
    recipe, line = choose_recipe("quick", 306, epochs=3, batch_size=50, learning_rate=0.1)
    assert (recipe.epochs, recipe.batch_size, recipe.learning_rate, line) == (3, 50, 0.1, "")
    recipe, line = choose_recipe("quick", 306, epochs=3)
    assert (recipe.epochs, recipe.batch_size) == (3, 16)
    assert line == "Few training images, so recipe quick has 16 images in a batch instead of 128"
