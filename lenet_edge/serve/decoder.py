"""The decoder of uploaded images: a worker process that forks a child for each image.

The child has limits of memory and time, and ends with its image. So the end of a slow image costs
no new start of Python, and no image leaves memory behind. Nothing else runs in this worker.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NoReturn

from lenet_edge import prediction, worker
from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.errors import DataError
from lenet_edge.machine.conditions import read_system_file
from lenet_edge.support.portable import resource

TIMEOUT_S = 1.5  # of one image; the others wait for so long
_MEMORY_BYTES = 192 * 2**20  # the file, its pixels, and the search for a digit
_NAME = "the image"


@worker.function
def start() -> None:
    """Import the decoders, so that no child has to."""
    os.environ["OPENBLAS_NUM_THREADS"] = "1"  # a process with threads cannot fork safely
    import numpy as np
    from PIL import JpegImagePlugin, PngImagePlugin  # noqa: F401

    from lenet_edge.data import handwriting, image_file  # noqa: F401

    # OpenBLAS allocates a buffer at its first use, and retries without end if it gets none.
    image = np.full((28, 28, 3), 255, np.uint8)
    image[8:20, 12:16] = 0
    handwriting.normalize_digit(image)


@worker.function
def decode_upload(
    artifacts: Sequence[dict[str, Any]],
    path: str,
    timeout_s: float = TIMEOUT_S,
    memory_bytes: int = _MEMORY_BYTES,
) -> list[Any]:
    """Decode an uploaded image in a child process, and prepare it for each of some models.

    Args:
        artifacts: the models, as `Artifact.to_json` returns them.
        path: the path of the PNG or JPEG file.
        timeout_s: the time limit of the child.
        memory_bytes: the limit of the memory that the child allocates.

    Returns:
        For each model, pixels as `prediction.load_pixels` returns them.

    Raises:
        DataError: the image is invalid, has no digit, exceeds a limit, or crashes the decoder.
        TargetError: a model takes no images, or images of any size.
    """
    reply_end, child_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        _run_child(_decode.bind(artifacts, path), child_end, timeout_s, memory_bytes)
    os.close(child_end)
    with os.fdopen(reply_end, "rb") as pipe:
        reply = pipe.read()
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if status == -signal.SIGALRM:
        raise DataError(f"{_NAME} takes over {timeout_s:g} s to decode here; send a smaller one")
    if status or not reply:
        raise DataError(f"{_NAME} ended the decoder with status {status}; save the image again")
    pixels: list[Any] = worker.decode_reply(_decode.name, json.loads(reply))
    return pixels


def _run_child(
    call: worker.Call[Any], descriptor: int, timeout_s: float, memory_bytes: int
) -> NoReturn:
    try:
        # The kernel ends the child, also within the C code of a decoder.
        signal.signal(signal.SIGALRM, signal.SIG_DFL)
        signal.setitimer(signal.ITIMER_REAL, timeout_s)
        _limit_memory(memory_bytes)
        with os.fdopen(descriptor, "wb") as pipe:
            pipe.write(json.dumps(worker.encode_reply(call)).encode())
    finally:
        os._exit(0)


def _limit_memory(extra_bytes: int) -> None:
    """Limit the memory that this process may allocate beyond its present memory, on Linux."""
    status = read_system_file(Path("/proc/self/status"))
    if status is None or resource is None:
        return
    limit = int(status.split("VmData:")[1].split()[0]) * 1024 + extra_bytes
    _, hard_limit = resource.getrlimit(resource.RLIMIT_DATA)
    if hard_limit == resource.RLIM_INFINITY or limit < hard_limit:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    with contextlib.suppress(OSError):  # when memory runs out, Linux kills this process first
        Path("/proc/self/oom_score_adj").write_text("900")


@worker.function
def _decode(artifacts: Sequence[dict[str, Any]], path: str) -> list[Any]:
    from lenet_edge.data import image_file

    try:
        image = image_file.decode_image(Path(path).read_bytes(), _NAME)
        files = (Artifact.from_json(artifact) for artifact in artifacts)
        return [prediction.prepare_image(image, file, _NAME) for file in files]
    except MemoryError:
        raise DataError(f"{_NAME} takes too much memory; make the image smaller") from None
