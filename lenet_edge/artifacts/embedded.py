"""Readers of the contract that `export` writes into a model file.

They need only the standard library, because a board has no onnx, TensorFlow or flatbuffers
package. They parse .tflite, .onnx and .wasm files as far as the contract needs. In a C file the
contract is a line of text. The files are untrusted: every loop is bounded, and every size that a
file states is checked before use.
"""

from __future__ import annotations

import mmap
import re
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from lenet_edge import formats
from lenet_edge.errors import ModelFileError

# The name of the ONNX metadata property, the TFLite metadata entry and the line in a C file.
KEY = "lenet_edge"
_MAX_CONTRACT_BYTES = 2**20
_MAX_ELEMENTS = 100_000  # tables in a vector; the largest models have thousands of buffers
_MAX_FIELDS = 2_000_000  # fields in an .onnx file: a few seconds of parsing
Data = bytes | mmap.mmap | memoryview
# A function that finds the contract (UTF-8) in the content of a file. It may raise `struct.error`,
# `IndexError` or `ValueError` if the file is damaged.
ContractReader = Callable[[mmap.mmap], bytes | None]


def read_contract(path: Path, format: str) -> str | None:
    """Return the contract inside a model file, None if it has none.

    Raises:
        ModelFileError: the file is truncated or damaged.
    """
    reference = formats.BY_NAME[format].contract_reader
    if reference is None:
        return None
    reader: ContractReader = formats.load(reference)
    try:
        contract = reader(_map(path))
        return None if contract is None else contract.decode("utf-8")
    except (struct.error, IndexError, ValueError) as error:
        raise ModelFileError(f"{path} is damaged ({error}); export it again") from error


def oldest_runtime(path: Path, format: str) -> str | None:
    """Return the oldest release of TensorFlow Lite that opens a .tflite file, as the file states.

    The converter of TensorFlow writes it from the versions of the operators (source:
    tensorflow/lite/tools/versioning/runtime_version.cc). None: the file does not state it.
    """
    if format != "tflite":
        return None
    try:
        stated = tflite_metadata(_map(path), b"min_runtime_version") or b""
    except (struct.error, IndexError, ValueError):  # the file is damaged: its runtime reports why
        return None
    version = re.match(rb"\d{1,4}\.\d{1,4}(\.\d{1,4})?(?=\0|$)", stated)
    return version.group().decode() if version else None


def external_data(path: Path) -> set[str]:
    """Return the names of the files in which an .onnx file keeps weights, as the file states them.

    Raises:
        ModelFileError: the file is truncated or damaged.
    """
    try:
        return set(_external_data(memoryview(_map(path))))
    except (IndexError, UnicodeDecodeError) as error:
        raise ModelFileError(f"{path} is damaged ({error}); export it again") from error


def check_external_data(path: Path) -> None:
    """Check that an .onnx file keeps its weights in its own folder.

    Raises:
        ModelFileError: the file names weights outside its folder, or is damaged.
    """
    folder = path.parent.resolve()
    for name in external_data(path):
        # `resolve` follows links: a link that leads out of the folder is refused too.
        if "\0" in name or not (folder / name).resolve().is_relative_to(folder):
            raise ModelFileError(
                f"{path} has weights in {name!r:.100}, which is outside of its folder;"
                " check where it came from"
            )


def _map(path: Path) -> mmap.mmap:
    with path.open("rb") as file:
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def read_native(data: mmap.mmap) -> bytes | None:
    """Return the contract in the first comment of a C file, None if it has none."""
    comment = data[: min(max(data.find(b"*/"), 0), _MAX_CONTRACT_BYTES)]
    mark = f" * {KEY}: ".encode()
    lines = (line for line in comment.split(b"\n") if line.startswith(mark))
    return next((line[len(mark) :] for line in lines), None)


# Source: the FlatBuffers internals ("Encoding") and tensorflow/lite/schema/schema.fbs.
_MODEL_BUFFERS, _MODEL_METADATA = 4, 6
_METADATA_NAME, _METADATA_BUFFER = 0, 1
_BUFFER_DATA, _BUFFER_OFFSET, _BUFFER_SIZE = 0, 1, 2


def read_tflite(data: Data) -> bytes | None:
    """Return the contract in the metadata of a .tflite file, None if it has none."""
    return tflite_metadata(data, KEY.encode())


def tflite_metadata(data: Data, name: bytes) -> bytes | None:
    """Return the content of the metadata entry of that name, None if there is none."""
    model = u32(data, 0)
    buffers = elements(data, field(data, model, _MODEL_BUFFERS))
    for entry in elements(data, field(data, model, _MODEL_METADATA)):
        if text(data, field(data, entry, _METADATA_NAME)) == name:
            index = field(data, entry, _METADATA_BUFFER)
            buffer = buffers[u32(data, index) if index else 0]
            if at := field(data, buffer, _BUFFER_OFFSET):  # the content is behind the FlatBuffer
                size = field(data, buffer, _BUFFER_SIZE)
                start, length = (struct.unpack_from("<Q", data, place)[0] for place in (at, size))
                return bytes(data[start : start + min(length, _MAX_CONTRACT_BYTES)])
            return text(data, field(data, buffer, _BUFFER_DATA))
    return None


def u32(data: Data, at: int) -> int:
    """Return the unsigned 32-bit number at offset `at`."""
    value: int = struct.unpack_from("<I", data, at)[0]
    return value


