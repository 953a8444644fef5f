"""Train LeNet, export it for the edge, prove each file is right, and time it.

The names below are the Python API; see docs/python.md. They are imported at their first use, so
that ``import lenet_edge`` costs nothing.

Five names are packages too: ``lenet_edge.verify`` is the function, and the modules of the package
are imported with ``from lenet_edge.verify import ...``.
"""

# Import nothing else: ``python -m lenet_edge`` runs this file while the current folder is on
# `sys.path`, whose files would replace those of Python. runpy has imported importlib by then.
import importlib

# Type checkers treat this name as True. Importing typing would take longer than this module.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from lenet_edge.api import (
        bench,
        export,
        finetune,
        load,
        load_results,
        predict,
        recommend,
        report,
        targets,
        train,
        verify,
    )
    from lenet_edge.artifacts.artifact import Artifact
    from lenet_edge.errors import (
        BoardError,
        DataError,
        LenetEdgeError,
        MissingPackageError,
        ModelFileError,
        TargetError,
        UsageError,
        WorkerError,
    )
    from lenet_edge.flows.display import ProgressEvent
    from lenet_edge.flows.predict import Prediction
    from lenet_edge.flows.train import TrainingResult
    from lenet_edge.report.page import Report
    from lenet_edge.report.recommend import NothingFits, Recommendation
    from lenet_edge.results.measurement import Measurement
    from lenet_edge.results.parity_report import ParityReport
    from lenet_edge.results.result_file import BenchRun, FleetRun, Skipped
    from lenet_edge.selection import TargetStatus
    from lenet_edge.target import Delegation, Target

__version__ = "0.1.0"

__all__ = [
    "Artifact",
    "BenchRun",
    "BoardError",
    "DataError",
    "Delegation",
    "FleetRun",
    "LenetEdgeError",
    "Measurement",
    "MissingPackageError",
    "ModelFileError",
    "NothingFits",
    "ParityReport",
    "Prediction",
    "ProgressEvent",
    "Recommendation",
    "Report",
    "Skipped",
    "Target",
    "TargetError",
    "TargetStatus",
    "TrainingResult",
    "UsageError",
    "WorkerError",
    "__version__",
    "bench",
    "export",
    "finetune",
    "load",
    "load_results",
    "predict",
    "recommend",
    "report",
    "targets",
    "train",
    "verify",
]

_NAMES = {
    "lenet_edge.api": (
        "bench",
        "export",
        "finetune",
        "load",
        "load_results",
        "predict",
        "recommend",
        "report",
        "targets",
        "train",
        "verify",
    ),
    "lenet_edge.artifacts.artifact": ("Artifact",),
    "lenet_edge.errors": (
        "BoardError",
        "DataError",
        "LenetEdgeError",
        "MissingPackageError",
        "ModelFileError",
        "TargetError",
        "UsageError",
        "WorkerError",
    ),
    "lenet_edge.flows.display": ("ProgressEvent",),
    "lenet_edge.flows.predict": ("Prediction",),
    "lenet_edge.flows.train": ("TrainingResult",),
    "lenet_edge.report.page": ("Report",),
    "lenet_edge.report.recommend": ("NothingFits", "Recommendation"),
    "lenet_edge.results.measurement": ("Measurement",),
    "lenet_edge.results.parity_report": ("ParityReport",),
    "lenet_edge.results.result_file": ("BenchRun", "FleetRun", "Skipped"),
    "lenet_edge.selection": ("TargetStatus",),
    "lenet_edge.target": ("Delegation", "Target"),
}
_MODULE_OF = {name: module for module, names in _NAMES.items() for name in names}

# Python stores a package as an attribute of its parent when it imports it for the first time.
# That would replace the function of the same name, so it happens here, before any use.
for _name in ("bench", "export", "report", "train", "verify"):
    try:
        importlib.import_module(f"{__name__}.{_name}")
    except ModuleNotFoundError:  # a bundle for a board has no train and no export
        continue
    del globals()[_name]


if not TYPE_CHECKING:  # type checkers know the names above, and no others

    def __getattr__(name: str) -> object:
        """Import a name of the API at its first use."""
        if name not in _MODULE_OF:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        value = getattr(importlib.import_module(_MODULE_OF[name]), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    return sorted(__all__)
