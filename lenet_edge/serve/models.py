"""The models behind the page: kept open in one worker process, which may crash without harm.

A .wasm file is run by the page itself, in the visitor's browser.
"""

from __future__ import annotations

import base64
import contextlib
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from lenet_edge import prediction
from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.errors import LenetEdgeError, TargetError, WorkerError
from lenet_edge.results.result_file import Skipped
from lenet_edge.worker import Call, Worker

R = TypeVar("R")
_TIMEOUT_S = 10.0  # of one call
_OPEN_TIMEOUT_S = 60.0  # a runtime may compile then, and C is built, on a slow board too


@dataclass(frozen=True)
class Served:
    """A file, and the target that was found to run it."""

    artifact: Artifact
    target: str

    def to_json(self) -> dict[str, Any]:
        """Return what the page and programs are told of it."""
        return {**_told(self.artifact), "target": self.target}


@dataclass(frozen=True)
class InBrowser:
    """A .wasm file, and its bytes, which a browser is sent."""

    artifact: Artifact
    content: bytes

    def to_json(self) -> dict[str, Any]:
        """Return what the page and programs are told of it."""
        return _told(self.artifact)


def _told(artifact: Artifact) -> dict[str, Any]:
    return {
        "file": artifact.name,
        "precision": artifact.precision,
        "size_bytes": artifact.size_bytes,
        "labels": list(artifact.labels),
    }


class Models:
    """Some files, opened one by one in a worker; every method may take seconds, and blocks."""

    def __init__(self, artifacts: Sequence[Artifact], target: str | None = None) -> None:
        """Open each file; `skipped` says which do not run here, and why.

        Without a target, .wasm files are left to browsers.

        Raises:
            TargetError: none does.
        """
        self._worker: Worker | None = None
        self._stopping = False
        self.served: list[Served] = []
        self.in_browser: list[InBrowser] = []
        self.skipped: list[Skipped] = []
        for artifact in sorted(artifacts, key=lambda one: one.format == "wasm"):
            if artifact.format == "wasm" and target is None:
                self._leave_to_browser(artifact)
                continue
            try:
                call = prediction.open_first_runnable.bind([artifact.to_json()], target)
                found = self._run(call, _OPEN_TIMEOUT_S)
                self.served.append(Served(artifact, found["target"]))
            except LenetEdgeError as error:
                self.skipped.append(Skipped(target or "any target", str(error), artifact.name))
        if not self.served and not self.in_browser:
            self.close()
            raise TargetError("; ".join(dict.fromkeys(one.reason for one in self.skipped)))

    def _leave_to_browser(self, artifact: Artifact) -> None:
        reason = None
        others: list[Served | InBrowser] = [*self.served, *self.in_browser]
        for other in others:
            # The page is told what one model sees of a drawing.
            if _sees(other.artifact) != _sees(artifact):
                reason = f"it sees images otherwise than {other.artifact.name} does; serve it alone"
        try:
            content = artifact.path.read_bytes()
        except OSError as error:
            reason = f"it cannot be read: {error}"
        if reason:
            self.skipped.append(Skipped("a browser", reason, artifact.name))
        else:
            self.in_browser.append(InBrowser(artifact, content))

    def answer(self, body: bytes | bytearray, kind: str) -> dict[str, Any]:
        """Return what each model says to an image, and what it saw.

        Args:
            body: a PNG or JPEG file; or JSON, see `prediction.load_pixels`.
            kind: "image" or "json".

        Raises:
            DataError: the image cannot be used.
            WorkerError: decoding it has brought the worker down, twice.
        """
        is_json = kind == "json"
        content = body.decode(errors="replace") if is_json else base64.b64encode(body).decode()
        image: dict[str, Any] = {"name": "the image", "content": content, "kind": kind}
        answers, seen = [], {}
        if not self.served:
            facts = self.in_browser[0].artifact.to_json()
            seen[""] = self._run(prediction.load_pixels.bind(facts, **image))
        for one in self.served:
            facts = one.artifact.to_json()
            as_it_sees = _sees(one.artifact)
            if as_it_sees not in seen:
                seen[as_it_sees] = self._run(prediction.load_pixels.bind(facts, **image))
            try:
                said = self._run(prediction.classify.bind(facts, one.target, seen[as_it_sees]))
            except LenetEdgeError as error:
                said = {"error": str(error)}
            answers.append({"file": one.artifact.name, "target": one.target, **said})
        return {"answers": answers, "seen": next(iter(seen.values()))}

    def _run(self, call: Call[R], timeout_s: float = _TIMEOUT_S) -> R:
        """Run a call in the worker; after a crash, run it once more in a new worker."""
        for last in (False, True):
            if self._worker is None:
                self._worker = Worker()
            try:
                return self._worker.run(call.within(timeout_s))
            except WorkerError:
                self.close()
                if last or self._stopping:
                    raise
        raise AssertionError

    def stop(self) -> None:
        """End the call that another thread may be in; there is none after it."""
        self._stopping = True
        if self._worker is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._worker.pid, signal.SIGKILL)

    def close(self) -> None:
        """End the worker."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None


def _sees(artifact: Artifact) -> str:
    """Return what decides how an image is made ready for a model."""
    return str((artifact.inputs[0].shape[1:], artifact.labels))
