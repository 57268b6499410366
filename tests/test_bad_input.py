"""Every kind of bad input gives one error line that names it, exit status 2, and no files."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path

import pytest

from simulator.__main__ import main
from simulator.config import load_config
from tests.bad_inputs import make_files
from tests.helpers import REPOSITORY, run_main
from traces.shared.command_line import error_line

HERE = "HERE"  # stands for the folder of the files in a message
TABLE = (REPOSITORY / "tests" / "bad_inputs.txt").read_text()
CASES = [tuple(block.removeprefix("$ ").strip().split("\n")) for block in TABLE.split("\n\n")]
MODULES = {
    "simulator": "simulator.__main__",
    "traces": "traces.__main__",
    "profiling": "profiling.__main__",
    "predict": "simulator.predict",
    "schema": "simulator.schema",
    "llmsim": "simulator.console.command",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bad")
    make_files(folder)
    return folder


@pytest.fixture(autouse=True)
def files_stay_unchanged(files: Path) -> Iterator[None]:
    before = modified_times(files)
    yield
    assert modified_times(files) == before


def modified_times(folder: Path) -> dict[str, float]:
    return {str(path): path.lstat().st_mtime for path in folder.rglob("*")}


@pytest.mark.parametrize(("command", "message"), CASES, ids=[command for command, _ in CASES])
def test_bad_input_gives_one_error_line_and_exit_status_2(
    command: str, message: str, files: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    name, *arguments = shlex.split(command)
    module = import_module(MODULES.get(name, f"simulator.{name}.__main__"))
    assert run_main(module.main, arguments, files, monkeypatch) == 2
    assert capsys.readouterr().err == f"error: {message.replace(HERE, str(files))}\n"


def test_the_table_has_many_distinct_cases() -> None:
    assert len(CASES) > 100
    assert len(set(CASES)) == len(CASES)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["seed=1\n2"], "seed=1 2 is not an override; write key=value, and quote values with special characters"),
        (
            ["seed=\x1b[31m"],
            r"seed=\x1b[31m is not an override; write key=value, and quote values with special characters",
        ),
        (
            ["trace=file", "trace.path='x=1,({ \u00e9\n.csv'"],
            "trace.path: x=1,({ \u00e9 .csv line 3: output_tokens must be an integer of at least 1 and below 2^31, got "
            "'x'; on_error=skip leaves such rows out",
        ),
    ],
)
def test_a_message_stays_one_line_whatever_it_quotes(
    arguments: list[str],
    message: str,
    files: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_main(main, arguments, files, monkeypatch) == 2
    assert capsys.readouterr().err == f"error: {message}\n"


@pytest.mark.parametrize(
    "override", [3, None, "", "=3", "hello", "hydra.run.dir=x", "~seed", "cluster=3", "trace=null"]
)
def test_the_api_refuses_what_the_command_line_refuses(override: str) -> None:
    with pytest.raises(ValueError, match=r"override|is not a key|must be one of|takes no value|cannot be removed"):
        load_config(override)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_permission_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    tmp_path.chmod(0o500)
    assert run_main(main, ["hydra.run.dir=run", "trace.num_requests=3"], tmp_path, monkeypatch) == 2
    assert capsys.readouterr().err.startswith("error: cannot write to")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", folder], capture_output=True, check=False
    )
    if mounted.returncode:
        pytest.skip("file systems cannot be mounted here")
    yield folder
    subprocess.run(["umount", folder], check=True)


def test_a_full_disk_leaves_nothing_half_written(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    run = ["hydra.run.dir=run", "trace=sharegpt"]
    assert run_main(main, [*run, "trace.num_requests=20"], small_disk, monkeypatch) == 0
    before = {path.name: path.read_bytes() for path in (small_disk / "run").iterdir()}
    capsys.readouterr()
    assert run_main(main, [*run, "trace.num_requests=4000"], small_disk, monkeypatch) == 2
    assert capsys.readouterr().err == f"error: cannot write to {small_disk}/run/summary.json: No space left on device\n"
    assert {path.name: path.read_bytes() for path in (small_disk / "run").iterdir()} == before


POLICY = """from simulator.schedulers import Limits
class Mine:
    limits = Limits()
    def schedule(self, replica):
        {body}
"""


def run_policy(body: str, folder: Path, *overrides: str) -> "subprocess.CompletedProcess[str]":
    (folder / "my_policy.py").write_text(POLICY.format(body=body))
    command = [sys.executable, "-m", "simulator", "scheduler._target_=my_policy.Mine", "allow_targets=[my_policy]"]
    command += ["~scheduler.token_budget", "~scheduler.max_num_seqs", "~scheduler.dynamic_chunks"]
    environment = os.environ | {"PYTHONPATH": f"{REPOSITORY}{os.pathsep}{folder}"}
    command += ["trace.num_requests=3", *overrides]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, env=environment, timeout=60)


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (
            "return replica.step",
            "my_policy.py:4: Mine.schedule returned a batch that decides nothing; return None if",
        ),
        (
            "return replica.nothing",
            "my_policy.py:5, in schedule: AttributeError: ",
        ),
        ("replica.admit(0, 0)", "my_policy.py:5: Mine.schedule: request 0 is admitted with 0 tokens; it has "),
        ("replica.preempt(99)", "my_policy.py:5: Mine.schedule: request 99 is preempted and does not run"),
        ("replica.waiting.popleft()", "my_policy.py:5: Mine.schedule: the policy changes the queue itself; only "),
        ("return 5", "my_policy.py:4: Mine.schedule returned 5; return replica.step or None"),
    ],
)
def test_a_fault_of_a_policy_is_one_line_that_names_its_place(body: str, message: str, tmp_path: Path) -> None:
    done = run_policy(body, tmp_path)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {message}")
    assert not (tmp_path / "outputs").exists()


def test_debug_shows_the_traceback_of_an_error(tmp_path: Path) -> None:
    shown = run_policy("return replica.nothing", tmp_path, "debug=true")
    assert "my_policy.py" in shown.stderr
    assert "Traceback" in shown.stderr


def test_an_internal_error_says_so() -> None:
    assert error_line(KeyError("lost")) == ("KeyError: 'lost' (an internal error; debug=true shows where)", 1)
