"""The report page in Chromium, opened from a file: with and without its script, at three widths."""

from __future__ import annotations

import csv
import dataclasses
import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lenet_edge.flows.report import with_folders
from lenet_edge.report import page
from lenet_edge.results.result_file import BenchRun
from tests import browser
from tests.browser import Browser
from tests.report.test_layers import TIMES
from tests.report.test_page import RECORDED, hostile

SIZES = {"desktop": (1400, 900, 1.0), "tablet": (768, 1000, 1.0), "phone": browser.PHONE}
EPOCHS = [
    {"epoch": number, "loss": 1 / number, "accuracy": 1 - 0.1 / number, "seconds": 2.0}
    for number in range(1, 9)
]
FEW = ("lenet.keras", "lenet_native_int8.c", "lenet_int8.onnx")
CHARTS = 5  # accuracy, spread, batch sizes, layers, training


def complete(folder: Path) -> BenchRun:
    """Return recorded results with every kind of result, and write the history of a training."""
    run = BenchRun.load(RECORDED[-1])
    metered = [
        dataclasses.replace(
            cell,
            processes=tuple(dataclasses.replace(p, energy_j=2e-4) for p in cell.processes),
            energy_covers="package",
        )
        for cell in run.measurements[:8]
    ]
    (folder / "lenet.training").mkdir()
    (folder / "lenet.training" / "history.json").write_text(
        json.dumps(
            {
                "settings": {"recipe": {"name": "quick"}, "seed": 1, "data_sha256": ""},
                "dataset": "MNIST", "epochs": EPOCHS, "test_accuracy": 0.9947,
            }
        )
    )  # fmt: skip
    return dataclasses.replace(
        run,
        measurements=(*metered, *run.measurements[8:]),
        layer_times=(TIMES,),
        commands=("lenet-edge verify --json v.json", "lenet-edge bench --layers --json b.json"),
    )


