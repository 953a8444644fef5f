"""A model of two files is one artifact: both are hashed, moved, bundled and protected together."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from lenet_edge.artifacts.artifact import check_unchanged, load_artifact, manifest_path
from lenet_edge.artifacts.output_paths import Output, check_outputs
from lenet_edge.artifacts.reference import Reference, reference_path
from lenet_edge.data import mnist
from lenet_edge.deploy.bundle import make_bundle
from lenet_edge.errors import LenetEdgeError, ModelFileError, StaleManifestError, UsageError
from lenet_edge.export.artifact_writer import write_artifact
from lenet_edge.fleet import on_board
from lenet_edge.runtimes import _probe
from lenet_edge.selection import load_artifacts
from lenet_edge.support.files import sha256_of


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A .param file with its .bin file and its manifest, which a test may damage."""
    for name in ("probe.param", "probe.param.json", "probe.bin"):
        shutil.copyfile(_probe.FOLDER / name, tmp_path / name)
    return tmp_path / "probe.param"


def test_manifest_has_the_hash_of_each_part(model: Path) -> None:
    artifact = load_artifact(model)
    weights = model.with_suffix(".bin")
    assert [(part.name, part.sha256) for part in artifact.parts] == [
        (weights.name, sha256_of(weights))
    ]
    assert artifact.size_bytes == model.stat().st_size + weights.stat().st_size
    check_unchanged(artifact)


@pytest.mark.parametrize("described_by", ["manifest", "contract"])
def test_files_can_be_renamed_together(model: Path, described_by: str) -> None:
    old = load_artifact(model)
    new = model.with_name("digits.param")
    for suffix in (".param", ".bin", ".param.json"):
        model.with_suffix(suffix).rename(new.with_suffix(suffix))
    if described_by == "contract":
        manifest_path(new).unlink()
    artifact = load_artifact(new)
    assert [part.name for part in artifact.parts] == ["digits.bin"]
    assert artifact.labels == old.labels


def damage(weights: Path) -> None:
    weights.write_bytes(weights.read_bytes()[:-1] + b"x")


@pytest.mark.parametrize("described_by", ["manifest", "contract"])
@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (Path.unlink, ModelFileError, r"has its weights in probe\.bin, which is missing; put it"),
        (damage, StaleManifestError, r"has a part \(probe.*\.bin\) that is not the described one"),
    ],
)
def test_missing_or_changed_part(
    model: Path,
    described_by: str,
    change: Callable[[Path], None],
    error: type[LenetEdgeError],
    message: str,
) -> None:
    artifact = load_artifact(model)
    if described_by == "contract":
        manifest_path(model).unlink()
    change(model.with_suffix(".bin"))
    with pytest.raises(error, match=message):
        load_artifact(model)
    with pytest.raises(LenetEdgeError, match=r"has changed since it was read|is missing"):
        check_unchanged(artifact)


def test_part_is_no_model_of_its_own(model: Path) -> None:
    (artifact,) = load_artifacts(sorted(model.parent.iterdir()), model.parent)
    assert artifact.path == model
    with pytest.raises(ModelFileError, match=r"a file of weights; name the model file"):
        load_artifacts([model.with_suffix(".bin")], model.parent)


def test_part_is_no_output(model: Path) -> None:
    weights = model.with_suffix(".bin")
    for inputs in ([("", model)], []):
        with pytest.raises(UsageError, match=r"probe\.bin (would replace|is the name of a part)"):
            check_outputs([Output("--json", weights)], inputs)
    check_outputs([Output("--json", model.with_name("other.bin"))], [("", model)])


def test_boards_get_all_parts(model: Path) -> None:
    artifact = load_artifact(model)
    images = mnist.load("test").images[:3]
    assert artifact.parent_sha256
    logits = images.reshape(3, -1)[:, :10].astype("float32")
    Reference(artifact.parent_sha256, "three", logits, images).save(
        reference_path(model.parent, artifact.parent_sha256)
    )
    weights = model.with_suffix(".bin").read_bytes()
    assert make_bundle([artifact]).files["exported/probe.bin"] == weights
    assert weights in on_board.read_files([artifact]).values()


def test_interrupted_export_keeps_the_old_files(model: Path) -> None:
    """The runtime refuses the new file, after its parts were written for it."""
    before = {path.name: path.read_bytes() for path in model.parent.iterdir()}
    facts = {"precision": "float32", "batch_size": None, "parent_sha256": None,
             "converter": "test", "calibration": None}  # fmt: skip
    text = b"7767517\n1 1\nInput in 0 1 image\n"  # it does not state its size
    with pytest.raises(ModelFileError, match=r"pip install|does not state the size of its input"):
        write_artifact(model, text, {".bin": b"new"}, **facts)
    assert {path.name: path.read_bytes() for path in model.parent.iterdir()} == before
