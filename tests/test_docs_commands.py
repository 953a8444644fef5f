"""Every command in the documents is run, page by page, in the order of the page.

The lines of ``sh`` blocks that start with an item of `RUN` are run in a folder with the files that
the pages assume. `ELSEWHERE` names the test of each other line.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lenet_edge.data import mnist
from tests.extending import add_documented, copy_package
from tests.onnx_models import FOLDER
from tests.test_docs import PAGES, ROOT, TEXTS

RUN = ("lenet-edge ", "eval ", "pytest ")
ELSEWHERE = {
    "make demo": "flows/test_run.py: it is lenet-edge run",
    "make test": "the run of these tests",
    "pip install '.[litert,report]'": "test_board.py: it is the source of the wheel",
    'pip install "$(echo dist/*.whl)[litert]"': "test_install.py",
    'pip install "$(echo dist/*.whl)[litert,report]"': "test_board.py",
    "make wheel": "test_install.py",
    # Tried by hand: pipx, podman and Docker are not among the tools of the tests.
    'pipx install "$(echo dist/*.whl)[litert,serve,report]"': "CONTRIBUTING.md: a release",
    "podman build --tag lenet-edge .": "CONTRIBUTING.md: a release",
    'podman run --rm --volume "$PWD:/work" lenet-edge verify exported/lenet_int8.tflite':
        "CONTRIBUTING.md: a release",
    'podman run --rm --publish 8000:8000 --volume "$PWD:/work" lenet-edge serve --host 0.0.0.0':
        "CONTRIBUTING.md: a release",
    # What is run in a copy of the package with the files of the page.
    "python -m lenet_edge.flows.make_probe npz": "test_extending.py",
    "lenet-edge export exported/lenet.keras --format npz --float16 --output-dir numpy":
        "test_extending.py",
    "lenet-edge inspect numpy/lenet_float32.npz": "test_extending.py",
    "lenet-edge verify numpy/lenet_float32.npz numpy/lenet_float16.npz": "test_extending.py",
    "lenet-edge bench numpy/lenet_float32.npz --batch-size 1 --rounds 1 --max-time 1":
        "test_extending.py",
    "lenet-edge verify exported/lenet_float32.onnx --target onnx-reference": "test_extending.py",
    "lenet-edge bench exported/lenet_float32.onnx --target onnx-reference --batch-size 1":
        "test_extending.py",
    "lenet-edge train --network ds-cnn --output mine/ds-cnn.keras": "train/test_networks.py",
    "lenet-edge export mine/ds-cnn.keras --int8 --output-dir mine": "train/test_networks.py",
    "lenet-edge train --seeds 5 --output mine/five.keras": "train/test_networks.py",
    "lenet-edge train --network ds-cnn --teacher exported/lenet.keras --output mine/student.keras":
        "train/test_networks.py",
    # Models of other tools.
    "lenet-edge bench ocr.onnx --input-shape x=1,3,48,192": "runtimes/test_any_model.py",
    "lenet-edge bench speech.onnx --inputs speech.npz": "runtimes/test_any_model.py",
    "lenet-edge verify detector_int8.tflite --reference detector.onnx --data inputs.npz"
    " --bound boxes:min-snr-db=25": "verify/test_file_pairs.py",
    "lenet-edge describe found.tflite --data images.npz --pixel-scale 1/255":
        "verify/test_file_pairs.py",
    "lenet-edge bundle found.tflite --output found.tar.xz": "verify/test_file_pairs.py",
    # Commands that need a fleet.
    'pip install "$(echo dist/*.whl)[fleet,litert]"': "test_board.py",
    "lenet-edge fleet up": "fleet/test_up.py",
    "lenet-edge fleet status": "fleet/test_up.py",
    "lenet-edge fleet down": "fleet/test_up.py",
    "lenet-edge verify --scheduler tls://127.0.0.1:8786 --json proofs.json":
        "fleet/test_fleet.py",
    "lenet-edge bench --scheduler tls://127.0.0.1:8786 --json times.json": "fleet/test_fleet.py",
    "lenet-edge report proofs.json times.json": "fleet/test_fleet.py",
    "export DASK_DISTRIBUTED__COMM__REQUIRE_ENCRYPTION=True": "fleet/test_tls.py",
    "export DASK_DISTRIBUTED__COMM__TLS__CA_FILE=ca.pem": "fleet/test_tls.py",
    **{
        f"export DASK_DISTRIBUTED__COMM__TLS__{who}__CERT=cert.pem"
        f" DASK_DISTRIBUTED__COMM__TLS__{who}__KEY=key.pem": "fleet/test_tls.py"
        for who in ("CLIENT", "SCHEDULER", "WORKER")
    },
    "dask scheduler --host tls://192.168.1.2:8786 --dashboard-address 127.0.0.1:0":
        "fleet/test_tls.py",
    "dask worker tls://192.168.1.2:8786 --name pi5-a --nthreads 1 --no-nanny"
    " --resources board=1 --dashboard-address 127.0.0.1:0": "fleet/test_tls.py",
    "lenet-edge bench --scheduler tls://192.168.1.2:8786": "fleet/test_tls.py",
    "TF_CONFIG='{\"cluster\": {\"worker\": [\"a:2222\", \"b:2222\"]}, \"task\":"
    " {\"type\": \"worker\", \"index\": 0}}' lenet-edge train --strategy multi-worker":
        "train/test_distribution.py",
    "python -m benchmarks.fleet": "too long; docs/scale.md has its results",
    "arm-none-eabi-gcc -mcpu=cortex-m4 -mthumb -O2 -fstack-usage -c firmware/lenet_native_int8.c"
    " -o lenet.o": "export/test_native.py",
    "arm-none-eabi-size lenet.o": "export/test_native.py",
    **dict.fromkeys(
        (
            "lenet-edge verify exported/lenet_native_int8.c --target cortex-m4",
            "lenet-edge verify chip/lenet_int8_native.c --target cortex-m4",
        ),
        "runtimes/test_cortex_m.py",
    ),
    **dict.fromkeys(
        (
            "lenet-edge search --max-bytes 20000 --min-accuracy 99",
            "lenet-edge export search/network-09.keras --int8 --format native",
        ),
        "flows/test_search.py",
    ),
    "lenet-edge train --network cnn-5k --recipe best --epochs 60": "train/test_networks.py",
    "python -m benchmarks.training smallest": "too long; docs/smallest.md has its results",
    "lenet-edge tune --output-dir tuned": "flows/test_tune.py",
    "lenet-edge finetune exported/lenet.keras --output tuned/lenet.keras":
        "train/test_quantization.py",
    "lenet-edge export tuned/lenet.keras --int8 --output-dir tuned":
        "train/test_quantization.py",
    "lenet-edge card --check exported/README.md": "report/test_card.py",
    "lenet-edge serve site/lenet_float32.wasm exported/lenet_int8.tflite": "serve/test_wasm.py",
    # Commands that need a GPU or a vendor's library.
    "lenet-edge bench exported/lenet_float32.tflite --target litert-gpu": "test_accelerators.py",
    "lenet-edge verify exported/lenet_float32.tflite --target litert-gpu": "test_accelerators.py",
    "lenet-edge bench exported/lenet_int8.onnx --target onnxruntime-webgpu --allow-fallback":
        "test_accelerators.py",
    "lenet-edge verify exported/lenet_float32.onnx --target onnxruntime-webgpu"
    " --delegate-option preferredLayout=NHWC": "test_accelerators.py",
    "lenet-edge verify exported/lenet_float32.tflite --delegate libvendor.so"
    " --delegate-option cache=off": "test_delegates.py",
    "export VK_ICD_FILENAMES=/usr/lib/chromium/vk_swiftshader_icd.json": "tests/conftest.py",
    # Commands that need a board.
    "ssh-copy-id pi@raspberrypi.local": "OpenSSH's",
    "lenet-edge deploy pi@raspberrypi.local": "deploy/test_deploy.py",
    "lenet-edge deploy pi@raspberrypi.local --dry-run": "deploy/test_deploy.py",
    "lenet-edge deploy pi@raspberrypi.local exported/lenet_int8.tflite"
    " exported/lenet_dynamic.tflite": "deploy/test_deploy.py",
    "lenet-edge deploy pi@raspberrypi.local digits/digits_int8.tflite": "deploy/test_deploy.py",
    "lenet-edge deploy pi@raspberrypi.local --service": "deploy/test_deploy.py",
    "lenet-edge deploy pi@raspberrypi.local --uninstall": "deploy/test_deploy.py",
    "scp photo.jpg pi@raspberrypi.local:": "OpenSSH's",
    "ssh pi@raspberrypi.local .local/bin/lenet-edge predict photo.jpg": "deploy/test_deploy.py",
    "ssh pi@raspberrypi.local .local/bin/lenet-edge predict --camera": "deploy/test_deploy.py",
    # Commands that run until they are stopped, and requests to them.
    "lenet-edge serve": "serve/test_server.py",
    "curl -X POST -T 3.png -H 'Content-Type: image/png' http://127.0.0.1:8000/predict":
        "serve/test_server.py",
    "curl -H 'Content-Type: application/json' -d '{\"pixels\": [[0, ...], ...]}'"
    " http://127.0.0.1:8000/predict": "serve/test_server.py",
}  # fmt: skip
SLOW = {
    "README.md",
    "add-a-format.md",
    "firmware.md",
    "gate-your-ci.md",
    "native.md",
    "add-a-runtime.md",
    "measure.md",
    "microcontroller.md",
    "pick-a-file.md",
    "pytorch.md",
    "raspberry-pi.md",
    "terminal.md",
    "train-your-data.md",
    "your-model.md",
}
# Further exit statuses. 30 test images are too few; a test does not judge the speed of a machine.
ALSO = {
    "lenet-edge verify mine/photos_*.tflite mine/photos_*.onnx": {4},
    "lenet-edge compare base.json new.json --fail-above 50%": {3},
    "lenet-edge report counts.json --max-flash 256k --max-ram 16k": {4},
}


def commands(page: str) -> list[str]:
    blocks = re.findall(r"^```sh\n(.*?)^```", TEXTS[page], re.MULTILINE | re.DOTALL)
    lines = [line.split("  #")[0].strip() for block in blocks for line in block.splitlines()]
    return [re.sub(r"\s+#.*", "", line) for line in lines]


def test_every_page_has_commands_and_each_is_run_somewhere() -> None:
    for page in PAGES:
        assert commands(page) or page == "decisions.md", page
        for line in commands(page):
            assert line.startswith(RUN) or line in ELSEWHERE, (page, line)
    targets = re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert {line.split()[1] for line in ELSEWHERE if line.startswith("make")} <= set(targets)


def test_the_exceptions_are_still_in_the_documents() -> None:
    lines = {line for page in PAGES for line in commands(page)}
    assert {*ELSEWHERE, *ALSO} <= lines
    assert set(PAGES) >= SLOW


@pytest.fixture
def desk(tmp_path: Path) -> Path:
    """A folder with the files that the pages assume."""
    shutil.copytree(ROOT / "exported", tmp_path / "exported")
    for name, source in (("theirs.keras", "lenet.keras"), ("theirs.tflite", "lenet_float32.tflite"),
                         ("theirs_int8.tflite", "lenet_int8.tflite"),
                         ("theirs.onnx", "lenet_float32.onnx")):  # fmt: skip
        shutil.copy(ROOT / "exported" / source, tmp_path / name)
    shutil.copy(
        ROOT / "tests" / "data" / "handwriting" / "7-hasty-crayon.jpg", tmp_path / "photo.jpg"
    )
    test = mnist.load("test")
    np.savez(tmp_path / "images.npz", images=test.images[:2000], labels=test.labels[:2000])
    from PIL import Image

    for digit in (3, 8):
        folder = tmp_path / "photos" / test.class_names[digit]
        folder.mkdir(parents=True)
        for index in np.flatnonzero(test.labels == digit)[:100]:
            picture = Image.fromarray(test.images[index, ..., 0]).resize((100, 120))
            picture.save(folder / f"{index}.png")
    return tmp_path


def run(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    environment = {
        **os.environ,
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": str(folder),  # where a page adds a runtime to the package
    }
    return subprocess.run(
        ["bash", "-c", line],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=900,
    )  # fmt: skip


def prepare(page: str, folder: Path) -> None:
    """Make the files that only one page assumes."""
    if page == "add-a-runtime.md":
        copy_package(folder)
        add_documented(TEXTS[page], folder)
    if page == "gate-your-ci.md":
        (settings,) = re.findall(r"^```toml\n(.*?)^```", TEXTS[page], re.MULTILINE | re.DOTALL)
        (folder / "pyproject.toml").write_text(settings)
    if page == "pytorch.md":  # test_pytorch_page.py runs its Python
        shutil.copy(FOLDER / "lenet_dynamo20.onnx", folder / "digits.onnx")
        shutil.copy(FOLDER / "lenet_litert_torch.tflite", folder / "digits_litert.tflite")
    if "base.json" in TEXTS[page]:
        benched = run(
            "lenet-edge bench exported/lenet_int8.tflite --target litert --batch-size 1"
            " --json base.json",
            folder,
        )
        assert benched.returncode == 0, benched.stderr


@pytest.mark.costly
@pytest.mark.parametrize(
    "page",
    [pytest.param(page, marks=pytest.mark.slow if page in SLOW else ()) for page in PAGES],
)
def test_the_commands_of_a_page(page: str, desk: Path) -> None:
    prepare(page, desk)
    for line in commands(page):
        if line.startswith(RUN) and line not in ELSEWHERE:
            done = run(line, desk)
            assert done.returncode in {0, *ALSO.get(line, ())}, (line, done.stdout, done.stderr)
            assert "Traceback" not in done.stderr, line
