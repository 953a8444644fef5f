"""The tables of the report, as plain text: a page draws them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from lenet_edge.report.comparison import Change
from lenet_edge.report.eligibility import JudgedCell, threads, us
from lenet_edge.report.rank import latency_s, quantile_of, ranks
from lenet_edge.report.recommend import NothingFits, Recommendation
from lenet_edge.results.result_file import BenchRun, Measurement, ParityReport, Skipped

NOTHING = "–"
_MOST_OTHERS, _MOST_DOUBTS = 6, 6


@dataclass(frozen=True)
class Table:
    """Rows of text; the first `text_columns` are words, the others numbers.

    `prose` is the column that holds sentences. `styles` are "", "good", "bad", "doubtful" or
    "chosen", one a row.
    """

    columns: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    text_columns: int = 2
    styles: tuple[str, ...] = ()
    prose: int | None = None

    def style(self, row: int) -> str:
        """Return the style of a row."""
        return self.styles[row] if self.styles else ""


@dataclass(frozen=True)
class Section:
    """A heading and what is below it; `notes` are sentences, `anchor` is what a link names."""

    anchor: str
    title: str
    notes: tuple[str, ...] = ()
    table: Table | None = None


def others_section(run: BenchRun, advice: Recommendation | NothingFits) -> Section:
    """Return the candidates that were not chosen, and why."""
    quantile = quantile_of(run)
    if isinstance(advice, NothingFits):
        listed: Sequence[JudgedCell] = advice.nearest
        title = "Why nothing fits"
    else:
        listed = (*advice.ties, *advice.others)
        title = "Why not another"
    rows = [
        (c.measurement.artifact, c.measurement.target, c.why_not,
         us(latency_s(c.measurement, quantile)), f"{c.measurement.size_bytes:,}",
         percent(None if c.parity is None else c.parity.candidate_accuracy),
         str(c.measurement.num_threads))
        for c in listed[:_MOST_OTHERS]
    ]  # fmt: skip
    more = len(listed) - len(rows)
    notes = [f"{more} more are in the tables below."] if more > 0 else []
    columns = ("file", "runtime", "why not", "latency", "bytes", "accuracy %", "threads")
    table = Table(columns, tuple(rows), 3, prose=2) if rows else None
    return Section("others", title, tuple(notes), table)


def percent(share: float | None) -> str:
    """Return a fraction as a percentage of two decimals."""
    return NOTHING if share is None else f"{100 * share:.2f}"


def latencies_section(run: BenchRun, advice: Recommendation | NothingFits) -> Section:
    """Return every latency that was measured."""
    places = ranks(run)
    chosen = advice.measurement if isinstance(advice, Recommendation) else None
    rows, styles, doubtful = [], [], []
    for one in sorted(run.measurements, key=lambda one: one.key):
        rows.append(
            (one.artifact, one.target, str(one.num_threads), str(one.batch_size),
             _us(one.p50_s), f"{one.half_width:.1%}", _us(one.p90_s), _us(one.p99_s),
             f"{one.images_per_s:,.0f}", f"{one.load_time_s * 1e3:.0f}",
             places.get(one.key, NOTHING))
        )  # fmt: skip
        styles.append("chosen" if one is chosen else "bad" if one.invalid else "")
        said = one.invalid or "; ".join(one.instability)
        if said:
            doubtful.append(f"{one.artifact} on {_on(one)}, batch {one.batch_size}: {said}")
    columns = ("file", "runtime", "threads", "batch", "p50 µs", "±", "p90 µs", "p99 µs",
               "images/s", "load ms", "rank")  # fmt: skip
    notes = [
        "±: half of the 95 % interval of the median, over calls and processes. Rank: among the"
        " cells of that batch and threads; = cannot be told apart."
    ]
    notes += [f"Doubtful: {one}." for one in doubtful[:_MOST_DOUBTS]]
    if len(doubtful) > _MOST_DOUBTS:
        notes.append(f"{len(doubtful) - _MOST_DOUBTS} cells more are doubtful; bench names them.")
    if not rows:
        notes = ["These results hold no latencies; add those of: lenet-edge bench --json FILE"]
    table = Table(columns, tuple(rows), 2, tuple(styles)) if rows else None
    return Section("latencies", "All latencies", tuple(notes), table)


def _on(one: Measurement) -> str:
    return f"{one.target}, {threads(one)}"


def _us(seconds: float | None) -> str:
    if seconds is None:
        return NOTHING
    value = seconds * 1e6
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 1 else f"{value:.3f}"


def parity_section(reports: Sequence[ParityReport]) -> Section:
    """Return whether each file is still right, and what speaks against it."""
    rows, styles, notes = [], [], []
    for one in reports:
        low, high = one.accuracy_interval or (None, None)
        interval = NOTHING if low is None else f"{percent(low)}–{percent(high)}"
        drop = NOTHING if one.accuracy_drop is None else f"{one.accuracy_drop + 0.0:.2f}"
        p = NOTHING if one.mcnemar_p is None else f"{one.mcnemar_p:.3f}"
        rows.append(
            (one.candidate, one.target, one.verdict, percent(one.candidate_accuracy), interval,
             drop, p, percent(one.top1_agreement), f"{len(one.flips):,}",
             f"{one.max_abs_error:.1e}")
        )  # fmt: skip
        styles.append({"pass": "", "fail": "bad"}.get(one.verdict, "doubtful"))
        if one.verdict != "pass":
            why = "; ".join(one.reasons) or "further off than its bounds allow"
            notes.append(f"{one.candidate} on {one.target}, {one.verdict}: {why}.")
        if one.diagnosis:
            notes.append(one.diagnosis)
    columns = ("file", "runtime", "verdict", "accuracy %", "95 % of it", "drop", "p", "agree %",
               "flips", "max error")  # fmt: skip
    if rows:
        against = ", ".join(sorted({one.reference for one in reports}))
        images = ", ".join(f"{n:,}" for n in sorted({one.num_samples for one in reports}))
        notes.insert(
            0,
            f"Held against {against} on {images} images. Drop: percentage points of accuracy lost."
            " p: McNemar's, that a difference as large is chance. Agree: the same answer.",
        )
    else:
        notes = ["These results hold no parity; add those of: lenet-edge verify --json FILE"]
    table = Table(columns, tuple(rows), 3, tuple(styles)) if rows else None
    return Section("parity", "Is each file still right?", tuple(notes), table)


def skipped_section(skipped: Sequence[Skipped]) -> Section:
    """Return what did not run, a row for each target and reason."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for one in skipped:
        reasons.setdefault((one.target, one.reason), []).append(one.artifact or NOTHING)
    rows = [
        (target, ", ".join(dict.fromkeys(files)), reason)
        for (target, reason), files in reasons.items()
    ]
    notes = () if rows else ("Nothing was skipped.",)
    table = Table(("runtime", "files", "reason"), tuple(rows), 3, prose=2) if rows else None
    return Section("skipped", "What was skipped, and why", notes, table)


