"""Table of microcontroller boards: the core, flash, RAM and clock of each, with their sources.

A source names the document, and the commit or number of the version that was read.
"""

from __future__ import annotations

from dataclasses import dataclass

from lenet_edge.errors import UsageError
from lenet_edge.support.spelling import did_you_mean

_KIB = 1024
_MIB = 1024 * _KIB
_MHZ = 1_000_000


@dataclass(frozen=True)
class MicrocontrollerBoard:
    """A microcontroller board.

    Attributes:
        name: the value of ``--board``.
        title: the name that the manufacturer gives it.
        chip: the microcontroller.
        processor: the processor of the chip, as Arm names it.
        core: the core whose code it runs: "cortex-m4" compiles and counts for it.
        flash_bytes: flash that a program may fill. A bootloader that stays there is subtracted,
            unless `note` names it.
        ram_bytes: RAM that a linker script gives to variables and stack.
        clock_hz: the highest clock of the core.
        flash_source, ram_source, clock_source: where each figure is from.
        note: a restriction that the figures do not show.
    """

    name: str
    title: str
    chip: str
    processor: str
    core: str
    flash_bytes: int
    ram_bytes: int
    clock_hz: int
    flash_source: str
    ram_source: str
    clock_source: str
    note: str = ""


_PICO = "Zephyr, boards/raspberrypi/rpi_pico/doc/index.rst (1bd86a1)"
_PICO_2 = "Zephyr 4.1.0, Raspberry Pi Pico 2"
_PICO_NOTE = (
    "The Pico SDK's stack has a bank of 4,096 bytes, and the 4,096 bytes below it if core 1 is not"
    " used"
)
_NRF52840 = "Zephyr, dts/arm/nordic/nrf52840_qiaa.dtsi (06758ff)"
_NRF52833 = "Zephyr, dts/arm/nordic/nrf52833_qiaa.dtsi (1714a88)"
_NRF51822 = "Zephyr, dts/arm/nordic/nrf51822_qfaa.dtsi (0e26cfe)"
_NRF5340 = "Zephyr, dts/arm/nordic/nrf5340_cpuapp_qkaa.dtsi (0b6e4bc)"
_ARDUINO_MBED = "ArduinoCore-mbed, boards.txt (04ccf55)"
_ZERO = "Zephyr 2.1.0, Arduino/Genuino Zero"
_F103 = "RIOT, STM32 Nucleo-F103RB"
_F407 = "Zephyr 3.0.0, ST STM32F4 Discovery"
_F446 = "Zephyr 4.0.0, Nucleo F446RE"
_H743 = "Zephyr, boards/st/nucleo_h743zi/doc/index.rst (02d6d20)"
_TEENSY = "PlatformIO, Teensy 4.1"

