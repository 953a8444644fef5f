"""Installed packages, the content of the wheel, and calls that could run untrusted data."""

from __future__ import annotations

import ast
import importlib.metadata
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
CONSTRAINTS = ROOT / "constraints" / "{}.{}.txt".format(*sys.version_info)
# A virtual environment may begin with these, and the last is this package.
NOT_PINNED = {"pip", "setuptools", "wheel", "lenet-edge"}

needs_constraints = pytest.mark.skipif(
    not CONSTRAINTS.exists(), reason=f"there is no {CONSTRAINTS.relative_to(ROOT)}"
)


def pinned() -> dict[str, str]:
    pins = re.findall(r"^([\w.-]+)==(\S+)$", CONSTRAINTS.read_text(), re.M)
    return {named(name): version for name, version in pins if name not in NOT_PINNED}


def named(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


@needs_constraints
def test_constraints_pin_all_that_is_installed_and_nothing_else() -> None:
    installed = {named(it.name): it.version for it in importlib.metadata.distributions()}
    assert {name: v for name, v in installed.items() if name not in NOT_PINNED} == pinned()


@pytest.mark.costly
def test_what_is_installed_fits_together() -> None:
    done = subprocess.run([sys.executable, "-m", "pip", "check"], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_a_board_gets_three_packages_and_what_they_need() -> None:
    required = importlib.metadata.requires("lenet-edge") or []
    plain = {re.split(r"[^\w.-]", one)[0] for one in required if "extra ==" not in one}
    assert plain == {"click", "numpy", "rich"}


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


@pytest.mark.parametrize(
    "path", sorted((ROOT / "lenet_edge").rglob("*.py")), ids=lambda path: path.stem
)
def test_the_package_never_executes_data(path: Path) -> None:
    tree = ast.parse(path.read_text())
    imported = {
        name.split(".")[0]
        for node in ast.walk(tree)
        for name in (
            [alias.name for alias in node.names]
            if isinstance(node, ast.Import)
            else [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        )
    }  # fmt: skip
    unsafe = {"pickle", "marshal", "shelve", "dill", "joblib", "cloudpickle", "yaml"}
    # Dask unpickles messages in any case. This module restricts the classes.
    allowed = {"pickle"} if path.stem == "untrusted" else set()
    assert imported & unsafe == allowed
    for name, call in calls(tree):
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        assert name not in ("eval", "exec", "os.system", "os.popen"), ast.unparse(call)
        assert name not in ("pickle.load", "pickle.loads"), ast.unparse(call)
        if name != "extractor.extract":  # ncnn's, which computes an output
            unpacks = name.endswith((".extract", ".extractall", "unpack_archive"))
            assert not unpacks, ast.unparse(call)
        assert keywords.get("shell") in (None, "False"), ast.unparse(call)
        if name in ("np.load", "numpy.load"):
            assert keywords.get("allow_pickle") == "False", ast.unparse(call)
        if name.endswith("models.load_model"):
            assert (keywords["safe_mode"], keywords["compile"]) == ("True", "False"), ast.unparse(
                call
            )


@pytest.mark.slow
def test_the_wheel_contains_the_package_and_nothing_else(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(tmp_path)]
    subprocess.run([*command, str(ROOT)], check=True, timeout=600)
    (wheel,) = tmp_path.glob("*.whl")
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "lenet_edge"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split()  # fmt: skip
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        size = sum(member.compress_size for member in archive.infolist())
    metadata = {name for name in names if ".dist-info/" in name}
    assert names - metadata == set(tracked)
    assert {name.split("/", 1)[1] for name in metadata} == {
        "METADATA", "WHEEL", "RECORD", "entry_points.txt", "licenses/LICENSE",
        "licenses/lenet_edge/data/mnist/LICENSE.md",
    }  # fmt: skip
    mnist = sum((ROOT / "lenet_edge/data/mnist" / f"{part}.npz").stat().st_size
                for part in ("train", "test"))  # fmt: skip
    assert mnist < size < mnist + 1_000_000


@pytest.mark.slow
@needs_constraints
def test_the_bill_of_materials_names_every_package() -> None:
    subprocess.run(["make", "sbom"], cwd=ROOT, check=True, capture_output=True, timeout=600)
    bill = json.loads((ROOT / "dist" / "lenet-edge.cdx.json").read_text())
    assert bill["bomFormat"] == "CycloneDX"
    assert bill["metadata"]["component"]["name"] == "lenet-edge"
    listed = {named(one["name"]): one["version"] for one in bill["components"]}
    assert listed.items() >= pinned().items()