def field(data: Data, table: int, number: int) -> int:
    """Return the offset of a field of a FlatBuffers table, 0 if the table omits it."""
    vtable = table - struct.unpack_from("<i", data, table)[0]
    slot = 4 + 2 * number
    if slot >= struct.unpack_from("<H", data, vtable)[0]:
        return 0
    offset: int = struct.unpack_from("<H", data, vtable + slot)[0]
    return table + offset if offset else 0


def elements(data: Data, at: int) -> list[int]:
    """Return the offset of each table in the vector that the field at offset `at` refers to."""
    if not at:
        return []
    start = at + u32(data, at)
    count = u32(data, start)
    if count > _MAX_ELEMENTS:
        raise IndexError(f"a vector has {count:,} tables")
    slots = range(start + 4, start + 4 + 4 * count, 4)
    return [slot + u32(data, slot) for slot in slots]


def text(data: Data, at: int) -> bytes:
    """Return the text or the bytes that the field at offset `at` refers to."""
    if not at:
        return b""
    start = at + u32(data, at)
    size = u32(data, start)
    if size > _MAX_CONTRACT_BYTES:
        raise IndexError(f"a text has {size:,} bytes")
    return bytes(data[start + 4 : start + 4 + size])


# Source: the Protocol Buffers encoding and onnx.proto.
_MODEL_METADATA_PROPS, _ENTRY_KEY, _ENTRY_VALUE = 14, 1, 2
_TENSOR_EXTERNAL_DATA = 13
# Paths from a model to its tensors: for each message, the fields to follow and their messages.
_NESTED = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "function": {7: "node", 11: "attribute"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {_TENSOR_EXTERNAL_DATA: "entry"},
}  # fmt: skip


def onnx_metadata(path: Path) -> dict[str, str]:
    """Return the metadata properties of an .onnx file.

    Raises:
        IndexError, ValueError: the file is truncated or damaged.
    """
    entries = [
        _entry(entry)
        for number, entry in messages(memoryview(_map(path)))
        if number == _MODEL_METADATA_PROPS
    ]
    return {key.decode("utf-8"): value.decode("utf-8") for key, value in entries}


def read_onnx(data: Data) -> bytes | None:
    """Return the contract in the metadata of an .onnx file, None if it has none."""
    for number, entry in messages(memoryview(data)):
        if number == _MODEL_METADATA_PROPS:
            key, value = _entry(entry)
            if key == KEY.encode():
                return value
    return None


def _external_data(data: memoryview) -> Iterator[str]:
    waiting, seen = [("model", data)], 0
    while waiting:
        kind, message = waiting.pop()
        for number, content in messages(message):
            seen += 1
            if seen > _MAX_FIELDS:
                raise IndexError(f"it has more than {_MAX_FIELDS:,} fields")
            nested = _NESTED[kind].get(number)
            if nested == "entry":
                key, value = _entry(content)
                if key == b"location":
                    yield value.decode("utf-8")
            elif nested:
                waiting.append((nested, content))


def _entry(data: memoryview) -> tuple[bytes, bytes]:
    """Return the key and the value of a StringStringEntryProto."""
    fields = dict(messages(data))
    if sum(map(len, fields.values())) > _MAX_CONTRACT_BYTES:
        raise IndexError("a text is too long")
    return bytes(fields.get(_ENTRY_KEY, b"")), bytes(fields.get(_ENTRY_VALUE, b""))


def messages(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield the number and content of each length-delimited field; skip the others."""
    return ((number, content) for number, content, _ in fields(data) if content is not None)


def fields(data: memoryview) -> Iterator[tuple[int, memoryview | None, memoryview]]:
    """Yield each field: its number, its content if it is length-delimited, and all its bytes."""
    at = count = 0
    while at < len(data):
        count += 1
        if count > _MAX_FIELDS:
            raise IndexError(f"it has more than {_MAX_FIELDS:,} fields")
        start, content = at, None
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            _, at = _varint(data, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        elif kind == 2:
            size, at = _varint(data, at)
            if size > len(data) - at:
                raise IndexError("the file is truncated")
            content = data[at : at + size]
            at += size
        else:
            raise IndexError(f"the wire type {kind} is unknown")
        yield number, content, data[start:at]


def integer_of(field: memoryview) -> int:
    """Return the integer in a field, given all bytes of the field."""
    return _varint(field, _varint(field, 0)[1])[0]


def encode_varint(number: int) -> bytes:
    """Return a number as a varint of Protocol Buffers, which WebAssembly calls unsigned LEB128."""
    encoded = bytearray()
    while number > 0x7F:
        encoded.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*encoded, number])


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:  # 64 bits, seven per byte
        byte = data[at]
        value |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return value, at
    raise IndexError("a number is longer than 64 bits")


# Source: the WebAssembly Core Specification 2.0, "Binary Format: Modules".
def read_wasm(data: bytes | mmap.mmap) -> bytes | None:
    """Return the contract in a custom section of a .wasm file, None if it has none."""
    return next((text for name, text, _ in wasm_sections(data) if name == KEY.encode()), None)


def wasm_sections(data: bytes | mmap.mmap) -> Iterator[tuple[bytes | None, bytes, bytes]]:
    """Yield the sections of a .wasm file: name (custom sections only), content, all bytes."""
    view = memoryview(data)
    at = 8  # after the magic number and the version
    while at < len(view):
        start, is_custom = at, view[at] == 0
        size, at = _varint(view, at + 1)
        content = view[at : at + size]
        if len(content) < size:
            raise IndexError("a section is truncated")
        at += size
        name = None
        if is_custom:
            length, begin = _varint(content, 0)
            name, content = bytes(content[begin : begin + length]), content[begin + length :]
        yield name, bytes(content), bytes(view[start:at])