BOARDS = {
    board.name: board
    for board in (
        MicrocontrollerBoard(
            "pico", "Raspberry Pi Pico", "RP2040", "Cortex-M0+", "cortex-m0",
            2 * _MIB, 264 * _KIB, 133 * _MHZ,
            "pico-sdk, src/boards/include/boards/pico.h (05090d9)",
            "pico-sdk, src/rp2_common/pico_crt0/rp2040/memmap_default.ld (3844492)",
            _PICO, _PICO_NOTE,
        ),
        MicrocontrollerBoard(
            "pico2", "Raspberry Pi Pico 2", "RP2350", "Cortex-M33", "cortex-m33",
            4 * _MIB, 520 * _KIB, 150 * _MHZ,
            "pico-sdk, src/boards/include/boards/pico2.h (2da1687)",
            "pico-sdk, src/rp2_common/pico_crt0/rp2350/memmap_default.ld (0e27c5b)",
            _PICO_2, _PICO_NOTE,
        ),
        MicrocontrollerBoard(
            "nano-33-ble", "Arduino Nano 33 BLE", "nRF52840", "Cortex-M4F", "cortex-m4",
            983_040, 262_144, 64 * _MHZ,
            _ARDUINO_MBED, _ARDUINO_MBED, "Arduino Nano 33 BLE Sense Rev2, datasheet of ABX00069",
        ),
        MicrocontrollerBoard(
            "arduino-zero", "Arduino Zero", "ATSAMD21G18A", "Cortex-M0+", "cortex-m0",
            256 * _KIB, 32 * _KIB, 48 * _MHZ, _ZERO, _ZERO, _ZERO,
            "The bootloader takes a part of the flash",
        ),
        MicrocontrollerBoard(
            "microbit-v1", "BBC micro:bit v1", "nRF51822", "Cortex-M0", "cortex-m0",
            256 * _KIB, 16 * _KIB, 16 * _MHZ, _NRF51822, _NRF51822,
            "PlatformIO, platform-nordicnrf51, boards/bbcmicrobit.json (1b334fc)",
        ),
        MicrocontrollerBoard(
            "microbit-v2", "BBC micro:bit v2", "nRF52833", "Cortex-M4F", "cortex-m4",
            512 * _KIB, 128 * _KIB, 64 * _MHZ, _NRF52833, _NRF52833,
            "PlatformIO, platform-nordicnrf52, boards/bbcmicrobit_v2.json (274bdf3)",
        ),
        MicrocontrollerBoard(
            "nrf52840-dk", "Nordic nRF52840 DK", "nRF52840", "Cortex-M4F", "cortex-m4",
            1 * _MIB, 256 * _KIB, 64 * _MHZ, _NRF52840, _NRF52840,
            "PlatformIO, platform-nordicnrf52, boards/nrf52840_dk.json (023c81e)",
        ),
        MicrocontrollerBoard(
            "nrf5340-dk", "Nordic nRF5340 DK", "nRF5340", "Cortex-M33", "cortex-m33",
            1 * _MIB, 512 * _KIB, 128 * _MHZ, _NRF5340, _NRF5340,
            "Zephyr, boards/nordic/nrf5340dk/doc/index.rst (112ef11)",
            "The figures are those of the application core",
        ),
        MicrocontrollerBoard(
            "nucleo-f103rb", "ST Nucleo-F103RB", "STM32F103RB", "Cortex-M3", "cortex-m3",
            128 * _KIB, 20 * _KIB, 72 * _MHZ, _F103, _F103, _F103,
        ),
        MicrocontrollerBoard(
            "stm32f4-discovery", "ST STM32F4DISCOVERY", "STM32F407VG", "Cortex-M4F", "cortex-m4",
            1 * _MIB, 128 * _KIB, 168 * _MHZ, _F407,
            "PlatformIO, platform-ststm32, boards/disco_f407vg.json (0eaef4f)", _F407,
            "Another 64 KiB of RAM, the core-coupled memory, is not counted",
        ),
        MicrocontrollerBoard(
            "nucleo-f446re", "ST Nucleo-F446RE", "STM32F446RE", "Cortex-M4F", "cortex-m4",
            512 * _KIB, 128 * _KIB, 180 * _MHZ, _F446, _F446, _F446,
        ),
        MicrocontrollerBoard(
            "nucleo-h743zi", "ST Nucleo-H743ZI", "STM32H743ZI", "Cortex-M7", "cortex-m7",
            2 * _MIB, 512 * _KIB, 480 * _MHZ, _H743,
            "Zephyr, dts/arm/st/h7/stm32h743.dtsi (0761962)", _H743,
            "The RAM is the largest of six pieces, which have 1 MiB together",
        ),
        MicrocontrollerBoard(
            "teensy41", "PJRC Teensy 4.1", "i.MX RT1062", "Cortex-M7", "cortex-m7",
            8_126_464, 512 * _KIB, 600 * _MHZ, _TEENSY, _TEENSY, _TEENSY,
        ),
    )
}  # fmt: skip

# Boards that users ask for, and the reason why they are not in the table.
_ESP32 = (
    "its processor is an Xtensa or RISC-V, and only Cortex-M is covered; the C file compiles there"
    " as plain C11, but lenet-edge neither runs it there nor knows its size"
)
NOT_COVERED = dict.fromkeys(("esp32", "esp32-s2", "esp32-s3", "esp32-c3", "esp32-c6"), _ESP32)


def find_board(name: str) -> MicrocontrollerBoard:
    """Return the board with a name.

    Raises:
        UsageError: the table has no such board; the message lists those that it has.
    """
    key = name.lower()
    if key in BOARDS:
        return BOARDS[key]
    if key in NOT_COVERED:
        raise UsageError(f"{name} is not covered: {NOT_COVERED[key]}")
    hint = did_you_mean(key, BOARDS, 0.5)
    raise UsageError(
        f"{name!r} is no board of the table; {hint or 'choose one of'} ({', '.join(BOARDS)})"
    )
