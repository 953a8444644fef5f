"""Tests of the C files: exact to the bit or to 1e-4, on every compiler and instruction set."""

from __future__ import annotations

import ctypes
import dataclasses
import re
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
from tests.conftest import first_images
from tests.export.native_random import cut_levels, unused_levels
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
    export(exports / "lenet.keras", folder, training, test, ("native",), PRECISIONS)
    return folder


@pytest.fixture(scope="module")
def libraries(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of what `compile_variant` compiles, once for all tests of this file."""
    return tmp_path_factory.mktemp("libraries")


@pytest.fixture(scope="module")
def images(test_part: Dataset) -> Images:
    return to_input(test_part.images)


@pytest.fixture(scope="module")
def reference(sources: Path) -> npt.NDArray[np.float32]:
    (path,) = sources.glob("reference-*.npz")
    return Reference.load(path).logits


@pytest.fixture(scope="module")
def tflite_logits(exports: Path, images: Images) -> npt.NDArray[np.int8]:
    """The logits of TensorFlow Lite's reference kernels for the int8 file."""
    path = exports / "lenet_int8.tflite"
    return predict_batch(path.read_bytes(), quantize(images, load_artifact(path).inputs[0]))


def compile_variant(source: Path, compiler: str, variant: str, folder: Path) -> Path:
    """Return the library of a C file for one of `VARIANTS`, or of the "unchanged" file.

    The folder keeps it, with its object file. A source that need not be changed is compiled with
    its header, and a warning is an error.
    """
    levels = list(LEVELS)
    better = levels[: levels.index(variant)] if variant in LEVELS else levels
    if variant in ("unchanged", "plain"):
        better = []
    better = list(filter(is_supported_by_cpu, better))
    flags: tuple[str | Path, ...] = (*WARNINGS, "-include", source.with_suffix(".h"))
    if variant == "plain":
        flags = ("-DPLAIN_C", *flags)
    name = variant if better or variant == "plain" else "unchanged"
    library = folder / f"{source.stem}_{compiler}_{name}.so"
    if library.exists():
        return library
    if better:
        text = source.read_text()
        for level in better:
            assert f"return run_{level};" in text
            text = text.replace(f"return run_{level};", "{}")
        source, flags = library.with_suffix(".c"), ()
        source.write_text(text)
    compiled = library.with_suffix(".o")
    build(compiler, "-O3", "-ffp-contract=fast", "-fPIC", *flags, "-c", source, "-o", compiled)
    build(compiler, "-shared", compiled, "-o", library)
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
    precision: str, sources: Path, images: Images, compiler: str, variant: str, libraries: Path
) -> npt.NDArray[Any]:
    """Return the logits of a C file, compiled for one instruction set of this machine."""
    needs.require(compiler)
    if not is_supported_by_cpu(variant):
        pytest.skip(f"this machine has no {variant}")
    source = sources / f"lenet_native_{precision}.c"
    return call_batch(compile_variant(source, compiler, variant, libraries), images)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("compiler", COMPILERS)
def test_float32_equals_keras(
    sources: Path,
    images: Images,
    reference: npt.NDArray[np.float32],
    compiler: str,
    variant: str,
    libraries: Path,
) -> None:
    logits = compute_logits("float32", sources, images, compiler, variant, libraries)
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
    libraries: Path,
) -> None:
    logits = compute_logits("dynamic", sources, images, compiler, variant, libraries)
    assert (logits.argmax(axis=1) == reference.argmax(axis=1)).mean() >= 0.999
    assert 1e-4 < np.abs(logits - reference).max() < 0.5


@pytest.mark.parametrize("compiler", COMPILERS)
def test_int8_equals_tensorflow_lite_bit_for_bit(
    sources: Path,
    images: Images,
    tflite_logits: npt.NDArray[np.int8],
    compiler: str,
    libraries: Path,
) -> None:
    needs.require(compiler)
    source = sources / "lenet_native_int8.c"
    library = compile_variant(source, compiler, "unchanged", libraries)
    logits = call_batch(library, quantize(images, load_artifact(source).inputs[0]))
    assert len(logits) == 10_000
    np.testing.assert_array_equal(logits, tflite_logits)


@pytest.mark.parametrize("variant", ["unchanged", "plain"])
@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("compiler", COMPILERS)
def test_compilers_give_no_warning(
    sources: Path, compiler: str, precision: str, variant: str, libraries: Path
) -> None:
    needs.require(compiler)
    compile_variant(sources / f"lenet_native_{precision}.c", compiler, variant, libraries)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("compiler", COMPILERS)