@pytest.fixture(scope="module")
def urls(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Return the URLs of reports: complete results, few of them, and hostile names."""
    folder = tmp_path_factory.mktemp("report")
    run = complete(folder)
    few = dataclasses.replace(
        run,
        measurements=tuple(cell for cell in run.measurements if cell.artifact in FEW),
        parity=tuple(report for report in run.parity if report.candidate in FEW),
    )
    for name, each in {"real": run, "few": few}.items():
        report = page.build([(f"{name}.json", each)])
        with_folders(report, [folder]).save(folder / f"{name}.html")
    page.write(folder / "hostile.html", [("<script>", hostile())])
    return {name: (folder / f"{name}.html").as_uri() for name in ("real", "few", "hostile")}


@pytest.fixture
def without_script(chromium: Browser) -> Iterator[None]:
    chromium.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    yield
    chromium.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})


def check_layout(chromium: Browser, url: str, size: tuple[int, int, float], dark: bool) -> None:
    """Open a page, and check that it fits, has the colours, and asks for nothing."""
    chromium.open(url, size, dark)
    assert chromium.console() == []
    assert chromium.requests() == [url]
    assert chromium.script("document.documentElement.scrollWidth") == size[0]
    background = chromium.script("getComputedStyle(document.body).backgroundColor")
    red = int(background.removeprefix("rgb(").split(",")[0])
    assert (red < 64) == dark
    if size[0] < 600:  # every figure is in view
        too_wide = (
            "[...document.querySelectorAll('.scroll')].filter(e => e.scrollWidth > e.clientWidth)"
        )
        assert chromium.script(f"{too_wide}.map(e => e.ariaLabel)") == []
    # Every text in a chart is large enough to read.
    smallest = chromium.script(
        "Math.min(...[...document.querySelectorAll('svg text')]"
        ".map(text => text.getBoundingClientRect().height))"
    )
    assert smallest > 8


@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
@pytest.mark.parametrize("size", SIZES)
def test_the_page_fits_and_is_accessible(
    chromium: Browser, urls: dict[str, str], size: str, dark: bool
) -> None:
    check_layout(chromium, urls["real"], SIZES[size], dark)
    assert chromium.script("document.querySelectorAll('svg').length") == CHARTS
    # axe-core looks at what is shown, and takes seconds for each hundred rows.
    check_layout(chromium, urls["few"], SIZES[size], dark)
    chromium.driver.execute_script(
        "for (const details of document.querySelectorAll('details')) details.open = true"
    )
    assert chromium.script("document.documentElement.scrollWidth") == SIZES[size][0]
    assert chromium.axe_violations() == []


def test_the_page_fits_without_its_script(
    chromium: Browser, urls: dict[str, str], without_script: None
) -> None:
    for size in SIZES.values():
        for dark in (False, True):
            check_layout(chromium, urls["real"], size, dark)
            assert chromium.script("document.querySelectorAll('.tools, .tip').length") == 0
            # The browser shows the title of a mark under the pointer.
            assert chromium.script("document.querySelectorAll('.mark > title').length") > 100


def test_hostile_names_break_nothing(chromium: Browser, urls: dict[str, str]) -> None:
    check_layout(chromium, urls["hostile"], browser.PHONE, dark=False)
    assert chromium.script("document.querySelectorAll('script').length") == 1
    marks = "[...document.querySelectorAll('.mark')].map(mark => JSON.parse(mark.dataset.row).file)"
    assert set(chromium.script(marks)) == {hostile().measurements[0].artifact}


def rows_of(chromium: Browser, anchor: str) -> list[list[str]]:
    """Return the cells of the visible rows of a table, without its heading."""
    rows: list[list[str]] = chromium.script(
        f"[...document.querySelectorAll('#{anchor} tbody tr')].filter(row => !row.hidden)"
        ".map(row => [...row.cells].map(cell => cell.textContent))"
    )
    return rows


def click(chromium: Browser, selector: str) -> None:
    chromium.driver.execute_script(f"document.querySelector({selector!r}).click()")


def test_tables_are_sorted_with_the_keyboard(chromium: Browser, urls: dict[str, str]) -> None:
    from selenium.webdriver.common.by import By
    from selenium.webdriver.common.keys import Keys

    chromium.open(urls["real"], SIZES["desktop"])
    before = rows_of(chromium, "parity-1")
    head = chromium.driver.find_element(By.CSS_SELECTOR, "#parity-1 th:nth-child(9)")  # flips
    head.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    assert head.get_attribute("aria-sort") == "ascending"
    flips = [int(row[8].replace(",", "")) for row in rows_of(chromium, "parity-1")]
    assert flips == sorted(flips)
    assert len(set(flips)) > 2
    head.find_element(By.TAG_NAME, "button").send_keys(Keys.SPACE)
    assert head.get_attribute("aria-sort") == "descending"
    assert rows_of(chromium, "parity-1")[0][8] == str(max(flips))
    head.find_element(By.TAG_NAME, "button").send_keys(Keys.ENTER)
    assert rows_of(chromium, "parity-1") == before
    # "5.1 µs" is less than "1.2 ms".
    click(chromium, "#others-1 th:nth-child(4) button")
    units = {"µs": 1e-6, "ms": 1e-3}
    times = [row[3].split() for row in rows_of(chromium, "others-1")]
    seconds = [float(number) * units[unit] for number, unit in times]
    assert seconds == sorted(seconds)
    # On a phone there are no headings to press.
    chromium.open(urls["real"], browser.PHONE)
    order = chromium.driver.find_element(By.CSS_SELECTOR, "#parity-1 .order")
    assert order.is_displayed()
    order.send_keys("flips ▼")
    assert rows_of(chromium, "parity-1")[0][8] == str(max(flips))


def test_filtered_rows_are_copied(chromium: Browser, urls: dict[str, str]) -> None:
    chromium.open(urls["real"], SIZES["desktop"])
    chromium.driver.execute_cdp_cmd(
        "Browser.grantPermissions", {"permissions": ["clipboardReadWrite"]}
    )
    set_value = (
        "const field = document.querySelector({!r}); field.value = {!r};"
        " field.dispatchEvent(new Event('{}'))"
    )
    chromium.driver.execute_script(
        set_value.format(
            "#latencies-1 select[aria-label='Every runtime']", "onnxruntime-cpu", "change"
        )
    )
    chromium.driver.execute_script(set_value.format("#latencies-1 input", "INT8", "input"))
    rows = rows_of(chromium, "latencies-1")
    assert 0 < len(rows) < 10
    assert all("int8" in row[0] and row[1] == "onnxruntime-cpu" for row in rows)
    status = "document.querySelector('#latencies-1 [role=status]').textContent"
    assert chromium.script(status) == f"{len(rows)} of 80 rows"
    copied: dict[str, str] = {}
    for number, name in enumerate(("CSV", "Markdown", "JSON"), 1):
        click(chromium, f"#latencies-1 .copying button:nth-child({number})")
        copied[name] = chromium.driver.execute_async_script(
            "const done = arguments[0];"
            " setTimeout(() => navigator.clipboard.readText().then(done, done), 50)"
        )
        assert chromium.script(status) == f"Copied {len(rows)} rows as {name}"
    plain = [cell.replace(",", "") for cell in rows[0]]
    table = list(csv.reader(io.StringIO(copied["CSV"])))
    assert len(table) == len(rows) + 1
    assert table[0][:4] == ["file", "runtime", "threads", "batch"]
    assert [table[1][0], table[1][4]] == [plain[0], plain[4]]
    facts: list[dict[str, Any]] = json.loads(copied["JSON"])
    assert [fact["file"] for fact in facts] == [row[0] for row in rows]
    assert facts[0]["p50 µs"] == float(plain[4])
    lines = copied["Markdown"].splitlines()
    assert len(lines) == len(rows) + 2
    assert lines[2].startswith(f"| {rows[0][0]} |")


def test_marks_and_rows_highlight_each_other(chromium: Browser, urls: dict[str, str]) -> None:
    from selenium.webdriver import ActionChains
    from selenium.webdriver.common.by import By

    chromium.open(urls["real"], SIZES["desktop"])
    mark = chromium.driver.find_elements(By.CSS_SELECTOR, "#accuracy-1 .mark")[-1]
    fact = json.loads(mark.get_attribute("data-row"))
    ActionChains(chromium.driver).move_to_element(mark).perform()
    tip = chromium.driver.find_element(By.CSS_SELECTOR, ".tip").text
    assert tip.startswith(f"{fact['file']} on {fact['runtime']}\nbatch 1\n")
    assert "accuracy 99." in tip
    lit = chromium.script(
        "[...document.querySelectorAll('tr.lit')].map(row => [row.closest('section').id,"
        " row.cells[0].textContent, row.cells[1].textContent])"
    )
    assert {tuple(row[1:]) for row in lit} == {(fact["file"], fact["runtime"])}
    # At batch 1: one row of latencies, and the pair in the table of parity.
    assert [row[0] for row in lit].count("latencies-1") == 1
    assert [row[0] for row in lit].count("parity-1") == 1
    mark.click()  # opens the folded table, and shows the row
    row = chromium.driver.find_element(By.CSS_SELECTOR, "#latencies-1 tr.pinned")
    assert row.is_displayed()
    assert chromium.script(
        "(({top, bottom}) => top >= 0 && bottom <= innerHeight)"
        "(document.querySelector('#latencies-1 tr.pinned').getBoundingClientRect())"
    )
    row = chromium.driver.find_element(By.CSS_SELECTOR, "#parity-1 tbody tr:last-child")
    ActionChains(chromium.driver).move_to_element(row).perform()
    marks = chromium.script(
        "[...document.querySelectorAll('.mark.lit')].map(mark => JSON.parse(mark.dataset.row).file)"
    )
    assert set(marks) == {row.text.split()[0]}
    assert len(marks) > 2  # in all three charts
    layer = chromium.driver.find_element(By.CSS_SELECTOR, "#layers1-1 .mark")
    ActionChains(chromium.driver).scroll_to_element(layer).move_to_element(layer).perform()
    assert chromium.script(
        "[...document.querySelectorAll('tr.lit')].map(row => row.cells[0].textContent)"
    ) == ["conv1"]


def test_figures_can_be_selected_and_copied(chromium: Browser, urls: dict[str, str]) -> None:
    chromium.open(urls["real"])
    click(chromium, "#latencies-1 summary")
    run = BenchRun.load(RECORDED[-1])
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
        assert chromium.script(
            "[...document.querySelectorAll('details tbody tr, details li')]"
            ".every(row => row.getBoundingClientRect().height > 0)"
        )
    finally:
        chromium.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_all_flipped_digits_of_the_recorded_results_are_shown(
    chromium: Browser, urls: dict[str, str]
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
