"""Firmware folders: they build, their self-test passes, and they replace nobody's files."""

from __future__ import annotations

import json
import re
import selectors
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from click.testing import CliRunner

from lenet_edge.artifacts.artifact import Artifact, load_artifact
from lenet_edge.cli import main
from lenet_edge.data import mnist
from lenet_edge.errors import LenetEdgeError, ModelFileError, UsageError
from lenet_edge.export import firmware
from lenet_edge.export.firmware import find_firmware_board, folder
from lenet_edge.export.firmware.layouts import FIRMWARE_BOARDS
from lenet_edge.export.from_tflite import export_tflite
from lenet_edge.microcontrollers.boards import BOARDS
from tests.conftest import LenetEdge

pytestmark = pytest.mark.costly
EXPORTED = Path(__file__).parents[2] / "exported"
TFLITE = EXPORTED / "lenet_int8.tflite"
STUBS = Path(__file__).parent / "firmware_stubs"
PROGRAMS = ("cmake", "arm-none-eabi-gcc", "qemu-system-arm")
EMULATED = [name for name, board in FIRMWARE_BOARDS.items() if board.machine]


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    """Return the int8 C file of LeNet in a folder of its own."""
    for name in ("lenet_native_int8.c", "lenet_native_int8.c.json"):
        shutil.copy(EXPORTED / name, tmp_path / name)
    return load_artifact(tmp_path / "lenet_native_int8.c")


def write(artifact: Artifact, board: str) -> Path:
    images = mnist.load("test").images
    chosen = find_firmware_board(board)
    footprint = firmware.check(artifact.path.read_bytes(), artifact.name, chosen)
    firmware.write(artifact, TFLITE, images, chosen, footprint)
    return artifact.path.with_name(f"lenet_native_int8_{board}")


def build(path: Path) -> Path:
    """Build a plain path with the first command of its README; return the program."""
    command = re.findall(r"```sh\n(.*)\n", (path / "README.md").read_text())[0]
    built = subprocess.run(["sh", "-c", command], cwd=path, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    assert "warning" not in built.stderr + built.stdout
    assert (path / "build" / "firmware.hex").is_file()
    return path / "build" / "firmware.elf"


def emulate(program: Path, machine: str | None) -> str:
    """Return the first line that a program prints in QEMU."""
    assert machine
    options = ["-display", "none", "-monitor", "none", "-serial", "stdio", "-kernel", str(program)]
    return first_line(["qemu-system-arm", "-M", machine, *options])


def first_line(command: Sequence[str | Path]) -> str:
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as process:
        assert process.stdout
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            line = process.stdout.readline() if selector.select(60) else b""
        process.kill()
    return line.decode()


@pytest.mark.needs(*PROGRAMS)
@pytest.mark.parametrize("board", [
    pytest.param(name, marks=() if name == "microbit-v1" else pytest.mark.slow)
    for name in EMULATED
])  # fmt: skip
def test_the_self_test_passes_in_an_emulator(board: str, artifact: Artifact) -> None:
    path = write(artifact, board)
    program, machine = build(path), FIRMWARE_BOARDS[board].machine
    assert emulate(program, machine) == "lenet: PASS, 10 of 10 images\r\n"
    if board != "microbit-v1":
        return
    model = path / "src" / "firmware_model.c"
    text = model.read_text()
    # The last byte of the expected outputs is the tenth logit of the tenth image.
    head, last = re.findall(r"(?s)(.*expected\[\] = \{.*?,)(\d+),\n\};", text)[0]
    model.write_text(text.replace(f"{head}{last},", f"{head}{(int(last) + 1) % 256},"))
    line = emulate(build(path), machine)
    assert re.fullmatch(
        r"lenet: FAIL at image 9, output 0, element 9: (-?\d+) instead of (-?\d+)\r\n", line
    )


@pytest.mark.needs("arm-none-eabi-gcc")
def test_an_arduino_library_has_the_layout_of_the_specification(artifact: Artifact) -> None:
    """Source: arduino.github.io/arduino-cli/latest/library-specification, revision 2.2."""
    path = write(artifact, "nano-33-ble")
    lines = (path / "library.properties").read_text().splitlines()
    facts = dict(line.split("=", 1) for line in lines)
    assert {"name", "version", "author", "maintainer", "sentence", "paragraph", "category", "url",
            "architectures"} <= facts.keys()  # fmt: skip
    assert re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9 _.-]{0,62}", facts["name"])
    assert re.fullmatch(r"\d+\.\d+\.\d+", facts["version"])
    assert facts["category"] in {"Display", "Communication", "Signal Input/Output", "Sensors",
                                 "Device Control", "Timing", "Data Storage", "Data Processing",
                                 "Other"}  # fmt: skip
    assert not facts["sentence"].lower().startswith("arduino")
    headers = facts["includes"].split(",")
    assert all((path / "src" / header).is_file() for header in headers)
    sketches = list((path / "examples").rglob("*.ino"))
    assert [sketch.stem for sketch in sketches] == [sketch.parent.name for sketch in sketches]
    assert not [file for file in path.iterdir() if file.suffix in {".c", ".cpp", ".h"}]


