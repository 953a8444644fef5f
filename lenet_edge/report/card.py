"""Model card: a README.md in the style of Hugging Face, with the metadata that its hub reads.

It states only what the results and the model files hold.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence

from lenet_edge import __version__
from lenet_edge.artifacts.artifact import Artifact, TensorSpec
from lenet_edge.artifacts.head import Head
from lenet_edge.extras import PACKAGES
from lenet_edge.formats import BY_NAME
from lenet_edge.report.card_metadata import (
    CardFile,
    card_metadata,
    classifies_images,
    to_yaml,
    with_mark,
)
from lenet_edge.report.machine_report import MachineReport
from lenet_edge.report.page import load_template
from lenet_edge.report.page_tables import PageTable
from lenet_edge.report.recommend import Recommendation
from lenet_edge.results.enough_images import other_reasons
from lenet_edge.results.formatting import MISSING, microseconds, percent, points
from lenet_edge.results.result_file import Measurement, ParityReport
from lenet_edge.runtimes import find_targets
from lenet_edge.support.printable import make_printable

IMAGE = "image.png"  # in the commands of the card
_MAX_LABELS = 100
_HEADS = {
    Head.LOGITS: "one score per class; softmax turns them into probabilities",
    Head.SOFTMAX: "one probability per class, with the sum 1",
    Head.LOGIT: "one score for two classes: the second one from 0 on",
    Head.SIGMOID: "the probability of the second of two classes",
    Head.SIGMOIDS: "one independent probability per class",
    Head.VALUES: "values, and no classes",
    None: "the file does not say what they mean",
}
_ORIGINS = {
    "said": "stated by the user",
    "read": "stated by the file",
    "inferred": "implied by",
    "tested": "found by a test of the usual rules",
    "assumed": "ASSUMED, because no source states it: check it before use",
}


def render_card(
    machines: Sequence[MachineReport],
    files: Sequence[CardFile],
    title: str,
    license: str | None = None,
) -> str:
    """Return the text of a card.

    Args:
        machines: the report on each machine.
        files: the model files; results of other files are left out.
        title: name of the model.
        license: its license, as the hub names it; None if it is not known.

    Raises:
        MissingPackageError: Jinja2 is not installed.
    """
    by_hash = {file.artifact.sha256: file for file in files}
    reports = [
        (machine, report)
        for machine in machines
        for report in machine.run.parity
        if report.candidate_sha256 in by_hash
    ]
    first = _first(machines, by_hash)
    body = load_template(".md", "card").render(
        title=title,
        machines=machines,
        advised=[machine for machine in machines if _is_advised(machine, by_hash)],
        files=_files(files),
        inputs=_inputs(files),
        outputs=_outputs(files),
        labels=_labels(first.artifact),
        is_classifier=classifies_images(first.artifact),
        facts=_facts(machines, [report for _, report in reports], first),
        verdicts=_verdicts(reports, len(machines)),
        latencies=_latencies(machines, by_hash),
        license=license,
    )
    head = "\n".join(to_yaml(card_metadata(files, first, reports, title, license, len(machines))))
    end = f"Written by lenet-edge {__version__}."
    return with_mark(
        f"---\n{head}\n---\n\n{body.rstrip()}\n\n{_how_to_run(first, machines)}\n{end}"
    )


def _first(machines: Sequence[MachineReport], by_hash: Mapping[str, CardFile]) -> CardFile:
    """Return the file that the commands use: the first recommended one, or else any edge file."""
    for machine in machines:
        if isinstance(machine.advice, Recommendation):
            chosen = by_hash.get(machine.advice.measurement.artifact_sha256)
            if chosen:
                return chosen
    files = list(by_hash.values())
    edge = [file for file in files if BY_NAME[file.artifact.format].role != "checkpoint"]
    return (edge or files)[0]


def _is_advised(machine: MachineReport, by_hash: Mapping[str, CardFile]) -> bool:
    """Return True if a file of the card is recommended, or if each cell was judged and none fits.

    Otherwise the advice is for the author of the results.
    """
    advice = machine.advice
    if isinstance(advice, Recommendation):
        return advice.measurement.artifact_sha256 in by_hash
    return advice.verdict == "fail" and bool(advice.nearest)


def _files(files: Sequence[CardFile]) -> PageTable:
    rows = [
        (file.artifact.name, file.artifact.format, file.artifact.precision,
         file.artifact.size, file.artifact.sha256[:16])
        for file in files
    ]  # fmt: skip
    return PageTable(("file", "format", "precision", "size", "sha256"), tuple(rows), 5)


def _tensor(spec: TensorSpec) -> str:
    sizes = ", ".join("any" if size is None else str(size) for size in spec.shape)
    scale = f", real value = {spec.scale:.6g} * (integer - {spec.zero_point})" if spec.scale else ""
    return f"{spec.name}: {spec.dtype} of shape [{sizes}]{scale}"


def _grouped(texts: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return pairs of file names and text; files with the same text share a line."""
    names: dict[str, list[str]] = {}
    for name, text in texts:
        names.setdefault(text, []).append(name)
    return [(", ".join(group), text) for text, group in names.items()]


