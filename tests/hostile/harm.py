"""Files that are designed to do harm: code in .keras files, and data outside of the folder."""

from __future__ import annotations

import base64
import functools
import json
import marshal
import pickle
import random
import stat
import struct
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from lenet_edge.runtimes import _probe

Members = dict[str, bytes]


@dataclass(frozen=True)
class Harm:
    """Change to the members of a .keras file. Its code would create the file `mark`."""

    change: Callable[[Members, random.Random, Path], None]
    must_be_refused: bool = True


def keras_with(path: Path, dice: random.Random, how: str, mark: Path) -> Path:
    """Write a .keras file that does harm in one of the ways of `KERAS`."""
    with zipfile.ZipFile(_probe.FOLDER / "probe.keras") as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    KERAS[how].change(members, dice, mark)
    flags = {name: members.pop(name) for name in [*members] if name.startswith("!")}
    compression = zipfile.ZIP_DEFLATED if "!deflated" in flags else zipfile.ZIP_STORED
    with zipfile.ZipFile(path, "w", compression) as archive:
        for name, content in members.items():
            info = zipfile.ZipInfo(name.rstrip("+"))
            info.compress_type = compression
            if "!link" in flags and name not in ("config.json", "metadata.json"):
                info.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(info, content)
    return path


def _graph(change: Callable[[Any, str], None]) -> Callable[[Members, random.Random, Path], None]:
    def changed(members: Members, dice: random.Random, mark: Path) -> None:
        graph = json.loads(members["config.json"])
        change(graph, f"touch {mark}")
        members["config.json"] = json.dumps(graph).encode()

    return changed


def _layer(**facts: Any) -> Callable[[Members, random.Random, Path], None]:
    """Append a layer with the given description."""

    def add(graph: Any, command: str) -> None:
        text = json.dumps(facts).replace("COMMAND", command)
        graph["config"]["layers"].append(json.loads(text))

    return _graph(add)


def _code(command: str) -> str:
    source = f"lambda x: __import__('os').system({command!r})"
    return base64.b64encode(marshal.dumps(eval(source).__code__)).decode()


def _lambda(graph: Any, command: str) -> None:
    graph["config"]["layers"].append({
        "module": "keras.layers", "class_name": "Lambda", "registered_name": None,
        "config": {
            "name": "harm", "function": {
                "class_name": "__lambda__",
                "config": {"code": _code(command), "defaults": None, "closure": None},
            },
        },
    })  # fmt: skip


def _activation(graph: Any, command: str) -> None:
    graph["config"]["layers"][-1]["config"]["activation"] = {
        "class_name": "__lambda__",
        "config": {"code": _code(command), "defaults": None, "closure": None},
    }


def _unsafe(graph: Any, command: str) -> None:
    """Make the graph switch off safe mode, as in CVE-2025-9906, and then use a Lambda."""
    graph["config"]["layers"].insert(0, {
        "module": "keras.config", "class_name": "function", "registered_name": "function",
        "config": "enable_unsafe_deserialization",
    })  # fmt: skip
    _lambda(graph, command)


def _member(name: str, content: bytes = b"x", *flags: str) -> Callable[..., None]:
    def add(members: Members, dice: random.Random, mark: Path) -> None:
        members[name] = content
        members.update({f"!{flag}": b"" for flag in flags})

    return add


class _Pickled:
    def __reduce__(self) -> Any:
        return exec, ("raise SystemExit('unpickled')",)


def _weights(change: Callable[[Any, Path], None]) -> Callable[[Members, random.Random, Path], None]:
    """Change the HDF5 file of the weights. `change` gets the file and the path of another file."""

    def changed(members: Members, dice: random.Random, mark: Path) -> None:
        import h5py

        with tempfile.TemporaryDirectory() as folder:
            path, secret = Path(folder, "w.h5"), mark.with_name("secret.h5")
            path.write_bytes(members["model.weights.h5"])
            with h5py.File(secret, "w") as other:
                other["secret"] = np.zeros(10_000, np.float32)
            with h5py.File(path, "r+") as file:
                change(file, secret)
            members["model.weights.h5"] = path.read_bytes()

    return changed


def _first(file: Any) -> tuple[str, tuple[int, ...]]:
    datasets: list[tuple[str, tuple[int, ...]]] = []
    file.visititems(
        lambda name, item: datasets.append((name, item.shape)) if hasattr(item, "shape") else None
    )
    return datasets[0]


def _external(file: Any, secret: Path) -> None:
    name, shape = _first(file)
    del file[name]
    file.create_dataset(name, shape, "f4", external=[(str(secret), 0, 4 * int(np.prod(shape)))])


def _link(file: Any, secret: Path) -> None:
    import h5py

    name, _ = _first(file)
    del file[name]
    file[name] = h5py.ExternalLink(str(secret), "secret")


def _virtual(file: Any, secret: Path) -> None:
    import h5py

    name, shape = _first(file)
    del file[name]
    layout = h5py.VirtualLayout(shape, "f4")
    layout[:] = h5py.VirtualSource(str(secret), "secret", shape)
    file.create_virtual_dataset(name, layout)


