"""Ways to install: extras, the wheel on each Python version, and the container file."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from lenet_edge import extras
from lenet_edge.extras import _DEPLOYABLE, PACKAGES, install_command
from lenet_edge.runtimes import deployables
from tests.test_supply import named

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: dict[str, list[str]] = PROJECT["optional-dependencies"]


def split(requirement: str) -> tuple[str, str]:
    """Return the name of a package in the index and its version, without a marker."""
    match = re.match(r"([\w.-]+)(\[.*\])?([^;\s]*)", requirement)
    assert match
    return named(match[1]), match[3]


def own(extra: str) -> dict[str, set[str]]:
    """Return the packages of an extra with their versions, without those of other extras."""
    versions: dict[str, set[str]] = {}
    for name, version in map(split, EXTRAS[extra]):
        if name != "lenet-edge":
            versions.setdefault(name, set()).add(version)
    return versions


def test_each_extra_has_the_command_that_installs_its_packages() -> None:
    assert {*PACKAGES} == {*EXTRAS} - {"all", "test"}
    required = functools.reduce(lambda known, extra: known | {*own(extra)}, EXTRAS, set[str]())
    for extra, arguments in PACKAGES.items():
        command = {split(word.strip("'")) for word in arguments.split()}
        assert {*own(extra)} <= {name for name, _ in command} <= required, extra
        for name, version in command:
            assert not version or version in own(extra)[name], (extra, name)
    assert install_command("onnx") == "pip install onnxruntime"
    assert {*_DEPLOYABLE} == {deployable.name for deployable in deployables()} & {*EXTRAS}


def test_advice_fits_where_it_is_printed(tmp_path: Path) -> None:
    """Read it with Debian's Python, which refuses pip, and in a copy of what a board has."""
    shutil.copy(extras.__file__, tmp_path)
    program = "import extras; print(extras.install_command({!r}), extras.host_command('run'))"

    def advice(python: Path, extra: str) -> str:
        command = [str(python), "-c", program.format(extra)]
        return subprocess.check_output(command, cwd=tmp_path, text=True).strip()

    ending = " run, on the host"
    deployed = tmp_path / "environments"
    venv.create(deployed)
    (deployed / "complete").touch()
    python = deployed / "bin" / "python"
    assert advice(python, "onnx") == f"lenet-edge deploy HOST --runtime onnx, on the host{ending}"
    assert advice(python, "fleet").startswith("python3 -m venv ENV && ENV/bin/pip install crypt")
    (tmp_path / "export").mkdir()
    debian = Path("/usr/bin/python3")
    if not [*Path("/usr/lib").glob("python3*/EXTERNALLY-MANAGED")]:
        pytest.skip("this system lets pip install into its own Python")
    assert advice(debian, "serve") == "sudo apt install python3-pil python3-tornado run"
    assert advice(debian, "onnx") == "python3 -m venv ENV && ENV/bin/pip install onnxruntime run"


def test_all_is_every_extra_of_one_environment() -> None:
    (line,) = EXTRAS["all"]
    listed = {*line.split("[")[1].rstrip("]").split(",")}
    (host,) = (item for item in EXTRAS["host"] if item.startswith("lenet-edge["))
    nested = {*host.split("[")[1].rstrip("]").split(",")} | {"predict"}
    assert listed | nested == {*EXTRAS} - {"all", "test", "opencv", "executorch", "mlflow"}


@pytest.mark.parametrize("folder", ["lenet_edge", "docs", "README.md"])
def test_nothing_advises_an_index_that_does_not_have_the_package(folder: str) -> None:
    place = ROOT / folder
    for path in [place] if place.is_file() else place.rglob("*"):
        if path.suffix in (".py", ".md", ".ipynb", ".html", ".j2", ".sh"):
            assert not re.search(r"(pipx?|uv) install '?lenet-edge", path.read_text()), path


def test_the_container_file_builds_from_files_that_it_is_given() -> None:
    text = (ROOT / "Containerfile").read_text()
    lines = [line.split() for line in text.splitlines() if line and not line.startswith("#")]
    assert {line[0] for line in lines} <= {
        "ARG", "FROM", "RUN", "COPY", "ENV", "USER", "WORKDIR", "EXPOSE", "ENTRYPOINT", "CMD",
    }  # fmt: skip
    (extras,) = re.findall(r"^ARG EXTRAS=(.*)$", text, re.MULTILINE)
    assert {*extras.split(",")} <= {*EXTRAS}
    given = {
        line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line[0] == "!"
    }
    copied = {name for line in lines if line[0] == "COPY" for name in line[1:-1]}
    assert {name for name in copied if not name.startswith(("--from", "/"))} == given
    assert all((ROOT / name).exists() for name in given)
    (entry,) = (line[1:] for line in lines if line[0] == "ENTRYPOINT")
    assert json.loads(" ".join(entry)) == [*PROJECT["scripts"]]


def find_python(version: str) -> Path | None:
    """Return a Python of a version, from the PATH or from pyenv."""
    program = shutil.which(f"python{version}")
    installed = sorted(Path.home().glob(f".pyenv/versions/{version}.*/bin/python"))
    for path in [*([Path(program)] if program else []), *installed]:
        probe = [str(path), "-c", "import sys, venv; print('%d.%d' % sys.version_info[:2])"]
        done = subprocess.run(probe, capture_output=True, text=True)
        if done.stdout.strip() == version:  # a shim of pyenv may start none
            return path
    return None


@pytest.fixture(scope="module")
def wheel() -> Path:
    """Return the wheel of `make wheel`."""
    make = ["make", "wheel", f"PYTHON={sys.executable}"]
    digests = []
    for mask in ("022", "077"):
        command = ["sh", "-c", f'umask {mask}; exec "$@"', "sh", *make]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        (path,) = (ROOT / "dist").glob("lenet_edge-*.whl")
        digests.append(hashlib.sha256(path.read_bytes()).hexdigest())
    assert digests[0] == digests[1]  # the build is reproducible
    return path


@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.10", "3.11", "3.12", "3.13"])
def test_the_wheel_verifies_a_file_on_each_python_version(
    wheel: Path, version: str, tmp_path: Path
) -> None:
    if version == "{}.{}".format(*sys.version_info):
        pytest.skip("test_board.py uses this version")
    python = find_python(version)
    if python is None:
        pytest.skip(f"there is no Python {version} with venv on the PATH or in ~/.pyenv")
    bin = tmp_path / "venv" / "bin"
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}

    def run(*command: str | Path) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )

    assert run(python, "-m", "venv", "--without-pip", "venv").returncode == 0
    pip = (sys.executable, "-m", "pip", "--python", bin / "python", "install", "--quiet")
    installed = run(*pip, "--no-compile", f"{wheel}[onnx]")
    assert installed.returncode == 0, installed.stderr
    file = ROOT / "exported" / "lenet_int8.onnx"
    done = run(bin / "lenet-edge", "verify", file, "--json", "verified.json")
    assert done.returncode == 0, done.stdout + done.stderr
    facts = json.loads((tmp_path / "verified.json").read_text())
    assert facts["environment"]["python"].startswith(version)
    (parity,) = facts["parity"]
    assert parity["passed"]
    missing = run(bin / "lenet-edge", "report", "verified.json")
    assert "install it with: pip install jinja2 matplotlib pillow" in " ".join(
        missing.stderr.split()
    )
