"""An output replaces only a regular file, never an input, a manifest or a device.

The cases come from the commands themselves, so a new option cannot be forgotten: every parameter
that names a path is an output, with the type `OutputFile` or `OutputFolder`, or is in `INPUTS`.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import select
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from lenet_edge.artifacts.artifact import manifest_path
from lenet_edge.artifacts.reference import reference_path
from lenet_edge.cli import main
from lenet_edge.cli._outputs import OutputFile, OutputFolder, PathOrName
from tests.cli.test_errors import one_line
from tests.cli.test_help import EVERY_COMMAND

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests" / "golden" / "schema-4.json"
MODEL = ROOT / "exported" / "lenet_int8.tflite"
DIGIT = ROOT / "tests" / "data" / "handwriting" / "7-hasty-crayon.jpg"
INPUTS = {
    "base", "calibration", "card_file", "data", "data_dir", "dataset", "delegate", "files",
    "history", "images", "inputs", "inventory", "labels", "model", "models", "new", "pythons",
    "reference", "results", "teacher",
}  # fmt: skip


@dataclasses.dataclass(frozen=True)
class Case:
    """An output of a command, with or without one of its inputs."""

    command: str
    leaf: click.Command
    output: click.Parameter
    input: click.Parameter | None = None

    def __str__(self) -> str:
        names = [self.command, self.output.name, self.input and self.input.name]
        return "-".join(name for name in names if name)

    def run(self, output: Path | str, input: Path | None = None) -> Result:
        """Run the command in this process, in the current folder; its own code must not start."""
        options, arguments = [self.output.opts[-1], str(output)], list[str]()
        for param in self.leaf.params:
            if param is self.input:
                where = options if isinstance(param, click.Option) else arguments
                where += [*(param.opts[-1:] if where is options else ()), str(input)]
            elif isinstance(param, click.Argument) and param.required:
                arguments.append("x")
            elif param.required:
                options += [param.opts[-1], "x"]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(self.leaf, "callback", lambda **values: pytest.fail("it started"))
            words = [*self.command.split(), *options, *arguments]
            return CliRunner().invoke(main, words, prog_name="lenet-edge", catch_exceptions=False)


def is_input(param: click.Parameter) -> bool:
    outputs = (OutputFile, OutputFolder)
    return isinstance(param.type, (click.Path, PathOrName)) and not isinstance(param.type, outputs)


FILES = [
    Case(name, command, param)
    for name, command in EVERY_COMMAND
    for param in command.params
    if isinstance(param.type, OutputFile)
]
FOLDERS = [
    Case(name, command, param)
    for name, command in EVERY_COMMAND
    for param in command.params
    if isinstance(param.type, OutputFolder)
]
WITH_INPUTS = [
    dataclasses.replace(case, input=param)
    for case in FILES
    for param in case.leaf.params
    if is_input(param)
]


def refuse(result: Result, text: str) -> None:
    assert (result.exit_code, result.stdout) == (2, ""), result.output
    assert text in one_line(result.stderr)


def test_every_parameter_that_names_a_path_is_an_output_or_a_known_input() -> None:
    params = [param for _, command in EVERY_COMMAND for param in command.params]
    assert {param.name for param in params if is_input(param)} == INPUTS
    for param in params:
        if re.search("FILE|FOLDER|PATH|DIR|IMAGE", param.metavar or ""):
            assert isinstance(param.type, (click.Path, PathOrName)), param.opts
    assert len(FILES) > 15
    assert len(FOLDERS) > 4


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def takes(param: click.Parameter, kind: str) -> bool:
    """Return whether an input can be a "file" or a "folder"."""
    if isinstance(param.type, click.Path):
        return param.type.file_okay if kind == "file" else param.type.dir_okay
    return kind == "file" or param.name != "pythons"


@pytest.mark.parametrize("case", WITH_INPUTS, ids=str)
def test_an_own_input_is_refused_under_each_of_its_names(case: Case, tmp_path: Path) -> None:
    assert case.input
    assert isinstance(case.output.type, OutputFile)
    Path("folder").mkdir()
    file = tmp_path / "folder" / "input.bin"
    file.write_bytes(b"content")
    Path("link").symlink_to(file)
    os.link(file, "hard")
    for name in (str(file), "folder/../folder/input.bin", "link"):
        if takes(case.input, "file"):
            refuse(case.run(name, file), "would replace the input")
        if takes(case.input, "folder"):
            refuse(case.run(name, file.parent), "is a file in the input")
    if takes(case.input, "file"):
        refuse(case.run("hard", file), "would replace the input")
    assert (file.read_bytes(), Path("link").is_symlink()) == (b"content", True)


@pytest.mark.parametrize("case", FILES, ids=str)
def test_the_files_of_a_model_are_refused(case: Case) -> None:
    """A manifest is refused even if its model is no input: the model would lose it."""
    names = [
        "m.onnx",
        "M.TFLITE",
        reference_path(Path(), "0" * 64).name,
        manifest_path(Path("m.tflite")).name,
    ]
    for name in names:
        Path(name).write_text("{}")
        Path(f"link-to-{name}.txt").symlink_to(name)
        for path in (name, f"link-to-{name}.txt"):
            refuse(case.run(path), "is the name of")
        assert Path(name).read_text() == "{}"


@pytest.mark.parametrize("case", FILES, ids=str)
def test_what_cannot_be_written_is_refused_before_the_work(case: Case) -> None:
    os.mkfifo("fifo")
    refuse(case.run("fifo"), "is not a regular file" if regular(case) else "no process reads this")
    Path("loop").symlink_to("loop")
    refuse(case.run("loop"), "name the file itself")
    refuse(case.run("n" * 256), "give a shorter name")
    Path("folder").mkdir()
    refuse(case.run("folder"), "is a directory")
    assert Path("fifo").is_fifo()
    assert sorted(os.listdir()) == ["fifo", "folder", "loop"]


def regular(case: Case) -> bool:
    return isinstance(case.output.type, OutputFile) and case.output.type.regular


@pytest.mark.parametrize("case", [case for case in FILES if regular(case)], ids=str)
def test_a_device_is_refused_where_the_command_reads_its_output(case: Case) -> None:
    make_null(Path("null"))
    refuse(case.run("null"), "is not a regular file")
    assert is_null(Path("null"))


@pytest.mark.parametrize("case", FOLDERS, ids=str)
def test_a_device_or_a_fifo_is_no_folder(case: Case) -> None:
    os.mkfifo("fifo")
    refuse(case.run("fifo"), "is not a folder")
    Path("file").touch()
    refuse(case.run("file"), "is a file")


@pytest.mark.parametrize(
    ("command", "written"),
    [
        ("run --output-dir d --dataset", "d/lenet.training/state.npz"),
        ("run --output-dir d --json", "d/report.html"),
        ("export --output-dir d --calibration", "d/reference-0123456789ab.npz"),
        ("train --output d/m.keras --dataset", "d/m.training/state.npz"),
        ("tune --output-dir d --json", "d/lenet.tune.json"),
        ("bench --csv d/same --json", "d/same"),
        ("report results.json --output d/r.html --json", "d/r.html"),
    ],
)
def test_a_file_that_another_option_writes_is_refused(command: str, written: str) -> None:
    Path(written).parent.mkdir(parents=True)
    Path(written).write_text("content")
    words = [*command.split(), written]
    refuse(CliRunner().invoke(main, words, prog_name="lenet-edge"), written)
    assert Path(written).read_text() == "content"


def test_a_folder_with_a_link_to_an_input_is_refused() -> None:
    Path("lenet.keras").write_text("content")
    Path("out").mkdir()
    Path("out/lenet.keras").symlink_to("../lenet.keras")  # export leaves it as it is
    Path("out/lenet_int8.tflite").symlink_to("../lenet.keras")
    result = CliRunner().invoke(main, ["export", "lenet.keras", "--output-dir", "out"])
    refuse(result, "--output-dir out would replace the input lenet.keras (MODEL)")


def test_the_default_input_of_report_is_an_input() -> None:
    Path("demo").mkdir()
    Path("demo/results.json").write_text("content")
    result = CliRunner().invoke(main, ["report", "--json", "demo/results.json"])
    refuse(result, "would replace the input demo/results.json")


def make_null(path: Path) -> None:
    """Create a device that discards what is written, beside the machine's own."""
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 3))
        path.write_text("text")
    except PermissionError:
        pytest.skip("this user, or this file system, cannot have device files")


