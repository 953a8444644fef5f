"""Validation against annotations, beyond what the tests of result files and manifests cover."""

from __future__ import annotations

import dataclasses
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import pytest
from typing_extensions import TypeAliasType

from lenet_edge.support.typed_json import check_types


def test_an_array_type_may_be_an_alias() -> None:
    """As NDArray is from NumPy 2.5."""
    scalar = TypeVar("scalar", bound=np.generic)
    alias: Any = TypeAliasType("alias", npt.NDArray[scalar], type_params=(scalar,))  # type: ignore[arg-type]
    kind = dataclasses.make_dataclass("Kind", [("values", alias[np.float64])])
    check_types(kind(np.zeros(2)))
    with pytest.raises(ValueError, match=r"values is \[0\.0\]"):
        check_types(kind([0.0]))
    with pytest.raises(ValueError, match="values contains values that are not finite"):
        check_types(kind(np.array([np.nan])))
