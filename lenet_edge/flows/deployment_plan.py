"""The plan of a deployment: the runtimes, wheels and files that fit a board."""

from __future__ import annotations

import time
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lenet_edge.artifacts.artifact import Artifact
from lenet_edge.deploy.bundle import Bundle, make_bundle
from lenet_edge.deploy.replies import BoardFacts
from lenet_edge.deploy.ssh import SshConnection
from lenet_edge.deploy.wheels import System, WheelSet, find_wheels
from lenet_edge.errors import BoardError
from lenet_edge.runtimes import get_deployable, get_target, refusal
from lenet_edge.selection import Pair
from lenet_edge.target import Target

_DAY_S = 86_400
_SPARE_BYTES = 30_000_000  # for results, bytecode, and what the system writes meanwhile


@dataclass(frozen=True)
class DeploymentPlan:
    """The content of a deployment to one board.

    Attributes:
        facts: the facts about the board, from `on_board.describe_board`.
        wheels: the runtimes and their wheels.
        artifacts: the files to deploy.
        bundle: the release.
        left_out: the names of files that the runtimes cannot read: of another format, or too new.
    """

    facts: BoardFacts
    wheels: WheelSet
    artifacts: tuple[Artifact, ...]
    bundle: Bundle
    left_out: tuple[str, ...]

    @property
    def ids(self) -> dict[str, Any]:
        """The identifiers of the release and of the environment on the board."""
        return {"release": self.bundle.id, "environment": self.wheels.id}

    @property
    def is_in_use(self) -> bool:
        """True if the board already uses this release and this environment."""
        return bool(self.facts.in_use == self.ids)

    @property
    def targets(self) -> list[Target]:
        """The targets on which the files are verified and measured, one for each runtime."""
        return _targets(self.wheels)

    @property
    def pairs(self) -> list[Pair]:
        """Each file on each target that reads it."""
        return [
            Pair(artifact, target)
            for artifact in self.artifacts
            for target in self.targets
            if _reads(self.wheels, target, artifact)
        ]


def plan_deployment(
    board: SshConnection,
    artifacts: Sequence[Artifact],
    runtimes: Sequence[str] = (),
    service: bool = False,
    note: Callable[[str], None] = lambda line: None,
) -> DeploymentPlan:
    """Choose what to deploy to a board, from the facts about it; change nothing on the board.

    Args:
        board: the connection to the board.
        artifacts: the files that may be deployed.
        runtimes: names of `runtimes.deployables`; if empty, the best that has a wheel.
        service: whether the board must run services.
        note: called with a line for each download.

    Raises:
        BoardError: the board cannot run lenet-edge, any of the files, or services.
    """
    facts: BoardFacts = board.call("describe_board", BoardFacts)
    system = _check_system(board.host, facts)
    if service and not facts.systemd:
        raise BoardError(
            f"{board.host}: --service needs systemd with services of users, which this board does"
            " not run; leave --service out"
        )
    formats = {artifact.format for artifact in artifacts}
    wheels = find_wheels(system, runtimes, formats, note)
    if system.is_32_bit_arm and not facts.has_numpy:
        raise BoardError(
            f"{board.host}: 32-bit systems need Debian's NumPy; on the board:"
            " sudo apt install python3-numpy"
        )
    readable = tuple(artifact for artifact in artifacts if is_readable(wheels, artifact))
    if not readable:
        raise BoardError(
            f"{board.host}: {' or '.join(wheels.runtimes)}, the choice for {system}, reads none of"
            " the files; export other formats, or name another --runtime"
        )
    bundle = make_bundle(readable, machine=system.machine)
    _check_disk_space(board.host, facts, bundle, wheels)
    left_out = tuple(artifact.name for artifact in artifacts if artifact not in readable)
    return DeploymentPlan(facts, wheels, readable, bundle, left_out)


def is_readable(wheels: WheelSet, artifact: Artifact) -> bool:
    """Tell whether one of the runtimes in the wheels reads a file."""
    return any(_reads(wheels, target, artifact) for target in _targets(wheels))


def _reads(wheels: WheelSet, target: Target, artifact: Artifact) -> bool:
    """Tell whether a target reads a file with the release of its runtime in the wheels."""
    if artifact.format not in target.formats:
        return False
    return refusal(artifact, target, wheels.release(target.runtime)) is None


def _targets(wheels: WheelSet) -> list[Target]:
    return [get_target(get_deployable(name).target) for name in wheels.runtimes]


def _check_system(host: str, facts: BoardFacts) -> System:
    """Return the facts that decide the wheels.

    Raises:
        BoardError: the board cannot be deployed to, as it is.
    """
    if facts.glibc is None:
        raise BoardError(f"{host}: {facts.system} has no glibc, which all wheels need")
    if not facts.writable:
        raise BoardError(
            f"{host}: {facts.home} is read-only; mount it writable"
            " (raspi-config, Performance Options, Overlay File System)"
        )
    offset_s = facts.time_s - time.time()
    if abs(offset_s) > _DAY_S:
        raise BoardError(
            f"{host}: its clock is {abs(offset_s) / _DAY_S:,.0f} days"
            f" {'ahead' if offset_s > 0 else 'behind'}; set it on the board:"
            f" sudo date -s @{time.time():.0f}"
        )
    major, minor, _ = facts.python
    return System(facts.machine, (major, minor), int(facts.glibc.split(".")[1]))


def _check_disk_space(host: str, facts: BoardFacts, bundle: Bundle, wheels: WheelSet) -> None:
    """Check that the board has room for the deployment.

    Raises:
        BoardError: it has not.
    """
    # While the bundle is unpacked, the board holds each file twice.
    needed = _SPARE_BYTES + 2 * sum(map(len, bundle.files.values()))
    if wheels.id not in facts.environments:
        needed += sum(2 * path.stat().st_size + _unpacked_bytes(path) for path in wheels.wheels)
    is_in_use = facts.in_use == {"release": bundle.id, "environment": wheels.id}
    if needed > facts.free_bytes and not is_in_use:
        raise BoardError(
            f"{host}: {needed / 1e6:,.0f} MB are needed and {facts.free_bytes / 1e6:,.0f} MB are"
            " free; delete files on the board"
        )


def _unpacked_bytes(wheel: Path) -> int:
    with zipfile.ZipFile(wheel) as archive:
        return sum(member.file_size for member in archive.infolist())
