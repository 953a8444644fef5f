"""Tests of the C files: exact to the bit or to 1e-4, on every compiler and instruction set."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from lenet_edge.artifacts.artifact import load_artifact
from lenet_edge.artifacts.reference import Reference
from lenet_edge.data.dataset import Dataset, to_input
from lenet_edge.export.native.floats import LEVELS
from lenet_edge.target import Images, quantize
from tests import needs
from tests.aarch64 import machine
from tests.reference_kernels import predict_batch

PRECISIONS = ("float32", "dynamic", "int8")
DRIVER = Path(__file__).parent / "native_main.c"
WARNINGS = ("-std=c11", "-Wall", "-Wextra", "-Wpedantic", "-Werror")
COMPILERS = ("gcc", "clang")
# Each variant compiles another part of the kernels: an instruction set, or plain C.
VARIANTS = ("avx512", "avx2", "baseline", "plain")
# The number of images under an emulator or a sanitizer, which are slow.
FEW = 100


@pytest.fixture(scope="module")
def sources(exports: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the C files of every precision."""
    from lenet_edge.data import mnist
    from lenet_edge.export.exporter import export

    folder = tmp_path_factory.mktemp("native")
    training, test = mnist.load("train"), mnist.load("test")
    export(exports / "lenet.keras", folder, training, test, ("tflite", "native"), PRECISIONS)
    return folder


@pytest.fixture(scope="module")
def images(test_part: Dataset) -> Images:
    return to_input(test_part.images)


@pytest.fixture(scope="module")
def reference(sources: Path) -> npt.NDArray[np.float32]:
    (path,) = sources.glob("reference-*.npz")
    return Reference.load(path).logits


@pytest.fixture(scope="module")
def tflite_logits(sources: Path, images: Images) -> npt.NDArray[np.int8]:
    """The logits of TensorFlow Lite's reference kernels for the int8 file."""
    path = sources / "lenet_int8.tflite"
    return predict_batch(path.read_bytes(), quantize(images, load_artifact(path).inputs[0]))


def compile_variant(source: Path, compiler: str, variant: str, folder: Path) -> Path:
    """Compile a C file for one of `VARIANTS` and return the shared library."""
    text = source.read_text()
    better = list(LEVELS)[: list(LEVELS).index(variant)] if variant in LEVELS else list(LEVELS)
    for level in better:
        assert f"return run_{level};" in text
        text = text.replace(f"return run_{level};", "{}")
    copy = folder / f"{source.stem}_{variant}.c"
    copy.write_text(text)
    flags = ("-DPLAIN_C",) if variant == "plain" else ()
    library = folder / f"{copy.stem}_{compiler}.so"
    build(compiler, "-O3", "-ffp-contract=fast", *flags, "-shared", "-fPIC", copy, "-o", library)
    return library


def build(*command: str | Path) -> None:
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def call_batch(library: Path, values: npt.NDArray[Any], name: str = "lenet") -> npt.NDArray[Any]:
    """Return the logits of a batch, with the dtype of the images."""
    values = np.ascontiguousarray(values)
    logits = np.zeros((len(values), 10), values.dtype)
    function = ctypes.CDLL(str(library))[f"{name}_batch"]
    function.restype = None
    pointers = (ctypes.c_void_p(array.ctypes.data) for array in (values, logits))
    function(*pointers, ctypes.c_size_t(len(values)))
    return logits


def is_supported_by_cpu(variant: str) -> bool:
    flags = Path("/proc/cpuinfo").read_text()
    needed = LEVELS[variant][1] if variant in LEVELS else ()
    return all(f" {feature}" in flags for feature in needed)


def compute_logits(
    precision: str, sources: Path, images: Images, compiler: str, variant: str, folder: Path
) -> npt.NDArray[Any]:
    """Return the logits of a C file, compiled for one instruction set of this machine."""
    needs.require(compiler)
    if not is_supported_by_cpu(variant):
        pytest.skip(f"this machine has no {variant}")
    return call_batch(
        compile_variant(sources / f"lenet_native_{precision}.c", compiler, variant, folder), images
    )


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("compiler", COMPILERS)
def test_float32_equals_keras(
    sources: Path,
    images: Images,
    reference: npt.NDArray[np.float32],
    compiler: str,
    variant: str,
    tmp_path: Path,
) -> None:
    logits = compute_logits("float32", sources, images, compiler, variant, tmp_path)
    assert (logits.argmax(axis=1) == reference.argmax(axis=1)).sum() == len(reference) == 10_000
    np.testing.assert_allclose(logits, reference, atol=1e-4, rtol=0)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("compiler", COMPILERS)
