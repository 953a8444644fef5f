"""What the report says of each machine, as plain text and tables; a page draws it."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass

from lenet_edge.environment import Environment
from lenet_edge.report.comparison import Change
from lenet_edge.report.rank import latency_s, quantile_of, ranks
from lenet_edge.report.recommend import (
    Candidate,
    Limits,
    NothingFits,
    Recommendation,
    recommend,
    threads,
    us,
)
from lenet_edge.results import BenchRun, Measurement, ParityReport, Skipped

NOTHING = "–"
_MOST_OTHERS = 6


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


@dataclass(frozen=True)
class Machine:
    """All that is said of one machine, in the order it is read."""

    name: str
    run: BenchRun
    advice: Recommendation | NothingFits
    tiles: tuple[tuple[str, str], ...]
    doubts: tuple[str, ...]
    others: Section
    latencies: Section
    parity: Section
    skipped: Section
    facts: Section
    changes: Section | None = None

    @property
    def sections(self) -> list[Section]:
        """All sections, in the order they are read."""
        first = [self.changes] if self.changes else []
        return [*first, self.others, self.parity, self.latencies, self.skipped, self.facts]


def describe(run: BenchRun, limits: Limits) -> Machine:
    """Return what there is to say of one machine.

    Raises:
        DataError: nothing was measured at the batch size of `limits`.
    """
    advice = recommend(run, limits)
    return Machine(
        name=machine_name(run.environment),
        run=run,
        advice=advice,
        tiles=tuple(_tiles(run, advice)),
        doubts=tuple(_doubts(run, advice)),
        others=_others(run, advice),
        latencies=_latencies(run, advice),
        parity=_parity(run.parity),
        skipped=_skipped(run.skipped),
        facts=_facts(run),
    )


def machine_name(machine: Environment) -> str:
    """Return the machine in a few words."""
    inside = [
        "EMULATED" if machine.emulated else None,
        "virtual" if machine.virtualized else None,
        f"in {machine.container}" if machine.container else None,
    ]
    kind = ", ".join(filter(None, inside))
    return f"{machine.machine}{f' ({kind})' if kind else ''}, {machine.cores} cores"


def _tiles(run: BenchRun, advice: Recommendation | NothingFits) -> list[tuple[str, str]]:
    """Give the figures of the choice, each with what it is."""
    if isinstance(advice, NothingFits):
        return []
    one, parity = advice.measurement, advice.parity
    tiles = [
        (us(one.p50_s), f"median at batch {one.batch_size}, ± {100 * one.half_width:.1f}\u00a0%")
    ]
    best = max((m for m in run.measurements if _same(m, one)), key=lambda m: m.images_per_s)
    tiles.append((f"{one.size_bytes:,}", "bytes"))
    if parity.candidate_accuracy is not None:
        tiles.append((f"{100 * parity.candidate_accuracy:.2f} %", _against(parity)))
    else:
        tiles.append((f"{100 * parity.top1_agreement:.2f} %", "the same answer as the reference"))
    tiles.append((f"{best.images_per_s:,.0f}", f"images a second, in batches of {best.batch_size}"))
    return tiles


def _against(parity: ParityReport) -> str:
    drop = parity.accuracy_drop or 0.0
    if drop == 0:
        return "of the test images, as the float model"
    side = "under" if drop > 0 else "over"
    return f"of the test images, {abs(drop):.2f} points {side} the float model"


def _same(one: Measurement, other: Measurement) -> bool:
    def cell(m: Measurement) -> tuple[str, str, int]:
        return m.artifact, m.target, m.num_threads

    return cell(one) == cell(other) and not one.invalid


def _doubts(run: BenchRun, advice: Recommendation | NothingFits) -> list[str]:
    said = list(run.environment.warnings)
    if isinstance(advice, Recommendation):
        said += [f"of the choice itself, {one}" for one in advice.measurement.instability]
    if run.remaining:
        said.append(f"{run.remaining} processes of the plan have not run")
    if not run.paired:
        said.append(
            f"joined from {run.settings['joined']} runs, not measured in turn: intervals are wider"
        )
    return said


def _others(run: BenchRun, advice: Recommendation | NothingFits) -> Section:
    quantile = quantile_of(run)
    if isinstance(advice, NothingFits):
        listed: Sequence[Candidate] = advice.nearest
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


def _latencies(run: BenchRun, advice: Recommendation | NothingFits) -> Section:
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
    if doubtful:
        notes.append(f"Doubtful: {doubtful[0]}" + _more(len(doubtful) - 1))
    if not rows:
        notes = ["These results hold no latencies; add those of: lenet-edge bench --json FILE"]
    table = Table(columns, tuple(rows), 2, tuple(styles)) if rows else None
    return Section("latencies", "All latencies", tuple(notes), table)


def _more(count: int) -> str:
    return f", and {count} cells more." if count > 0 else "."


def _on(one: Measurement) -> str:
    return f"{one.target}, {threads(one)}"


def _us(seconds: float | None) -> str:
    if seconds is None:
        return NOTHING
    value = seconds * 1e6
    return f"{value:,.0f}" if value >= 1000 else f"{value:.1f}" if value >= 1 else f"{value:.3f}"


def _parity(reports: Sequence[ParityReport]) -> Section:
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


def _skipped(skipped: Sequence[Skipped]) -> Section:
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


def _facts(run: BenchRun) -> Section:
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


def with_changes(
    machine: Machine, changes: Sequence[Change], lonely: Sequence[str], base: str
) -> Machine:
    """Return a machine with what became faster, slower or wrong since a base run."""
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
    notes = (f"{total}. Equal: the interval of the ratio contains 1.", *lonely)
    section = Section("changes", f"Change since {base}", notes, table)
    return dataclasses.replace(machine, changes=section)