def test_header_declares_the_functions_in_c_and_in_cpp(
    sources: Path, compiler: str, precision: str, tmp_path: Path
) -> None:
    needs.require(compiler)
    source = sources / f"lenet_native_{precision}.c"
    header = source.with_suffix(".h")
    build(compiler, *WARNINGS[1:], "-x", "c++", "-fsyntax-only", header)
    flags = (*WARNINGS, "-DPLAIN_C", "-fsyntax-only")
    wrong = tmp_path / "wrong.h"
    wrong.write_text(header.read_text().replace("void lenet(const", "int lenet(const"))
    build(compiler, *flags, "-include", header, source)
    with pytest.raises(AssertionError, match="conflicting types"):
        build(compiler, *flags, "-include", wrong, source)


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


def keep_one_level(text: str) -> str:
    """Return the text of a C file that uses the instruction set that this machine would choose."""
    text = cut_levels(text, unused_levels())
    best = next(filter(is_supported_by_cpu, LEVELS), "")
    choice = r"#ifdef CHOOSE_AT_RUN_TIME\n(?:  if .*\n    return run_\w+;\n)+#endif\n  return run;"
    return re.sub(choice, f"  return run_{best};", text) if best else text


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
    shutil.copy(source.with_suffix(".h"), tmp_path)
    text = source.read_text()
    source = tmp_path / source.name
    source.write_text(text if plain else keep_one_level(text))
    logits = build_driver(source, tmp_path / "lenet", compiler, flags, precision)(values)
    assert logits.shape == (FEW, 10)


def compile_for_arm(source: Path) -> Path:
    """Compile a C file for 64-bit Arm, once; return the object file next to it."""
    compiled = source.with_suffix(".o")
    if not compiled.exists():
        build(machine.COMPILER, *machine.FLAGS, "-c", source, "-o", compiled)
    return compiled


@pytest.mark.parametrize("precision", PRECISIONS)
def test_64_bit_arm_gives_the_same_logits(
    sources: Path, images: Images, precision: str, libraries: Path, tmp_path: Path
) -> None:
    """The emulated cores are that of a Raspberry Pi 4, and one with dot products."""
    needs.require(*machine.RUNS, "gcc")
    source = sources / f"lenet_native_{precision}.c"
    values = quantize(images[:FEW], load_artifact(source).inputs[0])
    compiled = compile_for_arm(source)
    on_arm = build_driver(compiled, tmp_path / "arm", machine.COMPILER, ("-static",), precision)
    expected = call_batch(compile_variant(source, "gcc", "unchanged", libraries), values)
    # With int8 weights, NEON rounds the inputs of dense layers to 16 bits.
    tolerance = {"int8": 0, "dynamic": 2e-3, "float32": 1e-4}[precision]
    for core in machine.CORES.values():
        logits = on_arm(values, "qemu-aarch64-static", QEMU_CPU=core)
        np.testing.assert_allclose(logits, expected, atol=tolerance, rtol=0)


# The bars for executed instructions over those of float32: precision, core, bar.
INSTRUCTIONS = [("dynamic", "neon", 1.0), ("int8", "neon", 0.75), ("int8", "dotprod", 0.35)]


@pytest.mark.costly
def test_quantized_files_take_fewer_instructions_on_64_bit_arm(
    sources: Path, images: Images, tmp_path: Path
) -> None:
    needs.require(*machine.COUNTS)

    def count(precision: str, core: str) -> float:
        artifact = load_artifact(sources / f"lenet_native_{precision}.c")
        compiled = dataclasses.replace(artifact, path=compile_for_arm(artifact.path))
        program = machine.build(compiled, tmp_path / precision)
        values = quantize(images[:10], artifact.inputs[0])
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

    training, test = mnist.load("train"), first_images(mnist.load("test"), 10)
    export(exports / "lenet.keras", tmp_path, training, test, ("native",), ("dynamic",))
    for precision in PRECISIONS:
        others = tmp_path if precision == "dynamic" else exports
        for suffix in (".c", ".h"):
            name = f"lenet_native_{precision}{suffix}"
            assert (sources / name).read_bytes() == (others / name).read_bytes()


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("compiler", COMPILERS)
def test_no_library_and_no_state(
    sources: Path, compiler: str, precision: str, libraries: Path
) -> None:
    needs.require(compiler, "nm")
    source = sources / f"lenet_native_{precision}.c"
    output = compile_variant(source, compiler, "unchanged", libraries).with_suffix(".o")
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
