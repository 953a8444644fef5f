"""The models of a server, and the decoder of its images, in one worker process each.

A crash of a model or of the decoder does not stop the server. The page itself runs .wasm files, in
the browser.
"""

from __future__ import annotations

import base64
import contextlib
import functools
import math
import os
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from lenet_edge import prediction
from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.errors import (
    LenetEdgeError,
    TargetError,
    WorkerError,
    WorkerTimeoutError,
)
from lenet_edge.formats import BY_NAME
from lenet_edge.results.result_file import Skipped
from lenet_edge.serve import decoder
from lenet_edge.worker import Call, Worker

R = TypeVar("R")
_TIMEOUT_S = 10.0  # of one call
_OPEN_TIMEOUT_S = 60.0  # opening may compile the model or its C code, also on a slow board
_DECODER_TIMEOUT_S = 2 * decoder.TIMEOUT_S  # the decoder itself ends a slow image
_JSON_BYTES = 64 * 2**10
_NUMBER_BYTES = 32  # of JSON text for one pixel


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


@dataclass(frozen=True)
class Sample:
    """An image to try: the name of its class, and a PNG file."""

    label: str
    content: bytes


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
        self._models = _WorkerProcess()
        self._decoder = _WorkerProcess(decoder.start.bind())
        self.served: list[ServedModel] = []
        self.in_browser: list[BrowserModel] = []
        self.skipped: list[Skipped] = []
        for artifact in sorted(artifacts, key=_is_for_browsers):
            if _is_for_browsers(artifact) and target is None:
                self._add_browser_model(artifact)
                continue
            try:
                prediction.image_shape(artifact)
                call = prediction.open_first_runnable.bind([artifact.to_json()], target)
                opened = self._models.run(call, _OPEN_TIMEOUT_S)
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

    @property
    def takes_digits(self) -> bool:
        """True if every model classifies the digits of MNIST."""
        models: list[ServedModel | BrowserModel] = [*self.served, *self.in_browser]
        return all(prediction.expects_digits(model.artifact) for model in models)

    @property
    def max_json_bytes(self) -> int:
        """The largest JSON text that describes an image for these models."""
        shapes = [prediction.image_shape(artifact) for artifact in self._inputs().values()]
        return max(_JSON_BYTES, *(_NUMBER_BYTES * math.prod(shape) for shape in shapes))

    def _inputs(self) -> dict[str, Artifact]:
        """Return one artifact for each way in which images are preprocessed."""
        models: Sequence[ServedModel | BrowserModel] = self.served or self.in_browser[:1]
        return {_preprocessing(model.artifact): model.artifact for model in reversed(models)}

    def decode_image(self, path: str) -> dict[str, Any]:
        """Return the pixels for each way of preprocessing.

        Args:
            path: the path of a PNG or JPEG file.

        Raises:
            DataError: the image cannot be used, or decoding takes too long.
            WorkerError: the decoder crashed twice.
        """
        inputs = self._inputs()
        artifacts = [artifact.to_json() for artifact in inputs.values()]
        call = decoder.decode_upload.bind(artifacts, path)
        pixels = self._decoder.run(call, _DECODER_TIMEOUT_S)
        return dict(zip(inputs, pixels, strict=True))

    def read_json(self, text: str) -> dict[str, Any]:
        """Return the pixels for each way of preprocessing.

        Args:
            text: JSON as `prediction.load_pixels` describes it.

        Raises:
            DataError: the text is not such JSON.
            WorkerError: reading it crashed the worker twice.
        """
        return {
            preprocessing: self._models.run(
                prediction.load_pixels.bind(artifact.to_json(), "the image", text, "json")
            )
            for preprocessing, artifact in self._inputs().items()
        }

    @property
    def channels(self) -> int:
        """The channels of the images of the first model."""
        return prediction.image_shape(next(iter(self._inputs().values())))[2]

    @functools.cached_property
    def samples(self) -> list[Sample]:
        """Images to try, exactly as the models take them; empty if their images differ."""
        models: Sequence[ServedModel | BrowserModel] = [*self.served, *self.in_browser]
        if len({prediction.image_shape(model.artifact) for model in models}) > 1:
            return []
        call = prediction.sample_images.bind(models[0].artifact.to_json())
        try:
            samples = self._models.run(call, _OPEN_TIMEOUT_S)
        except LenetEdgeError:  # such as a damaged reference: the models run without it
            return []
        return [Sample(facts["label"], base64.b64decode(facts["png"])) for facts in samples]

    def predict(
        self, pixels: dict[str, Any], chosen: Sequence[int] | None = None
    ) -> dict[str, Any]:
        """Return the prediction of each model for an image, and the preprocessed image.

        Args:
            pixels: the result of `decode_image` or `read_json`.
            chosen: the indices of the models to run, in `served`; None: all.
        """
        predictions = []
        for model in self.served if chosen is None else [self.served[index] for index in chosen]:
            call = prediction.classify.bind(
                model.artifact.to_json(), model.target, pixels[_preprocessing(model.artifact)]
            )
            try:
                result = self._models.run(call)
            except LenetEdgeError as error:
                result = {"error": str(error)}
            predictions.append({"file": model.artifact.name, "target": model.target, **result})
        seen = self.served[0] if self.served else self.in_browser[0]
        return {"answers": predictions, "seen": pixels[_preprocessing(seen.artifact)]}

    def stop(self) -> None:
        """Kill the workers, which ends the calls that other threads wait for."""
        self._models.stop()
        self._decoder.stop()

    def close(self) -> None:
        """Stop the workers."""
        self._models.close()
        self._decoder.close()


class _WorkerProcess:
    """A worker that starts with the first call, and is replaced after a crash."""

    def __init__(self, start_call: Call[None] | None = None) -> None:
        """Bind the first call of each new worker, which may take longer than the others."""
        self._start_call = start_call
        self._worker: Worker | None = None
        self._is_stopping = False

    def run(self, call: Call[R], timeout_s: float = _TIMEOUT_S) -> R:
        """Run a call. After a crash, run it once more in a new worker, in the time that is left.

        The start of the new worker takes no part of that time. A call that timed out is never
        repeated, because it would time out again.
        """
        left_s = timeout_s
        for last in (False, True):
            try:
                worker = self._start()
                started = time.monotonic()
                try:
                    return worker.run(call.within(left_s))
                finally:
                    left_s -= time.monotonic() - started
            except WorkerTimeoutError:
                self.close()
                raise WorkerTimeoutError(
                    f"{call.function.name} did not finish within {timeout_s:g} s"
                ) from None
            except WorkerError:
                self.close()
                if last or self._is_stopping:
                    raise
        raise AssertionError

    def _start(self) -> Worker:
        if self._worker is None:
            self._worker = Worker()
            if self._start_call is not None:
                try:
                    self._worker.run(self._start_call.within(_OPEN_TIMEOUT_S))
                except LenetEdgeError:
                    self.close()
                    raise
        return self._worker

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
    """Return a key that is equal for artifacts that get the same pixels of an image."""
    rule = artifact.preprocessing
    return str((artifact.inputs[0].shape[1:], artifact.labels, rule.resize, rule.filter))
