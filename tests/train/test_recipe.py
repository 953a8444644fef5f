"""Tests that the command line takes its recipes from the table of recipes."""

from __future__ import annotations

from lenet_edge.cli.train import command
from lenet_edge.train.recipe import DEFAULT, RECIPES, SUMMARIES


def test_the_command_line_lists_every_recipe() -> None:
    (option,) = (parameter for parameter in command.params if parameter.name == "recipe")
    facts = option.to_info_dict()
    assert list(facts["type"]["choices"]) == list(RECIPES) == list(SUMMARIES)
    assert facts["default"] == DEFAULT.name
    for name, summary in SUMMARIES.items():
        assert f"{name}: {summary}" in facts["help"]
