"""Tests of the runtimes that `deploy` and `bundle` can bring to a board."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lenet_edge.errors import TargetError
from lenet_edge.runtimes import Deployable, deployables, get_deployable, get_target

PROJECT = (Path(__file__).parents[2] / "pyproject.toml").read_text()


def test_order() -> None:
    ranks = [deployable.rank for deployable in deployables()]
    assert ranks == sorted(set(ranks))
    assert deployables()[0].name == "litert"


@pytest.mark.parametrize("deployable", deployables(), ids=lambda deployable: deployable.name)
def test_target_and_extra_exist(deployable: Deployable) -> None:
    target = get_target(deployable.target)
    if deployable.distribution is None:
        assert not target.package
        return
    assert target.extra == deployable.name
    extras = PROJECT.split("optional-dependencies]")[1]
    (requirements,) = re.findall(
        rf"^{deployable.name} = \[(.*?)\]", extras, re.MULTILINE | re.DOTALL
    )
    assert f'"{deployable.distribution}>=' in requirements


def test_unknown_name() -> None:
    with pytest.raises(TargetError, match="unknown runtime 'armnn'; choose one of litert, tflite,"):
        get_deployable("armnn")
