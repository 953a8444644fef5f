"""Writing of a model file, with its contract inside and its manifest beside it."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from types import MappingProxyType
from typing import Any

from lenet_edge.artifacts.artifact import (
    Artifact,
    announce,
    contract,
    describe_file,
    write_manifest,
)
from lenet_edge.errors import ModelFileError, TargetError
from lenet_edge.export.embed import embed
from lenet_edge.formats import BY_NAME
from lenet_edge.runtimes import get_target, open_session
from lenet_edge.support.files import atomic_write
from lenet_edge.target import Session


def write_artifact(
    path: Path, content: bytes, parts: Mapping[str, bytes] = MappingProxyType({}), **facts: Any
) -> Artifact:
    """Write a model file with its contract inside and its manifest beside it.

    Args:
        path: the path of the file.
        content: the file as its converter made it.
        parts: the content of its further files, by their suffix.
        facts: fields of `Artifact`. Without "inputs" and "outputs", a runtime opens the file and
            reads them.

    Raises:
        ModelFileError: the runtime cannot open the file.
        LenetEdgeError: the folder cannot be written to.
    """
    with atomic_write(path) as temporary, _parts_beside(temporary, path, parts):
        temporary.write_bytes(content)
        draft = describe_file(temporary, **{"inputs": (), "outputs": (), **facts})
        if "inputs" not in facts:
            try:
                with closing(open_artifact(draft)) as session:
                    facts["inputs"], facts["outputs"] = session.input_specs, session.output_specs
            except TargetError as error:
                reason = str(error).replace(str(temporary), path.name)
                raise ModelFileError(f"{reason}; leave out {facts['precision']}") from error
        draft = dataclasses.replace(draft, inputs=facts["inputs"], outputs=facts["outputs"])
        named = tuple(
            dataclasses.replace(part, name=path.with_suffix(Path(part.name).suffix).name)
            for part in draft.parts
        )
        draft = dataclasses.replace(draft, parts=named)
        temporary.write_bytes(embed(content, draft.format, contract(draft)))
        artifact = dataclasses.replace(describe_file(temporary, **facts), path=path, parts=named)
        announce(artifact)
    write_manifest(artifact)
    return artifact


@contextlib.contextmanager
def _parts_beside(temporary: Path, path: Path, parts: Mapping[str, bytes]) -> Iterator[None]:
    """Keep the parts of a model beside its temporary file, and write them when the block ends.

    They replace the old parts before the model file replaces the old one. Between the two steps
    the hashes in the manifest do not match, so no command uses a mixture.
    """
    drafts = [temporary.with_suffix(suffix) for suffix in parts]
    try:
        for draft, content in zip(drafts, parts.values(), strict=True):
            draft.write_bytes(content)
        yield
        for suffix, content in parts.items():
            with atomic_write(path.with_suffix(suffix)) as part:
                part.write_bytes(content)
    finally:
        for draft in drafts:
            draft.unlink(missing_ok=True)


def open_artifact(artifact: Artifact) -> Session:
    """Open a file with the target that its format names for `export`."""
    target = BY_NAME[artifact.format].opened_by
    assert target
    return open_session(artifact, get_target(target))