def facts_section(run: BenchRun) -> Section:
    """Return what the machine is."""
    machine = run.environment
    memory = None if machine.memory_bytes is None else f"{machine.memory_bytes / 2**30:.1f} GiB"
    peaks = ", ".join(
        f"{peak / 1e9:.1f} billion a second on {n} thread{'s' if n > 1 else ''}"
        for n, peak in sorted(run.peak_macs_per_s.items())
    )
    facts = {
        "machine": machine.machine,
        "CPU": machine.cpu,
        "cores": f"{machine.cores} ({machine.architecture})",
        "features": " ".join(machine.cpu_features),
        "float32 multiply-adds": peaks,
        "memory": memory,
        "system": f"{machine.operating_system}, Linux {machine.kernel}",
        "runs in": ", ".join(filter(None, (machine.container, machine.hypervisor))),
        "emulated": machine.emulated,
        "governor": machine.governor,
        "clock": _number(machine.frequency_mhz, "MHz"),
        "temperature": _number(machine.temperature_celsius, "°C"),
        "load at the start": None if machine.load is None else f"{machine.load:.2f}",
        "Python": machine.python,
        "packages": ", ".join(f"{name} {version}" for name, version in machine.packages.items()),
        "measured": run.created_at,
        "commit": run.git_commit,
        "plan": ", ".join(f"{k.replace('_', ' ')} {v}" for k, v in run.settings.items() if v),
    }
    rows = tuple((name, value) for name, value in facts.items() if value)
    return Section("machine", "The machine", (), Table(("", ""), rows, 2, prose=1))


def _number(value: float | None, unit: str) -> str | None:
    return None if value is None else f"{value:,.0f} {unit}"


def changes_section(changes: Sequence[Change], lonely: Sequence[str], base: str) -> Section:
    """Return what became faster, slower or wrong since a base run, cell by cell."""
    styles = {"slower": "bad", "faster": "good", "invalid": "doubtful"}
    rows, marks = [], []
    for one in sorted(changes, key=lambda one: one.base.key):
        accuracy = one.accuracy_change
        rows.append(
            (one.base.artifact, one.base.target, one.verdict, str(one.base.num_threads),
             str(one.base.batch_size), _us(one.base.p50_s), _us(one.new.p50_s),
             f"{one.ratio.value:.3f}", f"{one.ratio.low:.3f}–{one.ratio.high:.3f}",
             NOTHING if accuracy is None else f"{accuracy + 0.0:+.2f}")
        )  # fmt: skip
        marks.append(styles.get(one.verdict, ""))
    verdicts = [one.verdict for one in changes]
    total = ", ".join(
        f"{verdicts.count(kind)} {kind}"
        for kind in ("faster", "slower", "equal", "invalid")
        if kind in verdicts
    )
    columns = ("file", "runtime", "verdict", "threads", "batch", "base µs", "new µs", "ratio",
               "95 % of it", "accuracy, pp")  # fmt: skip
    table = Table(columns, tuple(rows), 3, tuple(marks))
    wrong = [  # however slow a cell became, the table says it
        f"{one.base.artifact} on {_on(one.base)}, batch {one.base.batch_size}: {why}."
        for one in changes
        if (why := one.regression(fail_above=math.inf))
    ]
    equal = "Equal: the 95 % interval of the ratio contains 1."
    return Section("changes", f"Change since {base}", (f"{total}.", equal, *wrong, *lonely), table)
