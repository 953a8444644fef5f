"""Writers of the contract inside model files; `artifacts.embedded` has the readers."""

from __future__ import annotations

from typing import Any

from lenet_edge import formats
from lenet_edge.artifacts.embedded import KEY, encode_varint, wasm_sections
from lenet_edge.export.converter import ContractWriter


def embed(content: bytes, format: str, contract: str) -> bytes:
    """Return the bytes of a model file with `contract` in its metadata.

    A contract that the file already has is replaced. Formats without a writer stay unchanged.
    """
    reference = formats.BY_NAME[format].contract_writer
    if reference is None:
        return content
    writer: ContractWriter = formats.load(reference)
    return writer(content, contract)


def embed_onnx(content: bytes, contract: str) -> bytes:
    """Return an .onnx file with the contract as a metadata property."""
    import onnx

    model = onnx.ModelProto.FromString(content)
    onnx.helper.set_model_props(model, {KEY: contract})
    result = model.SerializeToString(deterministic=True)
    assert isinstance(result, bytes)
    return result


def embed_tflite(content: bytes, contract: str) -> bytes:
    """Return a .tflite file with the contract as a metadata entry."""
    import numpy as np
    from ai_edge_litert.schema_py_generated import BufferT, MetadataT

    model: Any = read_tflite(content)
    buffer, entry = BufferT(), MetadataT()
    buffer.data = np.frombuffer(contract.encode("utf-8"), np.uint8)
    entry.name, entry.buffer = KEY, len(model.buffers)
    model.buffers.append(buffer)
    others = []
    for metadata in model.metadata or ():
        if metadata.name == KEY.encode():
            # Empty the old buffer instead of removing it: the other buffers keep their indices.
            model.buffers[metadata.buffer].data = None
        else:
            others.append(metadata)
    model.metadata = [*others, entry]
    return write_tflite(model)


def embed_wasm(content: bytes, contract: str) -> bytes:
    """Return a .wasm file with the contract as a custom section."""
    key = KEY.encode()
    others = [section for name, _, section in wasm_sections(content) if name != key]
    payload = encode_varint(len(key)) + key + contract.encode("utf-8")
    return content[:8] + b"".join(others) + b"\0" + encode_varint(len(payload)) + payload


def read_tflite(content: bytes) -> Any:
    """Return a .tflite file as a `ModelT`, the object API of its schema, with all weights inside.

    Raises:
        ValueError: a buffer reaches past the end of the file.
    """
    import numpy as np
    from ai_edge_litert.schema_py_generated import Model, ModelT

    model = ModelT.InitFromObj(Model.GetRootAsModel(content, 0))
    # Writers put large weights behind the FlatBuffer: litert-quantizer from 256 KiB.
    for buffer in model.buffers:
        if buffer.offset > 1:  # as LiteRT reads it
            if buffer.offset + buffer.size > len(content):
                raise ValueError("a buffer reaches past the end of the file")
            buffer.data = np.frombuffer(content, np.uint8, buffer.size, buffer.offset)
            buffer.offset = buffer.size = 0
    return model


def operator_number(model: Any, operator: Any) -> int:
    """Return the number of an operator in `BuiltinOperator`.

    Files of old converters have it in another field. The smaller of the two fields is unused.
    """
    code = model.operatorCodes[operator.opcodeIndex]
    return int(max(code.builtinCode, code.deprecatedBuiltinCode))


def write_tflite(model: Any) -> bytes:
    """Return the bytes of a .tflite file from its `ModelT`."""
    import flatbuffers

    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), file_identifier=b"TFL3")
    return bytes(builder.Output())