def is_null(path: Path) -> bool:
    status = path.lstat()
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == os.makedev(1, 3)


def read_fifo(descriptor: int) -> bytes:
    """Read until the last writer has closed the FIFO."""
    poll, content = select.poll(), b""
    poll.register(descriptor, select.POLLIN)
    while poll.poll(60_000):
        chunk = os.read(descriptor, 2**16)
        if not chunk:
            break
        content += chunk
    return content


@contextlib.contextmanager
def destination(kind: str, path: Path) -> Iterator[None]:
    """Create a destination at `path`, and check after the block that it is one and has content."""
    if kind == "device":
        make_null(path)
        yield
        assert is_null(path)
    elif kind == "fifo":
        os.mkfifo(path)
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
        with ThreadPoolExecutor() as pool:
            content = pool.submit(read_fifo, descriptor)
            yield
        os.close(descriptor)
        assert path.is_fifo()
        assert len(content.result()) > 20
    elif kind == "link":
        target = path.with_name(f"target of {path.name}")
        target.write_text("old")
        path.symlink_to(target)
        yield
        assert path.is_symlink()
        assert len(target.read_bytes()) > 20
    else:
        path.write_text("old")
        path.chmod(0o600)
        owner = 12345 if os.geteuid() == 0 else os.geteuid()
        os.chown(path, owner, -1)
        yield
        status = path.lstat()
        assert (stat.S_IMODE(status.st_mode), status.st_uid) == (0o600, owner)
        assert status.st_size > 20


