"""Cost of a large fleet: python -m benchmarks.fleet [BOARDS] [ROUNDS]

The scheduler, the client and the workers (1,000 by default) are real. One process holds many
workers, each with its own name, connections and folder. Boards receive files, describe themselves,
check and measure as usual. Only their environments and measurements are replayed from a recorded
run, without delay, so that the cost of the fleet itself remains: 25 cells in ROUNDS rounds
(default 4) are 100 processes per board. The results are the seconds, processor time and memory of
each part, the size of the file, and the cost of a report of it.
"""

from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import json
import os
import re
import resource
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.record import EXPORTED, ROOT, keep
from lenet_edge import worker
from lenet_edge.bench import plan
from lenet_edge.bench.peak import peak_macs_per_s
from lenet_edge.bench.timing import measure as measure_cell
from lenet_edge.errors import LenetEdgeError
from lenet_edge.fleet import on_board
from lenet_edge.fleet.connection import connect, connected_boards
from lenet_edge.flows import fleet
from lenet_edge.flows.fleet_session import Choice, open_fleet
from lenet_edge.results.result_file import BenchRun, FleetRun
from lenet_edge.selection import Pair, load_artifacts
from lenet_edge.verify.verify import verify_pair

RECORDED = ROOT / "benchmarks" / "results" / "amd-epyc" / "20261125T010842-ed4129261adc.json"
NUM_CELLS = 25
PROCESSES = 2
_TICKS = os.sysconf("SC_CLK_TCK")


def recorded() -> dict[tuple[str, str, int], dict[str, Any]]:
    """Return the recorded measurement of each cell, with the samples of its first process."""
    run = BenchRun.load(RECORDED)
    cells = [m for m in run.measurements if not m.artifact.endswith(".keras")][:NUM_CELLS]
    return {
        (m.artifact, m.target, m.batch_size): dataclasses.replace(
            m, processes=m.processes[:1]
        ).to_json()
        for m in cells
    }


def host(scheduler: str, folder: str, first: int, count: int) -> None:
    """Run many boards in this process, and replay their measurements."""
    import dask
    from distributed import Worker

    # A worker checks its process and its event loop many times a second, and has a thread for its
    # tasks. Hundreds of workers in one process would spend most of their time on this.
    dask.config.set(
        {
            "distributed.worker.profile.enabled": False,
            "distributed.admin.system-monitor.interval": "1h",
            "distributed.admin.tick.interval": "1h",
        }
    )
    cells = recorded()
    run = BenchRun.load(RECORDED)
    parity = {(report.candidate, report.target): report for report in run.parity}

    def replay(call: worker.Call[Any], python: Path | None = None) -> Any:
        if call.function is peak_macs_per_s:
            return 1e10
        assert call.function is measure_cell, call
        file, target = call.arguments["artifact"], call.arguments["target"]["name"]
        cell = cells[Path(file["path"]).name, target, call.arguments["batch_size"]]
        return {**cell, "artifact_sha256": file["sha256"]}

    def replay_parity(artifact: dict[str, Any], target: dict[str, Any], **settings: Any) -> Any:
        report = parity[Path(artifact["path"]).name, target["name"]].to_json()
        report = {**report, "candidate_sha256": artifact["sha256"]}
        return {"parity": [report], "skipped": []}

    worker.run = replay  # type: ignore[assignment]
    verify_pair.__wrapped__ = replay_parity  # type: ignore[assignment]
    on_board.read_environment = lambda root=ROOT: run.environment  # type: ignore[attr-defined]

    async def serve() -> None:
        executor = ThreadPoolExecutor(1)
        workers = [
            Worker(
                scheduler, name=f"board-{number:04}", nthreads=1, resources={"board": 1},
                host="127.0.0.1", dashboard=False, local_directory=f"{folder}/{number}",
                memory_limit=0, executor=executor,
            )
            for number in range(first, first + count)
        ]  # fmt: skip
        for start in range(0, count, 25):
            await asyncio.gather(*workers[start : start + 25])
        await asyncio.gather(*(worker.finished() for worker in workers))

    asyncio.run(serve())


@contextlib.contextmanager
def simulated(num_boards: int, folder: Path) -> Iterator[tuple[str, dict[str, list[int]]]]:
    """Yield the scheduler's address and the process ids when all boards are connected."""
    with (folder / "log").open("wb") as log:

        def start(*command: str) -> subprocess.Popen[bytes]:
            return subprocess.Popen(
                [sys.executable, "-m", *command],
                stdout=log, stderr=log, cwd=ROOT,
            )  # fmt: skip

        address_file = folder / "scheduler.json"
        processes = [start("distributed.cli.dask_scheduler", "--host", "127.0.0.1", "--port", "0",
                           "--no-dashboard", "--scheduler-file", str(address_file))]  # fmt: skip
        try:
            while not address_file.exists() or not address_file.read_text():
                time.sleep(0.1)
            address = json.loads(address_file.read_text())["address"]
            share = -(-num_boards // PROCESSES)
            for first in range(0, num_boards, share):
                count = min(share, num_boards - first)
                processes.append(
                    start("benchmarks.fleet", "host", address, str(folder), str(first), str(count))
                )
            joined = 0
            while joined < num_boards:
                assert all(process.poll() is None for process in processes), (
                    folder / "log"
                ).read_text()
                time.sleep(1)
                with contextlib.suppress(LenetEdgeError), connect(address) as client:
                    joined = len(connected_boards(client))
            yield (
                address,
                {
                    "scheduler": [processes[0].pid],
                    "workers": [process.pid for process in processes[1:]],
                    "client": [os.getpid()],
                },
            )
        finally:
            for process in processes:
                process.kill()
                process.wait()


def cpu_s(pids: Sequence[int]) -> float:
    """Return the processor time of some processes in seconds."""
    stats = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(fields[11]) + int(fields[12]) for fields in stats) / _TICKS