@pytest.mark.slow
@pytest.mark.needs("gcc")
def test_programs_run_with_stubs_of_their_libraries(artifact: Artifact, tmp_path: Path) -> None:
    """The stubs have the functions of each library that the program calls."""
    common: list[str | Path] = []
    for board, program in (
        ("nano-33-ble", "examples/firmware/firmware.ino"),
        ("nrf52840-dk", "app/src/main.c"),
        ("pico2", "main.c"),
    ):
        path = write(artifact, board)
        include: list[str | Path] = ["-I", STUBS, "-I", path / "src"]
        if not common:
            for source in (*(path / "src").glob("*.c"), STUBS / "stubs.c"):
                common.append(tmp_path / f"{source.stem}.o")
                command: list[str | Path] = [
                    "gcc",
                    *include,
                    "-DPLAIN_C",
                    "-O1",
                    "-c",
                    source,
                    "-o",
                    common[-1],
                ]
                subprocess.run(command, check=True)
        # The Arduino IDE compiles C++, and includes Arduino.h.
        kind = ["-std=gnu++17", "-x", "c++", "-include", "Arduino.h"]
        if program.endswith(".c"):
            kind = ["-std=gnu11", "-x", "c", "-DSTACK_BYTES=65536"]
        subprocess.run(
            ["gcc", *kind, "-Wall", "-Wextra", "-Werror", *include, path / program, "-x", "none",
             *common, "-o", tmp_path / board], check=True,
        )  # fmt: skip
        assert first_line([tmp_path / board]) == "lenet: PASS, 10 of 10 images\r\n"


def test_a_zephyr_module_has_its_files(artifact: Artifact) -> None:
    path = write(artifact, "nrf52840-dk")
    module = (path / "zephyr" / "module.yml").read_text()
    assert re.search(r"^build:\n  cmake: \.\n  kconfig: Kconfig$", module, re.MULTILINE)
    option = re.findall(r"^config (\w+)\n", (path / "Kconfig").read_text())[0]
    assert f"CONFIG_{option}=y\n" in (path / "app" / "prj.conf").read_text()
    sources = re.findall(r"src/\w+\.c", (path / "CMakeLists.txt").read_text())
    assert {path / source for source in sources} == set((path / "src").glob("*.c"))


def test_every_board_of_the_table_has_a_layout() -> None:
    assert FIRMWARE_BOARDS.keys() >= BOARDS.keys()
    with pytest.raises(UsageError, match="'piko' is unknown; did you mean pico"):
        find_firmware_board("piko")
    with pytest.raises(UsageError, match="--board esp32 is not covered: its processor"):
        find_firmware_board("esp32")


