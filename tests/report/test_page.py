"""Report as HTML and Markdown: content, untrusted names, several machines, base runs."""

from __future__ import annotations

import base64
import dataclasses
import hashlib
import re
import tempfile
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from markdown_it import MarkdownIt

from lenet_edge.errors import DataError
from lenet_edge.report import page
from lenet_edge.report.eligibility import Limits
from lenet_edge.results.formatting import error
from lenet_edge.results.result_file import BenchRun, InstructionCount, Skipped
from tests.report.builders import measurement, parity_report
from tests.report.test_join_runs import BENCH, VERIFY
from tests.results.test_result_file import RUNS

ROOT = Path(__file__).parents[2]
RECORDED = [
    path
    for path in sorted((ROOT / "benchmarks" / "results").glob("*/2*.json"))
    if '"measurements"' in path.read_text()
]
FILES = [*RECORDED, *sorted((ROOT / "tests" / "golden").glob("*.json"))]
VOID = {"meta", "link", "br", "img", "path", "use", "hr", "rect"}


class Page(HTMLParser):
    """Parsed page: its text, tags and attributes. Bad nesting raises an AssertionError."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.words: list[str] = []
        self.scripts: list[str] = []
        self.tags: set[str] = set()
        self.attributes: list[tuple[str, str | None]] = []
        self.open: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        if tag not in VOID:
            assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] == "script":
            self.scripts.append(data)
        elif not self.open or self.open[-1] != "style":
            self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


def html(tmp_path: Path, *runs: BenchRun, limits: Limits | None = None) -> str:
    path = tmp_path / "report.html"
    page.write(path, [(f"run-{number}.json", run) for number, run in enumerate(runs)], limits)
    return path.read_text()


def test_recorded_results_exist() -> None:
    assert RECORDED


@pytest.mark.costly
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_every_result_file_gives_a_page_with_its_figures(path: Path, tmp_path: Path) -> None:
    run = BenchRun.load(path)
    text = html(tmp_path, run)
    shown = Page(text)
    assert not shown.tags & {"iframe", "object", "embed", "form"}
    assert_only_own_script(shown)
    for name, value in shown.attributes:
        assert not name.startswith("on")
        if name in ("src", "href", "xlink:href"):
            assert value
            assert value.startswith(("data:", "#"))
    assert not re.search(r"url\((?!#)|@import|https?://", text.replace("http-equiv", ""))
    assert not re.search(r"\d(\.\d+)?e[+-]\d", shown.text)  # no figure has an exponent
    ids = [value for name, value in shown.attributes if name == "id"]
    assert len(ids) == len(set(ids))
    for cell in run.measurements:
        assert f"{cell.images_per_s:,.0f}" in shown.text
    for report in run.parity:
        assert error(report.max_abs_error) in shown.text


def assert_only_own_script(shown: Page) -> None:
    """The page has one script, and its policy allows that script alone."""
    (script,) = shown.scripts
    assert script == (ROOT / "lenet_edge/report/templates/report.js").read_text()
    (policy,) = [value for _, value in shown.attributes if value and "default-src" in value]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert "default-src 'none'" in policy
    assert f"script-src 'sha256-{digest}';" in policy


def test_the_recommendation_comes_first(tmp_path: Path) -> None:
    shown = Page(html(tmp_path, BENCH, VERIFY))
    start = shown.text.index(
        "Ship a.tflite on litert-xnnpack with 1 thread At batch 1 it is the fastest"
    )
    assert start < shown.text.index("Why not another file") < shown.text.index("All latencies")


def test_the_boards_that_a_c_file_fits_on(tmp_path: Path) -> None:
    count = InstructionCount(
        "<a>.c", "a", "cortex-m0", "cortex-m0", 909_325.4, 100,
        flash_bytes={"code": 9_292, "constants": 263_872}, ram_bytes=0, stack_bytes=27_632,
    )  # fmt: skip
    counts = (count, dataclasses.replace(count, cpu="x86-64", flash_bytes=None))
    verified = dataclasses.replace(parity_report("<a>.c"), candidate_sha256="a", target="cortex-m0")
    run = dataclasses.replace(BENCH, instruction_counts=counts, parity=(verified,))
    shown = Page(html(tmp_path, run, VERIFY)).text
    assert "Microcontrollers" in shown
    row = (
        "<a>.c cortex-m0 pass Raspberry Pi Pico Arduino Zero, BBC micro:bit v1 909,325 273,164"
        " 27,632"
    )
    assert row in " ".join(shown.split())
    assert "x86-64" not in shown.partition("Microcontrollers")[2].partition("All latencies")[0]
    assert "Microcontrollers" not in Page(html(tmp_path, BENCH, VERIFY)).text


def test_if_nothing_fits_the_page_names_the_limit(tmp_path: Path) -> None:
    shown = Page(html(tmp_path, BENCH, VERIFY, limits=Limits(max_bytes=10)))
    assert "Nothing to ship" in shown.text
    assert "more than the 10 of --max-bytes" in shown.text


def test_a_page_without_latencies_or_parity_names_the_command_to_run(tmp_path: Path) -> None:
    assert "add the results of: lenet-edge verify --json" in Page(html(tmp_path, BENCH)).text
    assert "add the results of: lenet-edge bench --json" in Page(html(tmp_path, VERIFY)).text
    assert "Nothing was skipped." in Page(html(tmp_path, BENCH)).text


def test_the_limit_is_drawn_only_if_it_was_measured(tmp_path: Path) -> None:
    cells = tuple(measurement("a.tflite", 10 * batch, 300, batch) for batch in (1, 8))
    run = dataclasses.replace(
        BENCH, measurements=cells, macs={"a.tflite": 200_000}, peak_macs_per_s={1: 5e10}
    )
    known = Page(html(tmp_path, run))
    assert known.text.count("limit 4") == 1  # 200,000 / 5e10 s
    assert "An image needs 200,000 multiply-adds" in known.text
    assert "did 50.0 billion per second (1 thread)" in known.text
    unknown = Page(html(tmp_path, dataclasses.replace(run, peak_macs_per_s={})))
    assert "limit 4" not in unknown.text
    assert "No limit is drawn" in unknown.text


HOSTILE = '<script>alert("1")</script>|$x$ [a](b) \n# *b* é漢.tflite'


def hostile() -> BenchRun:
    environment = dataclasses.replace(BENCH.environment, machine=HOSTILE, governor=HOSTILE)
    cells = tuple(measurement(HOSTILE, 10 * batch, 300, batch) for batch in (1, 8))
    failed = dataclasses.replace(
        parity_report("b", passed=False), reasons=(HOSTILE,), diagnosis=HOSTILE
    )
    return dataclasses.replace(
        BENCH, environment=environment, parity=(parity_report(HOSTILE), failed), measurements=cells,
        skipped=(Skipped(HOSTILE, HOSTILE, HOSTILE),), git_commit=HOSTILE,
        settings={HOSTILE: HOSTILE},
    )  # fmt: skip


@pytest.mark.costly
def test_hostile_names_and_reasons_are_shown_as_text(tmp_path: Path) -> None:
    page.write(tmp_path / "report.html", [(HOSTILE, hostile())])
    text = (tmp_path / "report.html").read_text()
    shown = Page(text)
    assert text.count("<script") == 1
    assert_only_own_script(shown)
    assert shown.text.count('<script>alert("1")</script>|$x$ [a](b) # *b* é漢.tflite') > 15


def test_markdown_has_the_same_content_and_escapes_all_names(tmp_path: Path) -> None:
    page.write(tmp_path / "report.md", [(HOSTILE, hostile())])
    markdown = MarkdownIt("commonmark").enable("table")
    shown = Page(markdown.render((tmp_path / "report.md").read_text()))
    assert shown.tags == {"h1", "h2", "p", "ul", "li", "strong", "table", "thead", "tbody", "tr",
                          "th", "td"}  # fmt: skip
    assert shown.text.count('<script>alert("1")</script>|$x$ [a](b) # *b* é漢.tflite') > 15
    page.write(tmp_path / "plain.md", [("bench.json", BENCH), ("verify.json", VERIFY)])
    plain = (tmp_path / "plain.md").read_text()
    assert plain.startswith("# Ship a.tflite on litert-xnnpack with 1 thread\n")
    tables = re.findall(r"(?:^\|.*\n)+", plain, re.MULTILINE)
    assert len(tables) >= 5
    for table in tables:
        assert len({line.count("|") for line in table.splitlines()}) == 1
    for heading in ("Why not another file", "Parity with the reference", "All latencies",
                    "Skipped", "Machine"):  # fmt: skip
        assert f"\n## {heading}\n" in plain


@pytest.mark.costly
def test_each_machine_has_its_own_ranking(tmp_path: Path) -> None:
    pi_environment = dataclasses.replace(
        BENCH.environment, machine="Raspberry Pi 5", virtualized=None
    )
    slow = (measurement("a.tflite", 500, 300), measurement("b.tflite", 400, 300))
    pi = dataclasses.replace(
        BENCH,
        environment=pi_environment,
        measurements=slow,
        parity=(parity_report("a.tflite"), parity_report("b.tflite")),
    )
    shown = Page(html(tmp_path, BENCH, VERIFY, pi))
    assert "What to ship on 2 machines" in shown.text
    assert re.search(r"Raspberry Pi 5[^:]*: Ship b.tflite", shown.text)
    assert shown.text.count("All latencies") == 2


def test_changes_since_a_base_run(tmp_path: Path) -> None:
    slower = tuple(
        measurement(cell.artifact, 1.5e6 * cell.p50_s, 300) for cell in BENCH.measurements[:1]
    )
    new = dataclasses.replace(BENCH, measurements=slower + BENCH.measurements[1:])
    page.write(tmp_path / "r.html", [("new.json", new)], base=("base.json", BENCH))
    shown = Page((tmp_path / "r.html").read_text())
    assert "Change since base.json" in shown.text
    assert "1 slower, 1 equal" in shown.text
    assert "1.500" in shown.text
    base = dataclasses.replace(BENCH, parity=(parity_report("a.tflite"),))
    failed = dataclasses.replace(BENCH, parity=(parity_report("a.tflite", passed=False),))
    page.write(tmp_path / "r.html", [("new.json", failed)], base=("base.json", base))
    assert "batch 1: no longer passes parity." in Page((tmp_path / "r.html").read_text()).text
    other = dataclasses.replace(
        BENCH, environment=dataclasses.replace(BENCH.environment, machine="another")
    )
    with pytest.raises(DataError, match="different machines"):
        page.write(tmp_path / "r.html", [("new.json", new)], base=("base.json", other))


@pytest.mark.costly
@settings(max_examples=10)
@given(RUNS)
def test_any_results_give_a_page(run: BenchRun) -> None:
    with tempfile.TemporaryDirectory() as folder:
        text = html(Path(folder), run)
        Page(text)
        page.write(Path(folder) / "report.md", [("run.json", run)])


@pytest.mark.costly
def test_equal_results_give_equal_pages(tmp_path: Path) -> None:
    assert html(tmp_path, BENCH, VERIFY) == html(tmp_path, BENCH, VERIFY)


def test_other_suffixes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"\.html or \.md"):
        page.write(tmp_path / "report.pdf", [("bench.json", BENCH)])
    assert list(tmp_path.iterdir()) == []
