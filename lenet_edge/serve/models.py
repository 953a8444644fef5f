"""The models of a server, open in one worker process. A crash of a model does not stop the server.

The page itself runs .wasm files, in the browser.
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
from lenet_edge.formats import BY_NAME
from lenet_edge.results.result_file import Skipped
from lenet_edge.worker import Call, Worker

R = TypeVar("R")
_TIMEOUT_S = 10.0  # of one call
_OPEN_TIMEOUT_S = 60.0  # opening may compile the model or its C code, also on a slow board


@dataclass(frozen=True)
class ServedModel:
    """An artifact and the target that runs it on the server."""

    artifact: Artifact
    target: str

    def to_json(self) -> dict[str, Any]:
        """Return the facts for clients."""
        return {**_client_facts(self.artifact), "target": self.target}


@dataclass(frozen=True)
class BrowserModel:
    """A .wasm artifact and its bytes, for the browser."""

    artifact: Artifact
    content: bytes

    def to_json(self) -> dict[str, Any]:
        """Return the facts for clients."""
        return _client_facts(self.artifact)


def _client_facts(artifact: Artifact) -> dict[str, Any]:
    return {
        "file": artifact.name,
        "precision": artifact.precision,
        "size_bytes": artifact.size_bytes,
        "labels": list(artifact.labels),
    }


class Models:
    """The models of a server. Every method blocks, and may take seconds."""

    def __init__(self, artifacts: Sequence[Artifact], target: str | None = None) -> None:
        """Open each artifact in the worker; `skipped` lists those that cannot run, with reasons.

        Args:
            artifacts: the artifacts to serve.
            target: a target, a runtime or a format; the best for each artifact by default. If
                None, browsers run the .wasm artifacts.

        Raises:
            TargetError: no artifact can run.
        """
        self._worker: Worker | None = None
        self._is_stopping = False
        self.served: list[ServedModel] = []
        self.in_browser: list[BrowserModel] = []
        self.skipped: list[Skipped] = []
        for artifact in sorted(artifacts, key=_is_for_browsers):
            if _is_for_browsers(artifact) and target is None:
                self._add_browser_model(artifact)
                continue
            try:
                call = prediction.open_first_runnable.bind([artifact.to_json()], target)
                opened = self._run(call, _OPEN_TIMEOUT_S)
                self.served.append(ServedModel(artifact, opened["target"]))
            except LenetEdgeError as error:
                self.skipped.append(Skipped(target or "any target", str(error), artifact.name))
        if not self.served and not self.in_browser:
            self.close()
            raise TargetError("; ".join(dict.fromkeys(pair.reason for pair in self.skipped)))

    def _add_browser_model(self, artifact: Artifact) -> None:
        reason = None
        models: list[ServedModel | BrowserModel] = [*self.served, *self.in_browser]
        for model in models:
            # The page receives the preprocessed image of one model and uses it for all others.
            if _preprocessing(model.artifact) != _preprocessing(artifact):
                reason = f"its input differs from that of {model.artifact.name}; serve it alone"
        try:
            content = artifact.path.read_bytes()
        except OSError as error:
            reason = f"it cannot be read: {error}"
        if reason:
            self.skipped.append(Skipped("a browser", reason, artifact.name))
        else:
            self.in_browser.append(BrowserModel(artifact, content))

    def predict(self, body: bytes | bytearray, kind: str) -> dict[str, Any]:
        """Return the prediction of each model for an image, and the preprocessed image.

        Args:
            body: a PNG or JPEG file, or JSON as `prediction.load_pixels` describes it.
            kind: "image" or "json".

        Raises:
            DataError: the image cannot be used.
            WorkerError: decoding the image crashed the worker twice.
        """
        is_json = kind == "json"
        content = body.decode(errors="replace") if is_json else base64.b64encode(body).decode()
        image: dict[str, Any] = {"name": "the image", "content": content, "kind": kind}
        predictions, pixels = [], {}  # pixels: the preprocessed image, by preprocessing
        if not self.served:
            facts = self.in_browser[0].artifact.to_json()
            pixels[""] = self._run(prediction.load_pixels.bind(facts, **image))
        for model in self.served:
            facts = model.artifact.to_json()
            preprocessing = _preprocessing(model.artifact)
            if preprocessing not in pixels:
                pixels[preprocessing] = self._run(prediction.load_pixels.bind(facts, **image))
            call = prediction.classify.bind(facts, model.target, pixels[preprocessing])
            try:
                result = self._run(call)
            except LenetEdgeError as error:
                result = {"error": str(error)}
            predictions.append({"file": model.artifact.name, "target": model.target, **result})
        return {"answers": predictions, "seen": next(iter(pixels.values()))}

    def _run(self, call: Call[R], timeout_s: float = _TIMEOUT_S) -> R:
        """Run a call in the worker; after a crash, run it once more in a new worker."""
        for last in (False, True):
            if self._worker is None:
                self._worker = Worker()
            try:
                return self._worker.run(call.within(timeout_s))
            except WorkerError:
                self.close()
                if last or self._is_stopping:
                    raise
        raise AssertionError

    def stop(self) -> None:
        """Kill the worker, which ends a call that another thread waits for."""
        self._is_stopping = True
        if self._worker is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._worker.pid, signal.SIGKILL)

    def close(self) -> None:
        """Stop the worker."""
        if self._worker is not None:
            self._worker.close()
            self._worker = None


def _is_for_browsers(artifact: Artifact) -> bool:
    return BY_NAME[artifact.format].role == "browser"


def _preprocessing(artifact: Artifact) -> str:
    """Return a key that is equal for artifacts that preprocess images in the same way."""
    return str((artifact.inputs[0].shape[1:], artifact.labels))