def _inputs(files: Sequence[CardFile]) -> list[tuple[str, str]]:
    return _grouped([(file.artifact.name, _input(file.artifact)) for file in files])


def _input(artifact: Artifact) -> str:
    tensors = "; ".join(map(_tensor, artifact.inputs))
    if len(artifact.inputs) != 1 or artifact.inputs[0].image_shape is None:
        return tensors
    rule = artifact.preprocessing
    if rule.origin == "inferred":
        detail = f" {rule.detail or 'the input tensor'}"
    else:
        detail = f" ({rule.detail})" if rule.detail else ""
    # The rule itself names the order BGR.
    order = {"rgb": ", channels in the order RGB", "gray": ", gray"}.get(rule.channels or "", "")
    resize = f", images of another size: {rule.resize}, {rule.filter}" if rule.resize else ""
    return f"{tensors}; takes {rule}{order}{resize}: {_ORIGINS[rule.origin]}{detail}"


def _outputs(files: Sequence[CardFile]) -> list[tuple[str, str]]:
    return _grouped([(file.artifact.name, _output(file.artifact)) for file in files])


def _output(artifact: Artifact) -> str:
    tensors = "; ".join(map(_tensor, artifact.outputs))
    return f"{tensors}; {_HEADS[artifact.stated_head]}" if len(artifact.outputs) == 1 else tensors


def _labels(artifact: Artifact) -> str:
    labels = artifact.labels
    more = len(labels) - _MAX_LABELS
    rest = f" and {more:,} more, which the file contains" if more > 0 else ""
    return f"{', '.join(labels[:_MAX_LABELS])}{rest}"


def _facts(
    machines: Sequence[MachineReport], reports: Sequence[ParityReport], first: CardFile
) -> list[str]:
    """Return the limits of the results, each as a sentence without a full stop."""
    facts = []
    target = _target(first.artifact, machines)
    own = [report for report in reports if report.candidate_sha256 == first.artifact.sha256]
    own.sort(key=lambda report: report.target != target)
    if own and own[0].accuracy_interval:
        low, high = own[0].accuracy_interval
        facts.append(
            f"The accuracy of {own[0].candidate}, measured on {own[0].samples}, is {percent(low)}"
            f" to {percent(high)} % with 95 % confidence for images of the same kind. Nothing was"
            " measured on others"
        )
    labelled = [count for count in own[0].per_class if count.num_samples] if own else []
    if own and own[0].candidate_accuracy != 1 and labelled:
        worst = min(labelled, key=lambda count: count.candidate_right / count.num_samples)
        facts.append(
            f"The class with the lowest accuracy is {worst.name}, with"
            f" {worst.candidate_right:,} of {worst.num_samples:,} images right"
        )
    if first.artifact.preprocessing.is_assumed:
        facts.append(
            f"{first.artifact.name} does not say what it takes. Its input values are assumed, so no"
            " verdict is certain"
        )
    if not reports:
        facts.append("The files were not verified, so nothing is known about their accuracy")
    facts += dict.fromkeys(
        f"{doubt[0].upper()}{doubt[1:]}{_on(machine, machines)}"
        for machine in machines
        for doubt in machine.doubts
    )
    if any(machine.run.measurements for machine in machines):
        facts.append("Latencies apply to the machines below, and to no others")
    return facts


