"""Layouts of firmware folders, and the boards that use them.

A layout is the folder that a build system expects: an Arduino library, a Zephyr module with an
application, a program for the Pico SDK, or CMake with arm-none-eabi-gcc ("plain").
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from lenet_edge.errors import UsageError
from lenet_edge.microcontrollers.boards import BOARDS, NOT_COVERED
from lenet_edge.support.spelling import did_you_mean

_TEMPLATES = Path(__file__).parent / "templates"
_KIB = 1024
_PORT = "/dev/ttyACM0"


@dataclass(frozen=True)
class FirmwareBoard:
    """A board that firmware can be exported for.

    Attributes:
        name: the value of ``--board``.
        title: its name in texts.
        core: its core, which GCC's -mcpu takes.
        flash_bytes, ram_bytes: its memory.
        layout: "arduino", "zephyr", "pico" or "plain".
        identifier: the name of the board in the layout's build system; in QEMU for "plain".
    """

    name: str
    title: str
    core: str
    flash_bytes: int
    ram_bytes: int
    layout: str
    identifier: str

    @property
    def machine(self) -> str | None:
        """QEMU's name of the board; None if it has no plain layout, which QEMU boots."""
        return self.identifier if self.layout == "plain" else None


@dataclass(frozen=True)
class PlainBoard:
    """The registers and the memory of a board in the plain layout.

    Attributes:
        uart: the driver, a template uart_*.c.
        uart_address: the address of its registers.
        clock_hz: the clock of the core after reset.
        flash, ram: the addresses of flash and RAM.
        extension: the part of -mcpu behind the core.
        flags: more flags of the compiler.
        definitions: more macros.
        load: the command that flashes a real board; "" for an emulated one.
    """

    uart: str
    uart_address: int
    clock_hz: int
    flash: int = 0
    ram: int = 0x20000000
    extension: str = ""
    flags: str = "-mfloat-abi=soft"
    definitions: str = ""
    load: str = ""


_HARD = "-mfloat-abi=hard"
_ST_LINK = (
    "openocd -f interface/stlink.cfg -f target/{chip}.cfg -c 'program build/firmware.hex verify"
    " reset exit'"
)
# Boards of QEMU: core, KiB of flash and RAM, registers. The program is the same on the real ones.
_PLAIN = {
    "mps2-an385": ("cortex-m3", 4096, 4096, PlainBoard("cmsdk", 0x40004000, 25_000_000)),
    "mps2-an386": ("cortex-m4", 4096, 4096,
                   PlainBoard("cmsdk", 0x40004000, 25_000_000, flags=_HARD)),
    "mps2-an500": ("cortex-m7", 4096, 4096,
                   PlainBoard("cmsdk", 0x40004000, 25_000_000, flags=_HARD)),
    "mps2-an505": ("cortex-m33", 4096, 2048,
                   PlainBoard("cmsdk", 0x50200000, 20_000_000, 0x10000000, 0x38000000)),
    "mps2-an521": ("cortex-m33", 4096, 2048,
                   PlainBoard("cmsdk", 0x50200000, 20_000_000, 0x10000000, 0x38000000,
                              extension="+nodsp")),
    "mps3-an524": ("cortex-m33", 512, 128,
                   PlainBoard("cmsdk", 0x51303000, 32_000_000, 0x10000000, 0x30000000,
                              extension="+nodsp")),
    "mps3-an547": ("cortex-m55", 512, 512,
                   PlainBoard("cmsdk", 0x59303000, 32_000_000, flags=_HARD)),
    "musca-b1": ("cortex-m33", 512, 128,
                 PlainBoard("pl011", 0x50105000, 40_000_000, 0x10000000, 0x30000000)),
    "lm3s6965evb": ("cortex-m3", 256, 64,
                    PlainBoard("pl011", 0x4000C000, 12_000_000, definitions="STELLARIS")),
    "emcraft-sf2": ("cortex-m3", 256, 64, PlainBoard("16550", 0x40000000, 50_000_000)),
    "stm32vldiscovery": ("cortex-m3", 128, 8,
                         PlainBoard("stm32", 0x40013800, 8_000_000, 0x08000000,
                                    definitions="STM32F1", load=_ST_LINK.format(chip="stm32f1x"))),
    "netduino2": ("cortex-m3", 1024, 128,
                  PlainBoard("stm32", 0x40011000, 16_000_000, 0x08000000,
                             load=_ST_LINK.format(chip="stm32f2x"))),
    "netduinoplus2": ("cortex-m4", 1024, 128,
                      PlainBoard("stm32", 0x40011000, 16_000_000, 0x08000000, flags=_HARD,
                                 load=_ST_LINK.format(chip="stm32f4x"))),
}  # fmt: skip
# All boards of the plain layout.
_PLAIN_BOARDS = {
    "microbit-v1": PlainBoard(
        "nrf51", 0x40002000, 16_000_000, load='cp build/firmware.hex "/media/$USER/MICROBIT"'
    ),
    **{name: plain for name, (*_, plain) in _PLAIN.items()},
}
# The layout of each board in the table of boards, and its name there.
_LAYOUTS = {
    "pico": ("pico", "pico"),
    "pico2": ("pico", "pico2"),
    "nano-33-ble": ("arduino", "arduino:mbed_nano:nano33ble"),
    "arduino-zero": ("arduino", "arduino:samd:arduino_zero_native"),
    "teensy41": ("arduino", "teensy:avr:teensy41"),
    "microbit-v1": ("plain", "microbit"),
    "microbit-v2": ("zephyr", "bbc_microbit_v2"),
    "nrf52840-dk": ("zephyr", "nrf52840dk/nrf52840"),
    "nrf5340-dk": ("zephyr", "nrf5340dk/nrf5340/cpuapp"),
    "nucleo-f103rb": ("zephyr", "nucleo_f103rb"),
    "stm32f4-discovery": ("zephyr", "stm32f4_disco"),
    "nucleo-f446re": ("zephyr", "nucleo_f446re"),
    "nucleo-h743zi": ("zephyr", "nucleo_h743zi"),
}
FIRMWARE_BOARDS = {
    **{
        name: FirmwareBoard(name, board.title, board.core, board.flash_bytes, board.ram_bytes,
                            *_LAYOUTS[name])
        for name, board in BOARDS.items() if name in _LAYOUTS
    },
    **{
        name: FirmwareBoard(name, name, core, flash * _KIB, ram * _KIB, "plain", name)
        for name, (core, flash, ram, _) in _PLAIN.items()
    },
}  # fmt: skip


