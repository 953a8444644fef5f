"""A target works if it computes the right result, not if its package is installed."""

from __future__ import annotations

from pathlib import Path

import pytest

import lenet_edge
from lenet_edge import selection, worker
from lenet_edge.flows import make_probe
from lenet_edge.formats import EXPORTED
from lenet_edge.runtimes import _probe, all_targets, is_installed
from lenet_edge.target import Target
from tests import needs

# test_conformance.py covers targets that need a device, and other targets of TensorFlow.
TARGETS = [
    target
    for target in all_targets()
    if target.delegate in (None, "XNNPACK")
    and target.parameter is None
    and (target.runtime not in ("null", "tensorflow") or target.name == "tensorflow-function")
]
# One core stands for the others in the fast tests; tests/cortex_m runs each of them. The import of
# TensorFlow takes four seconds, and test_doctor.py requires that its right result counts as one.
CORES = [target.name for target in TARGETS if target.runtime == "cortex-m"]
SLOW = ("tensorflow-function", *(core for core in CORES if core != "cortex-m4"))
MARKS = dict.fromkeys(SLOW, pytest.mark.slow)
PARAMETERS = [
    pytest.param(target, id=target.name, marks=MARKS.get(target.name, ())) for target in TARGETS
]
PACKAGE = Path(lenet_edge.__file__).parent


def installed(target: Target) -> Target:
    if not is_installed(target):
        pytest.skip(f"{target.package} is not installed")
    needs.require(*needs.of_target(target))
    return target


@pytest.fixture(scope="module")
def wrong_package(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the package whose probe models have two columns exchanged."""
    folder = tmp_path_factory.mktemp("wrong")
    (folder / "lenet_edge" / "runtimes" / "probe").mkdir(parents=True)
    for kept, skipped in (("", "runtimes"), ("runtimes", "probe")):
        for path in (PACKAGE / kept).iterdir():
            if path.name != skipped:
                (folder / "lenet_edge" / kept / path.name).symlink_to(path)
    wrong = _probe.weights()[:, [1, 0, *range(2, _probe.NUM_CLASSES)]]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(make_probe, "FOLDER", folder / "lenet_edge" / "runtimes" / "probe")
        patch.setattr(make_probe, "weights", lambda: wrong)
        can_build_wasm = needs.missing(*needs.BUILD_WASM) is None
        formats = tuple(name for name in EXPORTED if name != "wasm" or can_build_wasm)
        patch.setattr(make_probe, "EXPORTED", formats)
        make_probe.make_probe(formats)
    return folder


@pytest.mark.parametrize("target", PARAMETERS)
def test_a_right_result_means_that_the_target_works(target: Target) -> None:
    status = selection.probe_target(installed(target))
    assert status.works, status.detail
    assert status.detail[0].isdigit()  # a version
    assert status.delegation is None or status.delegation.is_complete


@pytest.mark.costly
@pytest.mark.parametrize("target", PARAMETERS)
def test_a_wrong_result_means_that_the_target_does_not_work(
    target: Target, wrong_package: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    installed(target)
    if "wasm" in target.formats:
        needs.require(*needs.BUILD_WASM)
    monkeypatch.setattr(worker, "PACKAGE", wrong_package / "lenet_edge")
    status = selection.probe_target(target)
    assert not status.works
    assert status.detail.startswith(f"{target.name} runs, but its results are wrong by up to 0.")


def test_a_target_whose_package_cannot_be_imported_does_not_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package can be found, so only a run shows that it does not work."""
    package = tmp_path / "ai_edge_litert"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "interpreter.py").write_text("raise ImportError('libc.so.7 is missing')\n")
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{PACKAGE.parent}")
    (target,) = (target for target in TARGETS if target.name == "litert-xnnpack")
    status = selection.probe_target(target)
    assert not status.works
    assert "libc.so.7 is missing" in status.detail
