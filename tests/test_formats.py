"""The table of formats: every string in it names something that exists and has the right type."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lenet_edge import formats
from lenet_edge.artifacts.file_check import check_format
from lenet_edge.errors import ModelFileError
from lenet_edge.runtimes import _probe, all_targets, get_target
from tests.conftest import LenetEdge
from tests.interfaces import assignment, check_with_mypy, interface_assignments

REFERENCES = [
    (format.name, field)
    for format in formats.FORMATS
    for field in ("check", "contract_reader", "contract_writer", "layers", "graph", "converter",
                  "parts", "companion")
    if getattr(format, field)
]  # fmt: skip


@pytest.mark.parametrize(("name", "field"), REFERENCES)
def test_every_reference_resolves(name: str, field: str) -> None:
    reference = getattr(formats.BY_NAME[name], field)
    loaded = formats.load(reference)
    assert callable(loaded) == (":" in reference)


def test_names_and_suffixes_are_unique() -> None:
    assert len(formats.BY_NAME) == len(formats.FORMATS)
    suffixes = [name for row in formats.FORMATS for name in (row.suffix, *row.other_suffixes)]
    assert len(formats.BY_SUFFIX) == len(suffixes)
    assert all(suffix == suffix.lower() for suffix in suffixes)


@pytest.mark.parametrize("format", formats.FORMATS, ids=lambda format: format.name)
def test_a_format_has_a_probe_model_and_a_target(format: formats.Format) -> None:
    content = (_probe.FOLDER / f"probe{format.suffix}").read_bytes()
    assert formats.recognize(content[: formats.HEAD_BYTES]) is format
    assert any(format.name in target.formats for target in all_targets())


@pytest.mark.parametrize("name", formats.EXPORTED)
def test_an_exported_format_names_the_target_that_opens_it(name: str) -> None:
    format = formats.BY_NAME[name]
    assert format.opened_by
    assert name in get_target(format.opened_by).formats
    assert bool(format.contract_reader) == bool(format.contract_writer)


def test_a_format_without_a_converter_is_not_offered() -> None:
    choices = ("tflite", "onnx", "native", "wasm", "ncnn", "c", "firmware")
    assert choices == formats.EXPORT_CHOICES


def test_the_table_imports_nothing_of_the_package() -> None:
    source = Path(formats.__file__).read_text()
    assert "import lenet_edge" not in source
    assert "from lenet_edge" not in source


@pytest.mark.parametrize("suffix", formats.ADVICE)
def test_a_foreign_format_is_named_with_what_to_use(tmp_path: Path, suffix: str) -> None:
    assert suffix not in formats.BY_SUFFIX
    file, folder = tmp_path / f"theirs{suffix.upper()}", tmp_path / f"folder{suffix}"
    file.write_bytes(b"content")
    folder.mkdir()
    for path in (file, folder):
        with pytest.raises(ModelFileError) as caught:
            check_format(path)
        assert str(caught.value) == f"{path} is {formats.ADVICE[suffix]}"
    # The sentence says what to do, after the name of the format.
    assert re.match(r"(an?|the) [^;,]+[;,] ", formats.ADVICE[suffix])
    assert re.search(r"name|make|export|unpack|save|is for", formats.ADVICE[suffix])


@pytest.mark.parametrize("name", ["theirs.mlpackage", "theirs.rknn", "theirs.bin"])
def test_a_command_names_a_foreign_format_in_one_line(
    tmp_path: Path, lenet_edge: LenetEdge, name: str
) -> None:
    (tmp_path / name).mkdir() if name.endswith("package") else (tmp_path / name).write_text("x")
    done = lenet_edge("inspect", tmp_path / name)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert formats.ADVICE[Path(name).suffix] in line


@pytest.mark.costly
def test_every_module_has_the_type_of_its_interface(tmp_path: Path) -> None:
    assert check_with_mypy(tmp_path, interface_assignments()) == ""


@pytest.mark.costly
def test_a_module_of_another_type_is_reported(tmp_path: Path) -> None:
    wrong = assignment("lenet_edge.export.calibration", "Converter", 999)
    report = check_with_mypy(tmp_path, interface_assignments() + wrong)
    assert "Incompatible types in assignment" in report
    assert 'variable has type "Converter"' in report