def _damaged(members: Members, dice: random.Random, mark: Path) -> None:
    """Flip bits in the weights and keep the checksum right."""
    content = bytearray(members["model.weights.h5"])
    for _ in range(dice.choice([1, 16, 256])):
        content[dice.randrange(len(content))] ^= 1 << dice.randrange(8)
    members["model.weights.h5"] = bytes(content)


def _bomb(name: str, size: int) -> Callable[[Members, random.Random, Path], None]:
    def blown(members: Members, dice: random.Random, mark: Path) -> None:
        members[name] = members[name] + b" " * size
        members["!deflated"] = b""

    return blown


def _config(content: bytes) -> Callable[[Members, random.Random, Path], None]:
    return _member("config.json", content)


_SHELL = {"registered_name": None, "build_config": None}
KERAS = {
    "Lambda": Harm(_graph(_lambda)),
    "pickled activation": Harm(_graph(_activation)),
    "safe mode switched off": Harm(_graph(_unsafe)),
    "os.system": Harm(_layer(module="os", class_name="system", config="COMMAND", **_SHELL)),
    "a function": Harm(
        _layer(module="subprocess", class_name="function", config="getoutput",
               registered_name="function")
    ),
    "get_file": Harm(
        _layer(module="keras.utils", class_name="get_file", config={"origin": "http://[::1]:9/"},
               **_SHELL)
    ),
    "a class of ours": Harm(
        _layer(module="lenet_edge.worker", class_name="Worker", config={}, **_SHELL)
    ),
    "a foreign class": Harm(
        _layer(module=None, class_name="Own", config={}, registered_name="own>Own")
    ),
    "TFSMLayer": Harm(
        _layer(module="keras.layers", class_name="TFSMLayer", config={"filepath": "/tmp"}, **_SHELL)
    ),
    "StringLookup": Harm(
        _layer(module="keras.layers", class_name="StringLookup",
               config={"vocabulary": "/etc/passwd"}, **_SHELL)
    ),
    "traversal": Harm(_member("../../../../tmp/owned")),
    "absolute path": Harm(_member("/tmp/owned")),
    "assets": Harm(_member("assets/layers/x/vocabulary.txt")),
    "a link": Harm(_member("assets", b"/etc", "link")),
    "a pickle": Harm(_member("model.pkl", pickle.dumps(_Pickled()))),
    "twice": Harm(_member("config.json+", b"{}")),
    "bomb, weights": Harm(_bomb("model.weights.h5", 2**26)),
    "bomb, graph": Harm(_bomb("config.json", 2**25)),
    "graph: nested": Harm(_config(b'{"a":' * 100_000)),
    "graph: a list": Harm(_config(b"[]")),
    "graph: null": Harm(_config(b"null")),
    "graph: empty": Harm(_config(b"")),
    "graph: no UTF-8": Harm(_config(b"\xff\xfe{}")),
    "graph: of nothing": Harm(_config(b"{}")),
    "weights: external": Harm(_weights(_external)),
    "weights: linked": Harm(_weights(_link)),
    "weights: virtual": Harm(_weights(_virtual)),
    "weights: damaged": Harm(_damaged, must_be_refused=False),
    "weights: rubbish": Harm(_member("model.weights.h5", b"\x89HDF\r\n\x1a\n" + bytes(100))),
}  # fmt: skip


@functools.cache
def _ones() -> bytes:
    return struct.pack("<4f", 1, 1, 1, 1)


def external_weights(path: Path, where: str, place: str = "initializer") -> Path:
    """Write an ONNX model of (1, 28, 28, 1) images whose four weights are in the file `where`."""
    from onnx import TensorProto as Types
    from onnx import helper

    weights = helper.make_tensor("w", Types.FLOAT, [4], _ones(), raw=True)
    weights.ClearField("raw_data")
    weights.data_location = Types.EXTERNAL
    for key, value in (("location", where), ("offset", "0"), ("length", "16")):
        entry = weights.external_data.add()
        entry.key, entry.value = key, value
    shape = helper.make_tensor("shape", Types.INT64, [2], [1, 784])
    four = helper.make_tensor("four", Types.INT64, [1], [4])
    nodes = [
        helper.make_node("Reshape", ["x", "shape"], ["flat"]),
        helper.make_node("Slice", ["flat", "zero", "four", "axis"], ["some"]),
        helper.make_node("Add", ["some", "w"], ["y"]),
    ]
    initializers = [
        shape, four, helper.make_tensor("zero", Types.INT64, [1], [0]),
        helper.make_tensor("axis", Types.INT64, [1], [1]),
    ]  # fmt: skip
    if place == "initializer":
        initializers.append(weights)
    else:
        nodes.insert(0, helper.make_node("Constant", [], ["w"], value=weights))
    graph = helper.make_graph(
        nodes, "outside",
        [helper.make_tensor_value_info("x", Types.FLOAT, [1, 28, 28, 1])],
        [helper.make_tensor_value_info("y", Types.FLOAT, [1, 4])],
        initializers,
    )  # fmt: skip
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    path.write_bytes(model.SerializeToString())
    return path
