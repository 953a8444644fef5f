"""The commit of a repository, read without any program that the repository names."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from lenet_edge.results.result_file import BenchRun
from lenet_edge.support.repository import Revision, read_revision

pytestmark = pytest.mark.needs("git")


def git(folder: Path, *words: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    done = subprocess.run([*command, *words], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def read_again(folder: Path) -> Revision | None:
    read_revision.cache_clear()
    return read_revision(folder)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository" / "models"
    folder.mkdir(parents=True)
    git(folder.parent, "init", "-q")
    (folder / "model.c").write_text("int x;\n")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "one")
    return folder


def test_the_commit_and_whether_files_differ_from_it(repository: Path) -> None:
    commit = git(repository, "rev-parse", "--short=12", "HEAD")
    assert read_again(repository) == Revision(commit, False)
    (repository / "untracked").write_text("")
    assert read_again(repository) == Revision(commit, False)
    (repository / "model.c").write_text("int y;\n")
    assert read_again(repository) == Revision(commit, True)
    git(repository, "add", ".")
    assert read_again(repository) == Revision(commit, True)
    worktree = repository.parent.parent / "worktree"
    git(repository, "worktree", "add", "-q", worktree.as_posix())
    assert read_again(worktree) == Revision(commit, False)


def test_no_program_of_a_repository_runs(repository: Path, tmp_path: Path) -> None:
    """Each of these would run in a plain `git status`, of which the last line is the proof."""
    mark = tmp_path / "mark"
    (repository / ".gitattributes").write_text("*.c filter=own\n")
    for name in ("core.fsmonitor", "filter.own.clean", "filter.own.process"):
        git(repository, "config", name, f"touch {mark}; cat")
    hooks = repository.parent / ".git" / "hooks"
    for hook in ("post-index-change", "pre-auto-gc"):
        (hooks / hook).write_text(f"#!/bin/sh\ntouch {mark}\n")
        (hooks / hook).chmod(0o755)
    (repository / "model.c").write_text("int z;\n")
    revision = read_again(repository)
    assert revision is not None
    assert revision.is_dirty
    assert not mark.exists()
    subprocess.run(["git", "status"], cwd=repository, capture_output=True)
    assert mark.exists()


def test_a_run_has_the_commit_of_its_models(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "elsewhere"))
    read_revision.cache_clear()
    run = BenchRun.of_this_machine()
    assert (run.git_commit, run.git_dirty) == (None, None)
    run = run.with_revision_of(repository)
    monkeypatch.delenv("GIT_DIR")
    assert run.git_commit == git(repository, "rev-parse", "--short=12", "HEAD")
    assert run.git_dirty is False
    assert BenchRun.from_json(run.to_json()) == run


def test_neither_git_nor_a_repository_is_needed(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert read_again(tmp_path) is None
    assert read_again(tmp_path / "none") is None
    empty = tmp_path / "empty"
    empty.mkdir()
    git(empty, "init", "-q")
    assert read_again(empty) is None
    monkeypatch.setenv("PATH", str(empty))
    assert read_again(repository) is None
