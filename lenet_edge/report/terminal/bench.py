"""Terminal view of `bench`: latencies of each cell, their ranks and their doubts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median

from rich.console import Group, RenderableType
from rich.text import Text

from lenet_edge.machine.environment import Environment
from lenet_edge.report.rank import ranking_quantile, ranks
from lenet_edge.report.terminal.blocks import (
    delegation_lines,
    doubt_lines,
    group_by_file,
    machine_line,
    skipped_lines,
    verdict_lines,
)
from lenet_edge.report.terminal.counts import count_views
from lenet_edge.report.terminal.cycles import cycle_views
from lenet_edge.report.terminal.layers import layer_views
from lenet_edge.report.terminal.table import TerminalTable, figures, texts
from lenet_edge.results.formatting import (
    MISSING,
    microseconds,
    plain_number,
    plural,
    short_number,
    target_and_threads,
)
from lenet_edge.results.process_samples import MIN_SAMPLES_P99
from lenet_edge.results.result_file import BenchRun, Measurement


def bench_view(run: BenchRun) -> RenderableType:
    """Return the latencies of a run, one block per file and one row per cell, and the counts."""
    if not run.measurements and not run.settings:  # no latency was to be measured
        return Group(
            *count_views(run.instruction_counts),
            *cycle_views(run.cycle_counts),
            *skipped_lines(run.skipped),
        )
    names = "batch", "p50 µs", "±", "p90", "p99", "img/s", "load ms", "rank"
    table = TerminalTable([*texts(""), *figures(*names)])
    rank_by_key = ranks(run)
    for file, cells in group_by_file(run.measurements):
        table.start(file, f"{cells[0].size}{_inputs(cells[0])}")
        for cell in cells:
            table.row(
                _target(cell),
                f"{cell.batch_size}",
                microseconds(cell.p50_s),
                f"{cell.half_width:.1%}",
                microseconds(cell.p90_s),
                microseconds(cell.p99_s),
                short_number(cell.images_per_s),
                f"{cell.load_time_s * 1e3:.0f}",
                rank_by_key.get(cell.key, MISSING),
                style="red" if cell.invalid else None,
            )
    left = f"\n{run.remaining} processes of the plan have not run yet." if run.remaining else ""
    return Group(
        machine_line(run.environment),
        _speed_facts(run.environment),
        table,
        Text(f"\n{_legend(run)}{left}", style="dim"),
        *_shared_ranks(rank_by_key),
        *layer_views(run.layer_times),
        *count_views(run.instruction_counts),
        *cycle_views(run.cycle_counts),
        *delegation_lines(run.measurements),
        *_states(run.measurements),
        *_arenas(run.measurements),
        *doubt_lines(run),
        *verdict_lines(report for report in run.parity if report.verdict == "fail"),
        *skipped_lines(run.skipped),
    )


def _shared_ranks(rank_by_key: Mapping[tuple[str, str, int, int], str]) -> list[Text]:
    """Return a line with the number of ranks that several cells share, if there are any."""
    shared = {(key[2:], rank) for key, rank in rank_by_key.items() if rank[-1] in "=?"}
    if not shared:
        return []
    verb = "is" if len(shared) == 1 else "are"
    text = f"{plural(len(shared), 'rank')} {verb} shared; lenet-edge report names the cells."
    return [Text(text, style="dim")]


def _inputs(cell: Measurement) -> str:
    """Return the source of the inputs, if it is no test images."""
    sources = {"test images": "", "random": ", random inputs"}
    return sources.get(cell.inputs, f", inputs of {cell.inputs}")


def _states(cells: Sequence[Measurement]) -> list[Text]:
    """Return a line for each pair with a state, which says if the calls share it."""
    words = {
        "carried": "the state is carried from call to call",
        "reset": "the state is an input, so that each call begins with the same one",
    }
    lines = {
        f"{cell.artifact} on {cell.target}: {words.get(cell.state, cell.state)}"
        for cell in cells
        if cell.state
    }
    return [Text(line, style="dim") for line in sorted(lines)]


def _target(cell: Measurement) -> str:
    return target_and_threads(cell.target, cell.num_threads)


def _speed_facts(environment: Environment) -> Text:
    """Return a line with the facts of the machine that decide its speed."""
    facts = [
        " ".join(environment.cpu_features),
        f"governor {environment.governor}" if environment.governor else "unknown governor",
        f"{environment.frequency_mhz:.0f} MHz" if environment.frequency_mhz else None,
        f"{environment.temperature_celsius:.0f} °C" if environment.temperature_celsius else None,
    ]
    return Text(", ".join(filter(None, facts)), style="dim")


def _legend(run: BenchRun) -> str:
    figure = {0.5: "p50", 0.9: "p90", 0.99: "p99", None: "img/s"}[ranking_quantile(run)]
    lines = [
        f"±: half-width of the 95 % interval of p50. rank: by {figure}, per batch size; = marks"
        " ties within 10 %, ? cells that may differ by more."
    ]
    processes = [
        process
        for cell in run.measurements
        for process in cell.processes
        if process.calls_per_sample == 1
    ]
    timer = [process.timer_s for process in processes if process.timer_s is not None]
    null = [process.null_s for process in processes if process.null_s is not None]
    if timer and null:
        lines.append(
            f"Each figure includes {median(timer) * 1e6:.2f} µs for the clock. A session that does"
            f" nothing takes {median(null) * 1e6:.2f} µs."
        )
    if any(cell.calls_per_sample > 1 for cell in run.measurements):
        lines.append("Without p90: the calls are too short for the clock, so blocks were timed.")
    few = [cell for cell in run.measurements if cell.p99_s is None and cell.calls_per_sample == 1]
    if few:
        lines.append(
            f"Without p99: {plural(len(few), 'cell')} with fewer than {MIN_SAMPLES_P99} undisturbed"
            " samples. A longer --min-time takes more."
        )
    lines.append(_energy(run.measurements))
    return "\n".join(lines)


def _energy(cells: Sequence[Measurement]) -> str:
    joules = [
        f"{_target(cell)} b{cell.batch_size} {plain_number(cell.energy_j * 1e6)}"
        for cell in cells
        if cell.energy_j is not None
    ]
    if not joules:
        return "Energy: not measured, because this machine has no readable meter."
    covers = {cell.energy_covers for cell in cells} - {None}
    return f"µJ per image ({', '.join(map(str, covers))}): {', '.join(joules)}."


def _arenas(cells: Sequence[Measurement]) -> list[Text]:
    arenas = {
        f"{cell.artifact} on {cell.target}: a tensor arena of {cell.arena_bytes:,} bytes"
        for cell in cells
        if cell.arena_bytes
    }
    return [Text(line, style="dim") for line in sorted(arenas)]
