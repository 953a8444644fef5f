"""Photos from the camera of a Raspberry Pi.

picamera2 is part of Raspberry Pi OS and is built for the NumPy of the system. The system's Python
therefore takes the photo in a separate process. Source: Raspberry Pi, "The Picamera2 Library",
section 6.
"""

from __future__ import annotations

import subprocess

from lenet_edge.errors import DataError
from lenet_edge.support.python_command import python_program

_PYTHON = "/usr/bin/python3"
_CAPTURE = """
import io, sys, time
from picamera2 import Picamera2
with Picamera2() as camera:
    camera.configure(camera.create_still_configuration({"size": (1280, 960)}))
    camera.start()
    time.sleep(1)  # lets exposure and white balance settle
    photo = io.BytesIO()
    camera.capture_file(photo, format="jpeg")
sys.stdout.buffer.write(photo.getvalue())
"""


def take_photo() -> bytes:
    """Take a photo of 1280 x 960 pixels.

    Returns:
        The content of a JPEG file.

    Raises:
        DataError: picamera2 or the camera is missing.
    """
    try:
        process = subprocess.run(
            python_program(_CAPTURE, python=_PYTHON), capture_output=True, check=False, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DataError(
            f"cannot run {_PYTHON} for the camera ({error}); install python3-picamera2"
        ) from error
    if process.returncode == 0 and process.stdout:
        return process.stdout
    stderr = process.stderr.decode(errors="replace")
    if "No module named 'picamera2'" in stderr:
        raise DataError(
            "picamera2 is not installed; on a Raspberry Pi: sudo apt install python3-picamera2"
        )
    last = (stderr.strip().splitlines() or ["no error message"])[-1]
    raise DataError(
        f"the camera took no photo ({last}); is it connected? See: rpicam-hello --list-cameras"
    )
