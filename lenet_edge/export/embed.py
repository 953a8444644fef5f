"""Write the contract into a model file; `artifacts.embedded` reads it back on a board."""

from __future__ import annotations

from typing import Any

from lenet_edge.artifacts.embedded import KEY, wasm_sections


def embed(content: bytes, format: str, contract: str) -> bytes:
    """Return the bytes of a model file with `contract`, a text, in its metadata.

    A contract that the file holds already is replaced.
    """
    from lenet_edge.export.native.text import with_contract  # whose package reads .tflite with this

    writers = {
        "tflite": _embed_tflite,
        "onnx": _embed_onnx,
        "native": with_contract,
        "wasm": _embed_wasm,
    }
    return writers[format](content, contract)


def _embed_onnx(content: bytes, contract: str) -> bytes:
    import onnx

    model = onnx.ModelProto.FromString(content)
    onnx.helper.set_model_props(model, {KEY: contract})
    result = model.SerializeToString(deterministic=True)
    assert isinstance(result, bytes)
    return result


def _embed_tflite(content: bytes, contract: str) -> bytes:
    import numpy as np
    from ai_edge_litert.schema_py_generated import BufferT, MetadataT

    model: Any = read_tflite(content)
    buffer, entry = BufferT(), MetadataT()
    buffer.data = np.frombuffer(contract.encode("utf-8"), np.uint8)
    entry.name, entry.buffer = KEY, len(model.buffers)
    model.buffers.append(buffer)
    others = []
    for one in model.metadata or ():
        if one.name == KEY.encode():
            model.buffers[one.buffer].data = None  # the others keep their numbers
        else:
            others.append(one)
    model.metadata = [*others, entry]
    return write_tflite(model)


def _embed_wasm(content: bytes, contract: str) -> bytes:
    key = KEY.encode()
    kept = [whole for name, _, whole in wasm_sections(content) if name != key]
    inside = _leb128(len(key)) + key + contract.encode("utf-8")
    return content[:8] + b"".join(kept) + b"\0" + _leb128(len(inside)) + inside


def _leb128(number: int) -> bytes:
    found = bytearray()
    while number > 0x7F:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*found, number])


def read_tflite(content: bytes) -> Any:
    """Return a .tflite file as the object API of its schema, a `ModelT`."""
    from ai_edge_litert.schema_py_generated import Model, ModelT

    return ModelT.InitFromObj(Model.GetRootAsModel(content, 0))


def write_tflite(model: Any) -> bytes:
    """Return a `ModelT` as the bytes of a .tflite file."""
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