def test_a_folder_with_other_content_is_not_replaced(tmp_path: Path) -> None:
    path, files = tmp_path / "pico", {"main.c": "int main(void) {}", "src/a.c": "int a;"}
    folder.write(path, files)
    (path / "build").mkdir()
    (path / "build" / "firmware.uf2").touch()
    assert set(json.loads((path / "lenet-edge.json").read_text())["files"]) == set(files)
    folder.write(path, {"main.c": "int main(void) { return 0; }"})  # nobody has changed it
    names = {"main.c", "lenet-edge.json"}
    assert {file.name for file in path.rglob("*")} == names
    (path / "notes.txt").touch()
    with pytest.raises(LenetEdgeError, match=r"has a changed or added file, notes\.txt; move it"):
        folder.write(path, files)
    (path / "notes.txt").unlink()
    (path / "main.c").write_text("int main(void) { return 1; }")
    with pytest.raises(LenetEdgeError, match=r"changed or added file, main\.c"):
        folder.write(path, files)
    shutil.rmtree(path)
    path.mkdir()
    (path / "thesis.tex").write_text("all of it")
    with pytest.raises(LenetEdgeError, match="is not a folder that lenet-edge wrote"):
        folder.write(path, files)
    assert [file.name for file in path.iterdir()] == ["thesis.tex"]
    shutil.rmtree(path)
    path.write_text("a file")
    with pytest.raises(LenetEdgeError, match="is no folder"):
        folder.write(path, files)
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_leaves_the_old_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "pico"
    folder.write(path, {"a.c": "old"})
    real = Path.write_text

    def fail(path: Path, text: str, **options: str) -> int:
        if path.name == "b.c":
            raise OSError(28, "No space left on device")
        return real(path, text, **options)

    monkeypatch.setattr(Path, "write_text", fail)
    with pytest.raises(LenetEdgeError, match=r"cannot write .*: No space left on device; check"):
        folder.write(path, {"a.c": "new", "b.c": "new"})
    assert (path / "a.c").read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_model_that_is_too_large_is_refused_before_anything_is_written(tmp_path: Path) -> None:
    board = find_firmware_board("stm32vldiscovery")
    with pytest.raises(
        ModelFileError, match=r"needs about 3\d\d,\d{3} bytes of flash, and the board has 131,072"
    ):
        export_tflite(EXPORTED / "lenet_float32.tflite", tmp_path, ("firmware",), board=board)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("options", "message"), [
    ("--format firmware", "--format firmware needs a board, such as --board pico"),
    ("--format firmware --board nowhere", "--board 'nowhere' is unknown; choose another board"),
    ("--format native --board pico", "--board is for --format firmware"),
])  # fmt: skip
def test_wrong_options_are_one_line(options: str, message: str, tmp_path: Path) -> None:
    refused = CliRunner().invoke(
        main, ["export", str(TFLITE), "--output-dir", str(tmp_path), *options.split()]
    )
    assert refused.exit_code == 2
    assert message in refused.stderr
    assert not list(tmp_path.iterdir())


@pytest.mark.slow
@pytest.mark.needs(*PROGRAMS)
def test_a_checkpoint_becomes_firmware(lenet_edge: LenetEdge, tmp_path: Path) -> None:
    result = lenet_edge(
        "export", EXPORTED / "lenet.keras", "--output-dir", tmp_path, "--format", "firmware",
        "--board", "mps2-an386",
    )  # fmt: skip
    assert result.returncode == 0, result.stderr
    path = tmp_path / "lenet_native_int8_mps2-an386"
    assert f"{path}: firmware for mps2-an386, with a self-test of 10 images" in result.stderr
    copy = path / "src" / "lenet_native_int8.c"
    assert copy.read_bytes() == (tmp_path / "lenet_native_int8.c").read_bytes()
    assert {file.suffix for file in tmp_path.iterdir()} >= {".tflite", ".c", ".keras", ".npz"}
    assert emulate(build(path), "mps2-an386") == "lenet: PASS, 10 of 10 images\r\n"