# Commands that run in a second or a few, and their output options.
INSPECT = (["inspect", str(MODEL)], ["--json"])
COMPARE = (["compare", str(GOLDEN), str(GOLDEN)], ["--json"])
REPORT = (["report", str(GOLDEN), "--output", "r.md"], ["--json"])
PAGE = (["report", str(GOLDEN)], ["--output"])
PREDICT = (["predict", str(DIGIT), "--model", str(MODEL)], ["--json"])
BUNDLE = (["bundle", str(MODEL), "--num-images", "10"], ["--output", "--json"])
VERIFY = (["verify", str(MODEL), "--target", "litert-xnnpack"], ["--json", "--logits"])
BENCH = (
    ["bench", str(MODEL), "--target", "litert-xnnpack", "--batch-size", "1", "--rounds", "1",
     "--min-time", "0", "--max-time", "0.05"],
    ["--json", "--csv", "--pytest-benchmark"],
)  # fmt: skip
SUFFIXES = {"--output": ".md"}


@pytest.mark.parametrize(
    ("command", "kinds"),
    [
        *((INSPECT, [kind]) for kind in ("device", "fifo", "link", "private")),
        *((COMPARE, [kind]) for kind in ("device", "fifo", "link", "private")),
        *((PAGE, [kind]) for kind in ("device", "fifo", "link", "private")),
        (REPORT, ["fifo"]),
        (PREDICT, ["fifo"]),
        pytest.param(BUNDLE, ["link", "device"], marks=pytest.mark.costly),
        pytest.param(BUNDLE, ["private", "fifo"], marks=pytest.mark.costly),
        pytest.param(VERIFY, ["device", "fifo"], marks=pytest.mark.costly),
        pytest.param(VERIFY, ["fifo", "link"], marks=pytest.mark.slow),
        pytest.param(BENCH, ["fifo", "device", "private"], marks=pytest.mark.costly),
        pytest.param(BENCH, ["device", "fifo", "link"], marks=pytest.mark.slow),
    ],
    ids=lambda value: value[0][0] if isinstance(value, tuple) else "-".join(value),
)
def test_a_destination_keeps_its_kind_its_mode_and_its_owner(
    command: tuple[list[str], list[str]], kinds: list[str], tmp_path: Path
) -> None:
    words, options = list(command[0]), command[1]
    with contextlib.ExitStack() as stack:
        for option, kind in zip(options, kinds, strict=True):
            path = tmp_path / f"{kind}{SUFFIXES.get(option, '.txt')}"
            stack.enter_context(destination(kind, path))
            words += [option, str(path)]
        result = CliRunner().invoke(main, words, prog_name="lenet-edge", catch_exceptions=False)
        undecided = words[0] == "report"  # its results have no verdict
        assert result.exit_code == (4 if undecided else 0), result.stderr


@pytest.mark.parametrize("path", ["/dev/stdout", "/proc/self/fd/1"])
def test_a_pipe_gets_the_json_and_the_table(path: str) -> None:
    done = subprocess.run(to_standard_output(path), capture_output=True, text=True, check=True)
    check_json_and_table(done.stdout)


@pytest.mark.parametrize("path", ["/dev/fd/1", "link"])
def test_a_redirected_file_is_continued(path: str) -> None:
    Path("link").symlink_to("/dev/stdout")
    with open("redirected", "w") as file:
        file.write("earlier\n")
        file.flush()
        subprocess.run(to_standard_output(path), stdout=file, check=True)
    text = Path("redirected").read_text()
    assert text.startswith("earlier\n")
    check_json_and_table(text.removeprefix("earlier\n"))


def check_json_and_table(text: str) -> None:
    facts, end = json.JSONDecoder().raw_decode(text)
    assert "changes" in facts
    assert text[end:].strip()


def to_standard_output(path: str) -> list[str]:
    words = ["-m", "lenet_edge", "compare", str(GOLDEN), str(GOLDEN), "--json", path]
    return [sys.executable, *words]
