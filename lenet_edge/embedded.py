"""Read the contract that export writes into a model file, with nothing but the standard library.

A board has one runtime and no onnx, TensorFlow or flatbuffers package, so .tflite, .onnx
and .wasm files are walked here by hand, just as far as the one string needs. In a C file it is a
line of text.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path

from lenet_edge.errors import ModelFileError

# Of the ONNX metadata property, of the TFLite metadata entry and of the line in a C file.
KEY = "lenet_edge"


def read_contract(path: Path, format: str) -> str | None:
    """Return the contract in a .tflite, .onnx, .wasm or native .c file, None where there is none.

    Raises:
        ModelFileError: the file is cut short or damaged.
    """
    readers = {
        "tflite": _read_tflite,
        "onnx": _read_onnx,
        "native": _read_native,
        "wasm": read_wasm,
    }
    if format not in readers:
        return None
    content = path.read_bytes()
    try:
        found = readers[format](content)
        return None if found is None else found.decode("utf-8")
    except (struct.error, IndexError, UnicodeDecodeError) as error:
        raise ModelFileError(f"{path} is damaged ({error}); export it again") from error


def _read_native(data: bytes) -> bytes | None:
    comment = data[: data.find(b"*/")]
    mark = f" * {KEY}: ".encode()
    lines = (line for line in comment.split(b"\n") if line.startswith(mark))
    return next((line[len(mark) :] for line in lines), None)


# Source: the FlatBuffers internals ("Encoding") and tensorflow/lite/schema/schema.fbs.
_MODEL_BUFFERS, _MODEL_METADATA = 4, 6
_METADATA_NAME, _METADATA_BUFFER, _BUFFER_DATA = 0, 1, 0


def _read_tflite(data: bytes) -> bytes | None:
    model = u32(data, 0)
    buffers = elements(data, field(data, model, _MODEL_BUFFERS))
    for entry in elements(data, field(data, model, _MODEL_METADATA)):
        if _vector(data, field(data, entry, _METADATA_NAME)) == KEY.encode():
            index = field(data, entry, _METADATA_BUFFER)
            buffer = buffers[u32(data, index) if index else 0]
            return _vector(data, field(data, buffer, _BUFFER_DATA))
    return None


def u32(data: bytes, at: int) -> int:
    """Return the unsigned number of 32 bits at a place."""
    value: int = struct.unpack_from("<I", data, at)[0]
    return value


def field(data: bytes, table: int, number: int) -> int:
    """Return where a table's field lies, 0 where the table leaves it out."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    place = 4 + 2 * number
    if place >= struct.unpack_from("<H", data, vtable)[0]:
        return 0
    offset: int = struct.unpack_from("<H", data, vtable + place)[0]
    return table + offset if offset else 0


def elements(data: bytes, at: int) -> list[int]:
    """Return where each table of a vector of tables lies, whose field lies at a place."""
    if not at:
        return []
    start = at + u32(data, at)
    places = range(start + 4, start + 4 + 4 * u32(data, start), 4)
    return [place + u32(data, place) for place in places]


def _vector(data: bytes, at: int) -> bytes:
    if not at:
        return b""
    start = at + u32(data, at)
    return data[start + 4 : start + 4 + u32(data, start)]


# Source: the Protocol Buffers encoding and onnx.proto.
_MODEL_METADATA_PROPS, _ENTRY_KEY, _ENTRY_VALUE = 14, 1, 2


def _read_onnx(data: bytes) -> bytes | None:
    for number, entry in _messages(data):
        if number == _MODEL_METADATA_PROPS:
            pair = dict(_messages(entry))
            if pair.get(_ENTRY_KEY) == KEY.encode():
                return pair.get(_ENTRY_VALUE, b"")
    return None


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the number and content of each length-delimited field; skip the others."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            _, at = _varint(data, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        elif kind == 2:
            size, at = _varint(data, at)
            yield number, data[at : at + size]
            at += size
        else:
            raise IndexError(f"unknown wire type {kind}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at


# Source: the WebAssembly Core Specification 2.0, "Binary Format: Modules".
def read_wasm(data: bytes) -> bytes | None:
    """Return the contract in the bytes of a .wasm file, None where there is none."""
    return next((text for name, text, _ in wasm_sections(data) if name == KEY.encode()), None)


def wasm_sections(data: bytes) -> Iterator[tuple[bytes | None, bytes, bytes]]:
    """Yield each section of a .wasm file: its name if it is custom, its content, all its bytes."""
    at = 8  # behind the magic number and the version
    while at < len(data):
        start, is_custom = at, data[at] == 0
        size, at = _varint(data, at + 1)
        content = data[at : at + size]
        if len(content) < size:
            raise IndexError("a section is cut short")
        at += size
        name = None
        if is_custom:
            length, begin = _varint(content, 0)
            name, content = content[begin : begin + length], content[begin + length :]
        yield name, content, data[start:at]