def find_firmware_board(name: str) -> FirmwareBoard:
    """Return the board with a name.

    Raises:
        UsageError: no board has it; the message lists the names.
    """
    key = name.lower()
    if key in FIRMWARE_BOARDS:
        return FIRMWARE_BOARDS[key]
    if key in NOT_COVERED:
        raise UsageError(f"--board {name} is not covered: {NOT_COVERED[key]}")
    hint = did_you_mean(key, FIRMWARE_BOARDS, 0.5) or "choose another board"
    raise UsageError(f"--board {name!r} is unknown; {hint} (all: {', '.join(FIRMWARE_BOARDS)})")


def files_of(
    board: FirmwareBoard, stem: str, function: str, model: Path, stack_bytes: int
) -> dict[str, str]:
    """Return the files of a folder, without the network and its data: the texts by their paths.

    Args:
        board: the board.
        stem: the name of the C file of the network, without its suffix.
        function: the name of the network's function.
        model: the C file that the user verifies.
        stack_bytes: the stack that the program needs.
    """
    words = {
        "file": stem,
        "name": function,
        "library": re.sub(r"[^A-Za-z0-9_.-]", "_", stem)[:63],
        "option": stem.upper(),
        "board": board.title,
        "board_id": board.identifier,
        "stack": str(-(-stack_bytes // 64) * 64),
    }
    files = {f"src/{path.name}": path.read_text("utf-8") for path in _templates("common")}
    if board.layout == "plain":
        files |= _plain_files(board, words)
    elif board.layout == "arduino":
        files["library.properties"] = _fill("arduino/library.properties", words)
        files["examples/firmware/firmware.ino"] = _fill("arduino/firmware.ino", words)
    else:
        folder = _TEMPLATES / board.layout
        for path in _templates(board.layout):
            name = path.relative_to(folder).as_posix()
            files[name] = _fill(f"{board.layout}/{name}", words)
    files["README.md"] = _readme(board, stem, model)
    return files


def _templates(folder: str) -> list[Path]:
    return sorted(path for path in (_TEMPLATES / folder).rglob("*") if path.is_file())


def _fill(template: str, words: Mapping[str, str]) -> str:
    """Return a template with the values of the words that it has between @ signs."""
    text = (_TEMPLATES / template).read_text("utf-8")
    return re.sub(r"@(\w+)@", lambda match: words[match[1]], text)


def _plain_files(board: FirmwareBoard, words: Mapping[str, str]) -> dict[str, str]:
    plain = _PLAIN_BOARDS[board.name]
    memory = {"FLASH": plain.flash, "FLASH_SIZE": board.flash_bytes,
              "RAM": plain.ram, "RAM_SIZE": board.ram_bytes,
              "STACK_SIZE": int(words["stack"])}  # fmt: skip
    words = {
        **words,
        "flags": f"-mcpu={board.core}{plain.extension} -mthumb {plain.flags}",
        "memory": " ".join(f"-Wl,--defsym={name}={value:#x}" for name, value in memory.items()),
        "definitions": f"UART={plain.uart_address:#x} CLOCK_HZ={plain.clock_hz}u BAUD=115200u"
        f" {plain.definitions}".rstrip(),
    }
    names = ("main.c", "start.c", "board.h", "link.ld", "toolchain.cmake", "CMakeLists.txt")
    files = {name: _fill(f"plain/{name}", words) for name in names}
    return {**files, "uart.c": _fill(f"plain/uart_{plain.uart}.c", words)}


def _commands(board: FirmwareBoard, model: Path) -> tuple[list[str], str]:
    """Return the commands that build, flash and verify a folder, and a remark about them."""
    verify = f"lenet-edge verify ../{model.name} --target serial:"
    if board.layout == "arduino":
        name = f"--fqbn {board.identifier}"
        return [
            f"arduino-cli compile {name} --library . --build-property compiler.c.extra_flags=-O3"
            " examples/firmware",
            f"arduino-cli upload {name} --port {_PORT} examples/firmware",
            verify + _PORT,
        ], "In the Arduino IDE: Sketch, Include Library, Add .ZIP Library; then File, Examples."
    if board.layout == "zephyr":
        return [
            f"west build --board {board.identifier} app",
            "west flash",
            verify + _PORT,
        ], "The commands need a Zephyr workspace; ZEPHYR_BASE names its folder zephyr."
    build = "cmake -B build && cmake --build build"
    if board.layout == "pico":
        return [build, "picotool load -x build/firmware.uf2", verify + _PORT], (
            "PICO_SDK_PATH names the folder of the Pico SDK. Hold BOOTSEL while you connect the"
            " board, before the second command."
        )
    plain = _PLAIN_BOARDS[board.name]
    qemu = (
        f"qemu-system-arm -M {board.machine} -display none -monitor none"
        " -serial unix:/tmp/board,server=on -kernel build/firmware.elf"
    )
    emulated = f"{verify}/tmp/board"
    if not plain.load:
        return [build, qemu, emulated], (
            "QEMU emulates the board. It waits for the third command, in another terminal."
        )
    return [build, plain.load, verify + _PORT], (
        f"Without the board, QEMU emulates it: `{qemu}`, and in another terminal `{emulated}`."
    )


_NAMES = {
    "arduino": "an Arduino library",
    "zephyr": "a Zephyr module, with an application in `app`",
    "pico": "a program for the Pico SDK",
    "plain": "a program for CMake and arm-none-eabi-gcc",
}


def _readme(board: FirmwareBoard, stem: str, model: Path) -> str:
    commands, remark = _commands(board, model)
    return "\n".join(
        [
            f"# {stem} on {board.title}",
            "",
            f"lenet-edge made this folder: {_NAMES[board.layout]}. Build it, flash it, verify it:",
            "",
            "```sh",
            *commands,
            "```",
            "",
            remark,
            "",
            "After a reset, the program runs a self-test, and prints a line with PASS or FAIL at"
            " 115,200 baud. It",
            "prints the line again if you type `test` in a serial terminal. The expected outputs"
            " are those of",
            "LiteRT's reference kernels. Then `verify` compares every image. The file that it names"
            " must be the one",
            "in this folder.",
            "",
            f"- `src/{stem}.c`: the network; `src/{stem}.h` declares its function.",
            "- `src/firmware.c`: the serial protocol, in C99. Your own program may leave it out.",
            "- `src/firmware_model.c`: the network's tensors, and the images of the self-test.",
            "",
        ]
    )
