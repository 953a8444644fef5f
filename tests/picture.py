"""Make docs/report.png, the picture at the top of README.md: python -m tests.picture

The picture shows the upper part of the report on the newest results in benchmarks/results/.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

from PIL import Image

from lenet_edge.report import page
from lenet_edge.results.result_file import BenchRun
from tests import browser
from tests.report.test_page import RECORDED, ROOT

SIZE = (920, 800, 1.5)
PICTURE = ROOT / "docs" / "report.png"


def main() -> None:
    if reason := browser.missing():
        sys.exit(reason)
    with tempfile.TemporaryDirectory() as folder, browser.start() as chromium:
        report = Path(folder) / "report.html"
        page.write(report, [(RECORDED[-1].name, BenchRun.load(RECORDED[-1]))])
        chromium.open(report.as_uri(), SIZE)
        bottom = "document.querySelector('#accuracy-1').getBoundingClientRect().bottom + 20"
        chromium.screenshot(PICTURE, height=int(chromium.script(bottom)))
    # The page has few colours, so a palette halves the file. MAXCOVERAGE keeps rare colours.
    colours = Image.open(PICTURE).convert("RGB").quantize(256, Image.Quantize.MAXCOVERAGE)
    colours.save(PICTURE, optimize=True)


if __name__ == "__main__":
    main()
