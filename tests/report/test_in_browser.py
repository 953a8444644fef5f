"""The report page in Chromium: opened from a file, at two widths, in light and dark mode."""

from __future__ import annotations

from pathlib import Path

import pytest

from lenet_edge.report import page
from lenet_edge.results.result_file import BenchRun
from tests import browser
from tests.browser import Browser
from tests.report.test_page import RECORDED, hostile

SIZES = {"desktop": browser.DESKTOP, "phone": browser.PHONE}


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the URLs of two reports: of recorded results, and of results with hostile names."""
    folder = tmp_path_factory.mktemp("report")
    page.write(folder / "real.html", [(RECORDED[-1].name, BenchRun.load(RECORDED[-1]))])
    page.write(folder / "hostile.html", [("<script>", hostile())])
    return {name: (folder / f"{name}.html").as_uri() for name in ("real", "hostile")}


@pytest.mark.parametrize("name", ["real", "hostile"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_the_page_opens_from_a_file_without_other_requests(
    chromium: Browser, urls: dict[str, str], size: str, dark: bool, name: str
) -> None:
    chromium.open(urls[name], SIZES[size], dark)
    assert chromium.console() == []
    assert chromium.requests() == [urls[name]]
    assert chromium.script("document.documentElement.scrollWidth") == SIZES[size][0]
    background = chromium.script("getComputedStyle(document.body).backgroundColor")
    red = int(background.removeprefix("rgb(").split(",")[0])
    assert (red < 64) == dark
    shown = "[...document.querySelectorAll('svg')].filter(svg => svg.getBoundingClientRect().width)"
    assert chromium.script(f"{shown}.length") == 3
    # Every text in a chart is large enough to read.
    smallest = chromium.script(
        f"Math.min(...{shown}.flatMap(svg => [...svg.querySelectorAll('text')])"
        ".map(text => text.getBoundingClientRect().height))"
    )
    assert smallest > 8
    assert chromium.axe_violations() == []


def test_figures_can_be_selected_and_copied(chromium: Browser, urls: dict[str, str]) -> None:
    chromium.open(urls["real"])
    (run,) = [BenchRun.load(RECORDED[-1])]
    chromium.script("getSelection().selectAllChildren(document.body)")
    selected = chromium.script("getSelection().toString()")
    for cell in run.measurements:
        assert f"{cell.images_per_s:,.0f}" in selected
    assert "latency at batch 1, µs" in selected  # the label of an axis


def test_print_shows_every_row(chromium: Browser, urls: dict[str, str]) -> None:
    chromium.open(urls["real"], browser.PHONE, dark=True)
    chromium.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert chromium.script("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
        assert chromium.script(
            "[...document.querySelectorAll('.scroll')]"
            ".every(table => getComputedStyle(table).overflowX == 'visible')"
        )
    finally:
        chromium.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_all_flipped_digits_of_the_recorded_results_are_shown(
    chromium: Browser, urls: dict[str, str], tmp_path: Path
) -> None:
    chromium.open(urls["real"])
    run = BenchRun.load(RECORDED[-1])
    flipped = {flip.index for report in run.parity for flip in report.flips}
    assert flipped
    alts = chromium.script(
        "[...document.querySelectorAll('.sheet img')].filter(image => image.naturalWidth == 28)"
        ".map(image => image.alt)"
    )
    assert {int(alt.split()[2].rstrip(",")) for alt in alts} == flipped