def peak_bytes(pids: Sequence[int]) -> int:
    """Return the sum of the largest resident memories of some processes."""
    texts = [Path(f"/proc/{pid}/status").read_text() for pid in pids]
    return sum(int(text.split("VmHWM:")[1].split()[0]) * 1024 for text in texts)


def measure(num_boards: int, rounds: int) -> dict[str, Any]:
    """Return the cost of a fleet of that size."""
    keys = recorded()
    files = load_artifacts(sorted({EXPORTED / name for name, *_ in keys}), EXPORTED)
    choice = Choice(files, tuple(sorted({target for _, target, _ in keys})))
    begun = 0.0
    marks: dict[str, float] = {}

    def make_plan(pairs: Sequence[Pair]) -> plan.Plan:
        cells = plan.expand(pairs, sorted({batch for *_, batch in keys}))
        known = (cell for cell in cells if cell.key[:3] in keys)
        return plan.Plan(tuple(known), rounds=rounds)

    lines: Counter[str] = Counter()

    def begin(total: int) -> Any:
        nonlocal begun
        begun = time.monotonic()
        marks.update({f"{name}_cpu_s": cpu_s(of) for name, of in pids.items()})

        def report(line: str) -> None:
            lines["cells" if re.search(r": [\d.,]+ (µs|ms|s)$", line) else "other"] += 1
            if sum(lines.values()) % 1_000 == 0:
                print(f"  {lines['cells']:,} of {total:,}", file=sys.stderr, flush=True)

        return report

    with (
        tempfile.TemporaryDirectory() as name,
        simulated(num_boards, Path(name)) as (address, pids),
    ):
        before = peak_bytes(pids["client"])
        started = time.monotonic()
        with connect(address) as client:
            result = fleet.bench(open_fleet(client, choice), make_plan, False, begin)
        done = time.monotonic()
        cells = lines["cells"]
        assert cells == num_boards * NUM_CELLS * rounds, (lines, result.lost)
        facts: dict[str, Any] = {
            "boards": num_boards,
            "processes": cells,
            "introduction_s": begun - started,
            "seconds": done - begun,
            "processes_per_s": cells / (done - begun),
            **{f"{part}_cpu_us_per_process": 1e6 * (cpu_s(of) - marks[f"{part}_cpu_s"]) / cells
               for part, of in pids.items()},
            "scheduler_peak_bytes": peak_bytes(pids["scheduler"]),
            "workers_peak_bytes": peak_bytes(pids["workers"]),
            "client_start_bytes": before,
            "client_peak_bytes": peak_bytes(pids["client"]),
        }  # fmt: skip
        facts |= _save(result, Path(name) / "fleet.json")
    return facts


def _save(result: FleetRun, path: Path) -> dict[str, Any]:
    started = time.monotonic()
    result.save(path)
    return {
        "file_bytes": path.stat().st_size,
        "save_s": time.monotonic() - started,
        "client_peak_after_save_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
        **_report(path),
    }


def _report(path: Path) -> dict[str, Any]:
    """Return the cost of the page of that file."""
    started = time.monotonic()
    page = str(path.with_suffix(".html"))
    command = [sys.executable, "-m", "lenet_edge", "report", str(path), "--output", page]
    process = subprocess.Popen(command, stdout=sys.stderr)
    # Not the figures at its end: their memory includes that of this process, which it forked from.
    cost = (0.0, 0)
    while process.poll() is None:
        with contextlib.suppress(OSError, IndexError):  # the process may end at any time
            cost = cpu_s([process.pid]), peak_bytes([process.pid])
        time.sleep(0.05)
    assert process.returncode == 0, "lenet-edge report failed"
    cpu, peak = cost
    return {
        "report_s": time.monotonic() - started, "report_cpu_s": cpu, "report_peak_bytes": peak,
    }  # fmt: skip


def main(num_boards: int = 1000, rounds: int = 4) -> None:
    rows = []
    for boards in sorted({min(10, num_boards), min(100, num_boards), num_boards}):
        # One process for each size, so that its memory starts anew.
        command = [sys.executable, "-m", "benchmarks.fleet", "measure", str(boards), str(rounds)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, text=True, cwd=ROOT)
        rows.append(json.loads(done.stdout.splitlines()[-1]))
        print(json.dumps(rows[-1], indent=1), flush=True)
    print(f"Kept in {keep('fleet', {'rows': rows}).relative_to(ROOT)}")


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["host", address, folder, first, count]:
            host(address, folder, int(first), int(count))
        case ["measure", boards, rounds]:
            print(json.dumps(measure(int(boards), int(rounds))))
        case numbers:
            main(*map(int, numbers))