def _on(machine: MachineReport, machines: Sequence[MachineReport]) -> str:
    return f" ({machine.name})" if len(machines) > 1 else ""


def _verdicts(
    reports: Sequence[tuple[MachineReport, ParityReport]], num_machines: int
) -> PageTable | None:
    rows = []
    for machine, report in reports:
        # The limits have one sentence on too few images.
        reasons = "; ".join((*other_reasons(report), *filter(None, [report.diagnosis])))
        where = f"{report.target} on {machine.name}" if num_machines > 1 else report.target
        rows.append(
            (report.candidate, where, report.verdict, reasons or MISSING,
             percent(report.candidate_accuracy), points(report.accuracy_drop),
             percent(report.top1_agreement), f"{report.max_abs_error:.1e}", report.samples)
        )  # fmt: skip
    columns = ("file", "runtime", "verdict", "reasons", "accuracy %", "drop", "agree %",
               "max error", "samples")  # fmt: skip
    return PageTable(columns, tuple(rows), 4) if rows else None


def _latencies(
    machines: Sequence[MachineReport], by_hash: Mapping[str, CardFile]
) -> list[tuple[str, PageTable]]:
    """Return a table for each machine: the latencies at the smallest batch that was measured."""
    tables = []
    for machine in machines:
        cells = [cell for cell in machine.run.measurements if cell.artifact_sha256 in by_hash]
        smallest = min((cell.batch_size for cell in cells), default=None)
        rows = [_latency(cell) for cell in cells if cell.batch_size == smallest]
        columns = ("file", "runtime", "threads", "batch", "median µs", "±", "images/s")
        if rows:
            tables.append((machine.name, PageTable(columns, tuple(rows), 2)))
    return tables


def _latency(cell: Measurement) -> tuple[str, ...]:
    doubt = " (invalid)" if cell.invalid else ""
    return (
        cell.artifact, cell.target, str(cell.num_threads), str(cell.batch_size),
        f"{microseconds(cell.p50_s)}{doubt}", f"{cell.half_width:.1%}", f"{cell.images_per_s:,.0f}",
    )  # fmt: skip


def _how_to_run(first: CardFile, machines: Sequence[MachineReport]) -> str:
    """Return the section with the commands that run the first file in the folder of the card."""
    name = make_printable(first.artifact.name)
    file, target = shlex.quote(name), _target(first.artifact, machines)
    on_target = f" --target {shlex.quote(target)}"
    extra = find_targets(target)[0].extra
    commands = [f"pip install {PACKAGES[extra]}"] if extra else []
    commands.append(f"lenet-edge inspect {file}")
    if classifies_images(first.artifact):
        commands.append(f"lenet-edge predict {IMAGE} --model {file}{on_target}")
    if first.dataset:
        commands.append(f"lenet-edge verify {file}{on_target}")
    commands.append(
        f"lenet-edge bench {file}{on_target} --batch-size {first.artifact.batch_size or 1}"
    )
    lines = ["## How to run", "", "In the folder of this file, with lenet-edge installed:", ""]
    lines += ["```sh", *commands, "```", ""]
    if classifies_images(first.artifact):
        call = f"lenet_edge.predict({IMAGE!r}, model={name!r}, target={target!r})"
        lines += ["```python", "import lenet_edge", "", f"print({call})", "```", ""]
    return "\n".join(lines)


def _target(artifact: Artifact, machines: Sequence[MachineReport]) -> str:
    """Return the target of the recommendation, or else of a result, or of the format."""
    for machine in machines:
        chosen = machine.advice.measurement if isinstance(machine.advice, Recommendation) else None
        if chosen and chosen.artifact_sha256 == artifact.sha256:
            return chosen.target
    for machine in machines:
        for report in sorted(machine.run.parity, key=lambda report: not report.passed):
            if report.candidate_sha256 == artifact.sha256:
                return report.target
    return find_targets(artifact.format)[0].name
