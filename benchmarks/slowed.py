"""A copy of the package with a slowed LiteRT, for `benchmarks.harness repeat`."""

from pathlib import Path

import lenet_edge

PACKAGE = Path(lenet_edge.__file__).parent
_RUNTIME = '''
import importlib.util, time
spec = importlib.util.spec_from_file_location("lenet_edge.runtimes._fast", {path!r})
fast = importlib.util.module_from_spec(spec)
spec.loader.exec_module(fast)
TARGETS = fast.TARGETS

class Slowed:
    """Session whose infer spins for a fraction of its own duration."""
    def __init__(self, session):
        self.prepare, self.outputs, self.logits = session.prepare, session.outputs, session.logits
        self.input_specs, self.output_specs = session.input_specs, session.output_specs
        self.runtime_version, self.delegation = session.runtime_version, session.delegation
        self.close, self.state = session.close, session.state
        self._infer, self._clock = session.infer, time.perf_counter_ns

    def infer(self):
        clock = self._clock
        begin = clock()
        self._infer()
        end = begin + (clock() - begin) * {factor!r}
        while clock() < end:
            pass

def open_session(artifact, target, num_threads):
    return Slowed(fast.open_session(artifact, target, num_threads))
'''


def package(folder: Path, by: float) -> Path:
    """Return a copy of the package in `folder`, whose LiteRT takes longer by the fraction `by`."""
    copy = folder / "lenet_edge"
    (copy / "runtimes").mkdir(parents=True)
    for inner in (Path(), Path("runtimes")):
        for path in (PACKAGE / inner).iterdir():
            if path.name not in ("runtimes", "__pycache__", "litert.py"):
                (copy / inner / path.name).symlink_to(path)
    code = _RUNTIME.format(path=str(PACKAGE / "runtimes" / "litert.py"), factor=1 + by)
    (copy / "runtimes" / "litert.py").write_text(code)
    return copy