def test_int8_weights_keep_the_predictions(
    sources: Path,
    images: Images,
    reference: npt.NDArray[np.float32],
    compiler: str,
    variant: str,
    tmp_path: Path,
) -> None:
    logits = compute_logits("dynamic", sources, images, compiler, variant, tmp_path)
    assert (logits.argmax(axis=1) == reference.argmax(axis=1)).mean() >= 0.999
    assert 1e-4 < np.abs(logits - reference).max() < 0.5


@pytest.mark.parametrize("compiler", COMPILERS)
def test_int8_equals_tensorflow_lite_bit_for_bit(
    sources: Path,
    images: Images,
    tflite_logits: npt.NDArray[np.int8],
    compiler: str,
    tmp_path: Path,
) -> None:
    needs.require(compiler)
    library = tmp_path / "lenet.so"
    source = sources / "lenet_native_int8.c"
    build(compiler, "-O3", "-shared", "-fPIC", source, "-o", library)
    logits = call_batch(library, quantize(images, load_artifact(source).inputs[0]))
    assert len(logits) == 10_000
    np.testing.assert_array_equal(logits, tflite_logits)


@pytest.mark.parametrize("plain", [(), ("-DPLAIN_C",)], ids=["vectors", "plain"])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("compiler", COMPILERS)
def test_compilers_give_no_warning(
    sources: Path, compiler: str, precision: str, plain: tuple[str, ...], tmp_path: Path
) -> None:
    """The header declares the functions of the file, in C and in C++."""
    needs.require(compiler)
    source = sources / f"lenet_native_{precision}.c"
    header = source.with_suffix(".h")
    flags = ("-O2", *WARNINGS, *plain)
    build(compiler, *flags, "-include", header, "-c", source, "-o", tmp_path / "lenet.o")
    build(compiler, *WARNINGS[1:], "-x", "c++", "-fsyntax-only", header)
    wrong = tmp_path / "wrong.h"
    wrong.write_text(header.read_text().replace("void lenet(const", "int lenet(const"))
    with pytest.raises(AssertionError, match="conflicting types"):
        build(compiler, *flags, "-include", wrong, "-fsyntax-only", source)


