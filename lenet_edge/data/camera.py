"""A photo from a Raspberry Pi's camera, through the system's picamera2.

picamera2 comes with Raspberry Pi OS and is built for the system's NumPy, so the system's Python
takes the photo, in a process of its own. Source: Raspberry Pi, "The Picamera2 Library", 6.
"""

from __future__ import annotations

import subprocess

from lenet_edge.errors import DataError

_PYTHON = "/usr/bin/python3"
_CAPTURE = """
import io, sys, time
from picamera2 import Picamera2
with Picamera2() as camera:
    camera.configure(camera.create_still_configuration({"size": (1280, 960)}))
    camera.start()
    time.sleep(1)  # until exposure and white balance have settled
    photo = io.BytesIO()
    camera.capture_file(photo, format="jpeg")
sys.stdout.buffer.write(photo.getvalue())
"""


def take_photo() -> bytes:
    """Return a JPEG file of what the camera sees.

    Raises:
        DataError: there is no picamera2 here, or no camera.
    """
    try:
        done = subprocess.run(
            [_PYTHON, "-c", _CAPTURE], capture_output=True, check=False, timeout=60
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise DataError(f"the camera cannot be asked ({error})") from error
    if done.returncode == 0 and done.stdout:
        return done.stdout
    said = done.stderr.decode(errors="replace")
    if "No module named 'picamera2'" in said:
        raise DataError(
            "there is no picamera2 on this machine; on a Raspberry Pi: sudo apt install"
            " python3-picamera2"
        )
    last = (said.strip().splitlines() or ["it said nothing"])[-1]
    raise DataError(
        f"the camera took no photo ({last}); is it connected? See: rpicam-hello --list-cameras"
    )
