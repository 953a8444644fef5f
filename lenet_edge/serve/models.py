"""The models behind the page: kept open in one worker process, which may crash without harm."""

from __future__ import annotations

import base64
import contextlib
import os
import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lenet_edge.artifact import Artifact
from lenet_edge.errors import LenetEdgeError, TargetError, WorkerError
from lenet_edge.results import Skipped
from lenet_edge.worker import Worker

_TIMEOUT_S = 10.0  # of one call; a runtime's first one may compile
_OPEN_TIMEOUT_S = 60.0  # TensorFlow takes long to load


@dataclass(frozen=True)
class Served:
    """A file, and the target that was found to run it."""

    artifact: Artifact
    target: str

    def to_json(self) -> dict[str, Any]:
        """Return what the page and programs are told of it."""
        return {
            "file": self.artifact.name,
            "target": self.target,
            "precision": self.artifact.precision,
            "size_bytes": self.artifact.size_bytes,
            "labels": list(self.artifact.labels),
        }


class Models:
    """Some files, opened one by one in a worker; every method may take seconds, and blocks."""

    def __init__(self, artifacts: Sequence[Artifact], target: str | None = None) -> None:
        """Open each file; `skipped` says which do not run here, and why.

        Raises:
            TargetError: none does.
        """
        self._worker: Worker | None = None
        self._stopping = False
        self.served: list[Served] = []
        self.skipped: list[Skipped] = []
        for artifact in artifacts:
            try:
                found = self._call(
                    "open_first", _OPEN_TIMEOUT_S, artifacts=[artifact.to_json()], target=target
                )
                self.served.append(Served(artifact, found["target"]))
            except LenetEdgeError as error:
                self.skipped.append(Skipped(target or "any target", str(error), artifact.name))
        if not self.served:
            self.close()
            raise TargetError("; ".join(dict.fromkeys(one.reason for one in self.skipped)))

    def answer(self, body: bytes | bytearray, kind: str) -> dict[str, Any]:
        """Return what each model says to an image, and what it saw.

        Args:
            body: a PNG or JPEG file; or JSON, see `prediction.see`.
            kind: "image" or "json".

        Raises:
            DataError: the image cannot be used.
            WorkerError: decoding it has brought the worker down, twice.
        """
        is_json = kind == "json"
        content = body.decode(errors="replace") if is_json else base64.b64encode(body).decode()
        image: dict[str, Any] = {"name": "the image", "content": content, "kind": kind}
        answers, seen = [], {}
        for one in self.served:
            facts = one.artifact.to_json()
            as_it_sees = str((one.artifact.inputs[0].shape, one.artifact.labels))
            if as_it_sees not in seen:
                seen[as_it_sees] = self._call("see", artifact=facts, **image)
            try:
                said = self._call(
                    "classify", artifact=facts, target=one.target, pixels=seen[as_it_sees]
                )
            except LenetEdgeError as error:
                said = {"error": str(error)}
            answers.append({"file": one.artifact.name, "target": one.target, **said})
        return {"answers": answers, "seen": next(iter(seen.values()))}

    def _call(self, function: str, timeout_s: float = _TIMEOUT_S, **arguments: Any) -> Any:
        """Ask the worker; one that has died is replaced, and the new one is asked once more."""
        for last in (False, True):
            if self._worker is None:
                self._worker = Worker()
            try:
                return self._worker.call(f"prediction:{function}", timeout_s, **arguments)
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