def build_driver(
    source: Path, output: Path, compiler: str, flags: Sequence[str], precision: str
) -> Callable[..., npt.NDArray[Any]]:
    """Build `native_main.c` with a network; return a function that runs it on images."""
    kind = np.dtype(np.int8 if precision == "int8" else np.float32)
    text = "int8_t" if precision == "int8" else "float"
    header = source.with_suffix(".h")
    defines = ("-DNET=lenet", "-DPIXELS=784", "-DCLASSES=10", f"-DKIND={text}", "-include", header)
    build(compiler, *flags, *defines, DRIVER, source, "-o", output)

    def run(values: npt.NDArray[Any], *before: str, **environment: str) -> npt.NDArray[Any]:
        done = subprocess.run(
            [*before, str(output)], input=values.astype(kind).tobytes(), capture_output=True,
            timeout=300, env=environment or None,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr.decode()
        return np.frombuffer(done.stdout, kind).reshape(-1, 10)

    return run


# One compiler for each kind of file. GCC compiles vectors with sanitizers in less time than Clang.
SANITIZED = [
    ("gcc", "float32", ()),
    ("gcc", "int8", ()),
    pytest.param("gcc", "dynamic", (), marks=pytest.mark.slow),
    ("clang", "float32", ("-DPLAIN_C",)),
    pytest.param("clang", "dynamic", ("-DPLAIN_C",), marks=pytest.mark.slow),
]


@pytest.mark.parametrize(("compiler", "precision", "plain"), SANITIZED)
def test_sanitizers_find_no_error(
    sources: Path,
    images: Images,
    compiler: str,
    precision: str,
    plain: tuple[str, ...],
    tmp_path: Path,
) -> None:
    needs.require(compiler)
    flags = ("-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all", *plain)
    empty = tmp_path / "empty.c"
    empty.write_text("int main(void) { return 0; }\n")
    if subprocess.run([compiler, *flags, empty, "-o", tmp_path / "empty"]).returncode:
        needs.leave_out(needs.advice(f"{compiler} has no sanitizers", ["libclang-rt-dev"]))
    source = sources / f"lenet_native_{precision}.c"
    values = quantize(images[:FEW], load_artifact(source).inputs[0])
    logits = build_driver(source, tmp_path / "lenet", compiler, flags, precision)(values)
    assert logits.shape == (FEW, 10)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_64_bit_arm_gives_the_same_logits(
    sources: Path, images: Images, precision: str, tmp_path: Path
) -> None:
    """The emulated cores are that of a Raspberry Pi 4, and one with dot products."""
    needs.require("aarch64-linux-gnu-gcc", "qemu-aarch64-static")
    source = sources / f"lenet_native_{precision}.c"
    values = quantize(images[:FEW], load_artifact(source).inputs[0])
    flags = ("-O3", "-ffp-contract=fast", "-static")
    on_arm = build_driver(source, tmp_path / "arm", "aarch64-linux-gnu-gcc", flags, precision)
    locally = build_driver(source, tmp_path / "local", "cc", flags[:2], precision)
    # With int8 weights, NEON rounds the inputs of dense layers to 16 bits.
    tolerance = {"int8": 0, "dynamic": 2e-3, "float32": 1e-4}[precision]
    for core in machine.CORES.values():
        logits = on_arm(values, "qemu-aarch64-static", QEMU_CPU=core)
        np.testing.assert_allclose(logits, locally(values), atol=tolerance, rtol=0)


# The bars for executed instructions over those of float32: precision, core, bar.
INSTRUCTIONS = [("dynamic", "neon", 1.0), ("int8", "neon", 0.75), ("int8", "dotprod", 0.35)]


@pytest.mark.costly
def test_quantized_files_take_fewer_instructions_on_64_bit_arm(
    sources: Path, images: Images, tmp_path: Path
) -> None:
    needs.require(*machine.COUNTS)

    def count(precision: str, core: str) -> float:
        artifact = load_artifact(sources / f"lenet_native_{precision}.c")
        program = machine.build(artifact, tmp_path / precision)
        values = quantize(images[:20], artifact.inputs[0])
        return machine.count_instructions(program, values, machine.CORES[core])

    reference = count("float32", "neon")
    for precision, core, bar in INSTRUCTIONS:
        assert count(precision, core) <= bar * reference, (precision, core)


@pytest.mark.parametrize("cpu", ["cortex-m4", "cortex-m33"])
def test_int8_fits_a_microcontroller(sources: Path, cpu: str, tmp_path: Path) -> None:
    needs.require("arm-none-eabi-gcc", "arm-none-eabi-size")
    output = tmp_path / "lenet.o"
    source = sources / "lenet_native_int8.c"
    build("arm-none-eabi-gcc", f"-mcpu={cpu}", "-mthumb", "-O2", *WARNINGS, "-fstack-usage",
          "-c", source, "-o", output)  # fmt: skip
    sizes = subprocess.check_output(["arm-none-eabi-size", output], text=True).splitlines()[1]
    text, data, bss = map(int, sizes.split()[:3])
    # A network that was trained for one epoch has no dead outputs, so all its weights are there.
    assert 48_000 < text < 66_000
    assert data == bss == 0
    stack = max(int(line.split("\t")[1]) for line in output.with_suffix(".su").open())
    assert stack < 2 * 1024


def test_export_is_reproducible(sources: Path, exports: Path, tmp_path: Path) -> None:
    from lenet_edge.data import mnist
    from lenet_edge.export.exporter import export

    training, test = mnist.load("train"), mnist.load("test")
    export(exports / "lenet.keras", tmp_path, training, test, ("native",), PRECISIONS)
    for precision in PRECISIONS:
        for suffix in (".c", ".h"):
            name = f"lenet_native_{precision}{suffix}"
            assert (sources / name).read_bytes() == (tmp_path / name).read_bytes()


@pytest.mark.parametrize("precision", PRECISIONS)
def test_no_library_and_no_state(sources: Path, precision: str, tmp_path: Path) -> None:
    needs.require("cc", "nm")
    output = tmp_path / "lenet.o"
    build("cc", "-O3", "-c", sources / f"lenet_native_{precision}.c", "-o", output)
    symbols = subprocess.check_output(["nm", output], text=True).splitlines()
    kinds = {line.split()[-1]: line.split()[-2] for line in symbols}
    needed = {name for name, kind in kinds.items() if kind == "U"}
    # Compilers provide these symbols, and call them without being asked.
    assert needed <= {"memcpy", "memset", "__stack_chk_fail", "__cpu_model", "__cpu_features2",
                      "__cpu_indicator_init", "_GLOBAL_OFFSET_TABLE_"}  # fmt: skip
    assert not [name for name, kind in kinds.items() if kind in "BbDdCc"]
    assert {name for name, kind in kinds.items() if kind == "T"} == {"lenet", "lenet_batch"}


def test_comment_names_the_checkpoint_and_the_labels(sources: Path) -> None:
    for precision in PRECISIONS:
        path = sources / f"lenet_native_{precision}.c"
        comment = path.read_text().partition("*/")[0]
        assert f"sha256 {load_artifact(path).parent_sha256}." in comment
        assert "Labels: 0, 1, 2, 3, 4, 5, 6, 7, 8, 9." in comment
        alone = path.parent / "alone" / path.name
        alone.parent.mkdir(exist_ok=True)
        shutil.copyfile(path, alone)  # without its manifest
        assert load_artifact(alone).labels == load_artifact(path).labels
