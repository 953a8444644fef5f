"""The report in a real Chromium: from a file, by itself, at two widths, in light and dark."""

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
def addresses(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The addresses of two reports: of recorded results, and of names that would like to run."""
    folder = tmp_path_factory.mktemp("report")
    page.write(folder / "real.html", [(RECORDED[-1].name, BenchRun.load(RECORDED[-1]))])
    page.write(folder / "hostile.html", [("<script>", hostile())])
    return {name: (folder / f"{name}.html").as_uri() for name in ("real", "hostile")}


@pytest.mark.parametrize("name", ["real", "hostile"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_it_opens_from_a_file(
    chromium: Browser, addresses: dict[str, str], size: str, dark: bool, name: str
) -> None:
    chromium.open(addresses[name], SIZES[size], dark)
    assert chromium.console() == []
    assert chromium.requests() == [addresses[name]]
    assert chromium.script("document.documentElement.scrollWidth") == SIZES[size][0]
    background = chromium.script("getComputedStyle(document.body).backgroundColor")
    red = int(background.removeprefix("rgb(").split(",")[0])
    assert (red < 64) == dark
    shown = "[...document.querySelectorAll('svg')].filter(one => one.getBoundingClientRect().width)"
    assert chromium.script(f"{shown}.length") == 3
    # Every text of a picture can be read, and none runs out of it.
    smallest = chromium.script(
        f"Math.min(...{shown}.flatMap(svg => [...svg.querySelectorAll('text')])"
        ".map(text => text.getBoundingClientRect().height))"
    )
    assert smallest > 8


def test_its_figures_can_be_copied(chromium: Browser, addresses: dict[str, str]) -> None:
    chromium.open(addresses["real"])
    (run,) = [BenchRun.load(RECORDED[-1])]
    chromium.script("getSelection().selectAllChildren(document.body)")
    selected = chromium.script("getSelection().toString()")
    for one in run.measurements:
        assert f"{one.images_per_s:,.0f}" in selected
    assert "latency at batch 1, µs" in selected  # of the axes


def test_print_shows_every_row(chromium: Browser, addresses: dict[str, str]) -> None:
    chromium.open(addresses["real"], browser.PHONE, dark=True)
    chromium.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    try:
        assert chromium.script("getComputedStyle(document.body).color") == "rgb(0, 0, 0)"
        assert chromium.script(
            "[...document.querySelectorAll('.scroll')]"
            ".every(one => getComputedStyle(one).overflowX == 'visible')"
        )
    finally:
        chromium.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_the_recorded_results_flip_digits_that_are_shown(
    chromium: Browser, addresses: dict[str, str], tmp_path: Path
) -> None:
    chromium.open(addresses["real"])
    run = BenchRun.load(RECORDED[-1])
    flipped = {flip.index for report in run.parity for flip in report.flips}
    assert flipped
    drawn = chromium.script(
        "[...document.querySelectorAll('.sheet img')].filter(one => one.naturalWidth == 28)"
        ".map(one => one.alt)"
    )
    assert {int(alt.split()[2].rstrip(",")) for alt in drawn} == flipped
