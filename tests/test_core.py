"""The compiled core: what chooses it, and that it gives the same bytes as Python."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulator import core, load_config, simulate
from simulator.core import COMPILED, PYTHON, VARIABLE, in_use, sources
from tests.helpers import REPOSITORY

needs_compiled = pytest.mark.skipif(bool(sources.why_not_compiled()), reason=f"core: {sources.why_not_compiled()}")


def run(*arguments: str, choice: str | None = None) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if name != VARIABLE}
    if choice is not None:
        environment[VARIABLE] = choice
    command = [sys.executable, "-m", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, env=environment, capture_output=True, text=True, check=False)


def summary_of(folder: Path, *arguments: str, choice: str | None = None) -> dict[str, object]:
    done = run("simulator", "trace.num_requests=30", f"hydra.run.dir={folder}", *arguments, choice=choice)
    assert done.returncode == 0, done.stderr
    summary: dict[str, object] = json.loads((folder / "summary.json").read_text())
    return summary


def digests(runs: int, seed: int, choice: str) -> list[str]:
    used, *lines = run("tests.core_digests", f"runs={runs}", f"seed={seed}", choice=choice).stdout.split()
    assert used == choice
    assert len(lines) > runs / 2
    return lines


@needs_compiled
def test_the_summary_names_the_core_and_the_rest_has_the_same_bytes(tmp_path: Path) -> None:
    summaries = {choice: summary_of(tmp_path / choice, f"core={choice}") for choice in (PYTHON, COMPILED)}
    for choice, summary in summaries.items():
        assert summary.pop("core") == choice
        assert summary.pop("config")["core"] == choice
    assert summaries[PYTHON] == summaries[COMPILED]
    for name in ("requests.csv", "log.npz"):
        assert (tmp_path / PYTHON / name).read_bytes() == (tmp_path / COMPILED / name).read_bytes()


@needs_compiled
def test_random_runs_have_the_same_bytes_with_both_cores() -> None:
    assert digests(200, 1, PYTHON) == digests(200, 1, COMPILED)


@needs_compiled
@pytest.mark.slow
def test_many_random_runs_have_the_same_bytes_with_both_cores() -> None:
    assert digests(2000, 2, PYTHON) == digests(2000, 2, COMPILED)


@needs_compiled
def test_an_argument_outweighs_the_environment(tmp_path: Path) -> None:
    assert summary_of(tmp_path / "a", "core=compiled", choice=PYTHON)["core"] == COMPILED
    assert summary_of(tmp_path / "b", choice=PYTHON)["core"] == PYTHON
    assert summary_of(tmp_path / "c")["core"] == COMPILED


def test_a_process_has_one_core() -> None:
    other = PYTHON if in_use() == COMPILED else COMPILED
    with pytest.raises(ValueError, match=f"core={other}: "):
        simulate(**load_config("trace.num_requests=5", f"core={other}"))


def test_a_core_of_another_name_is_refused(tmp_path: Path) -> None:
    done = run("simulator", "core=fast", f"hydra.run.dir={tmp_path}")
    assert done.returncode == 2
    assert done.stderr == "error: core must be one of auto, python, compiled; got 'fast'\n"
    done = run("simulator", f"hydra.run.dir={tmp_path}", choice="fast")
    assert done.returncode == 2
    assert done.stderr == f"error: {VARIABLE}=fast: choose one of auto, python, compiled\n"


@needs_compiled
def test_a_changed_source_is_never_run_from_what_was_compiled_before(monkeypatch: pytest.MonkeyPatch) -> None:
    changed = dict.fromkeys(sources.digests(), "another")
    monkeypatch.setattr(sources, "digests", lambda: changed)
    assert sources.why_not_compiled().endswith("has changed since it was compiled; `make core` compiles it again")
    monkeypatch.setattr(core, "why_not_compiled", sources.why_not_compiled)
    assert core._Finder().choose() == PYTHON


def test_each_declared_module_has_a_source() -> None:
    for module in sources.digests():
        assert sources.file_of(module).exists()
