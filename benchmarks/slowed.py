"""Copies of the package with a slowed LiteRT, for `benchmarks.harness` and `benchmarks.noise`."""

from pathlib import Path

import lenet_edge

PACKAGE = Path(lenet_edge.__file__).parent
_RUNTIME = '''
import importlib.util, random, time
spec = importlib.util.spec_from_file_location("lenet_edge.runtimes._fast", {path!r})
fast = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fast)
TARGETS = fast.TARGETS
{factor_of}

class Slowed:
    """Session whose infer takes longer by a factor: it spins after the call."""
    def __init__(self, session, factor):
        self._session, self._factor = session, factor
        self._infer, self._clock = session.infer, time.perf_counter_ns

    def infer(self):
        clock = self._clock
        begin = clock()
        self._infer()
        end = begin + (clock() - begin) * self._factor
        while clock() < end:
            pass

    def __getattr__(self, name):
        return getattr(self._session, name)

def open_session(artifact, target, num_threads):
    return Slowed(fast.open_session(artifact, target, num_threads), factor_of(artifact))
'''


_NAMED_FACTOR = """
PROCESS = {slow_factor!r} if random.random() < {share!r} else 1.0

def factor_of(artifact):
    return PROCESS * int(artifact.name.split("_")[1]) / 100
"""


def package(folder: Path, by: float) -> Path:
    """Return a copy of the package in `folder`, whose LiteRT takes longer by the fraction `by`."""
    return _copy(folder, f"def factor_of(artifact):\n    return {1 + by!r}")


def noisy_package(folder: Path, share: float, slow_factor: float) -> Path:
    """Return a copy of the package whose LiteRT is slow in a share of the processes.

    Each file is also slowed by the percentage in its name, as in ``1_112_lenet_int8.tflite``.
    """
    return _copy(folder, _NAMED_FACTOR.format(share=share, slow_factor=slow_factor))


def _copy(folder: Path, factor_of: str) -> Path:
    copy = folder / "lenet_edge"
    (copy / "runtimes").mkdir(parents=True)
    for inner in (Path(), Path("runtimes")):
        for path in (PACKAGE / inner).iterdir():
            if path.name not in ("runtimes", "__pycache__", "litert.py"):
                (copy / inner / path.name).symlink_to(path)
    code = _RUNTIME.format(path=str(PACKAGE / "runtimes" / "litert.py"), factor_of=factor_of)
    (copy / "runtimes" / "litert.py").write_text(code)
    return copy
