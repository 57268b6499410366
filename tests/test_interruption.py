"""Ctrl-C, SIGTERM and SIGKILL at any moment: all processes end within a second, and no file is partial."""

import errno
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from simulator import load_result
from simulator.cli.folder_lock import LOCK, FolderTakenError, take
from tests.helpers import REPOSITORY, write_run
from traces.shared.atomic_files import atomic_file, replacing_together

LONG = ["trace=sharegpt", "trace.num_requests=400000", "arrival.qps=2", "hydra.run.dir=run"]
# One second, and a margin for a busy machine.
END_LIMIT_S = 2.0
STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143}


def start(folder: Path, *arguments: str, module: str = "simulator") -> subprocess.Popen[str]:
    return popen(folder, [sys.executable, "-m", module, *arguments])


def popen(folder: Path, command: Sequence[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command,
        cwd=folder,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        # A shell starts background jobs with interrupts ignored, and the job would pass that on.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        start_new_session=True,
    )


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert process.poll() is None, process.communicate()
        assert time.monotonic() < deadline
        time.sleep(0.02)


def interrupt(process: subprocess.Popen[str], number: signal.Signals) -> str:
    """Send a signal, check how the process ends, and return its only error line."""
    begin_s = time.monotonic()
    process.send_signal(number)
    _, stderr = process.communicate(timeout=60)
    took_s = time.monotonic() - begin_s
    assert process.returncode == STATUS[number], stderr
    assert took_s < END_LIMIT_S
    lines = stderr.splitlines()
    assert [line for line in lines if line.startswith("interrupted")] == lines
    assert len(lines) == 1
    while group_of(process):  # child processes may end a little later
        assert time.monotonic() < begin_s + END_LIMIT_S
        time.sleep(0.02)
    return lines[0]


def group_of(process: subprocess.Popen[str]) -> list[int]:
    """Return the running processes in the session of a process, without the process itself."""
    pids = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            fields = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if int(fields[3]) == process.pid and fields[0] != "Z" and int(path.parent.name) != process.pid:
            pids.append(int(path.parent.name))
    return pids


@pytest.mark.parametrize("number", STATUS, ids=lambda number: number.name)
@pytest.mark.parametrize("after_s", [0.15, 0.4])
def test_a_command_reports_an_interrupt_while_it_loads(number: signal.Signals, after_s: float, tmp_path: Path) -> None:
    process = start(tmp_path, *LONG)
    time.sleep(after_s)
    assert interrupt(process, number).startswith("interrupted")
    assert not list(tmp_path.rglob("*.*"))


@pytest.mark.parametrize("number", STATUS, ids=lambda number: number.name)
def test_an_interrupted_run_leaves_no_files(number: signal.Signals, tmp_path: Path) -> None:
    process = start(tmp_path, *LONG)
    wait_for((tmp_path / "run" / LOCK).exists, process)
    time.sleep(1.0)
    assert interrupt(process, number) == "interrupted: nothing was written"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", STATUS, ids=lambda number: number.name)
def test_an_interrupted_run_leaves_the_files_of_an_earlier_run_unchanged(
    number: signal.Signals, tmp_path: Path
) -> None:
    write_run(tmp_path / "run", "trace.num_requests=5")
    before = {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()}
    process = start(tmp_path, *LONG)
    wait_for((tmp_path / "run" / LOCK).exists, process)
    time.sleep(0.5)
    assert interrupt(process, number) == f"interrupted: the files in {tmp_path}/run are complete"
    assert {path.name: path.read_bytes() for path in (tmp_path / "run").iterdir()} == before


SWEEP = ["-m", "seed=1,2,3,4,5,6", "trace=sharegpt", "trace.num_requests=3000", "hydra.sweep.dir=sweep"]
JOBLIB = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]


@pytest.mark.slow
@pytest.mark.parametrize("launcher", [[], JOBLIB], ids=["basic", "joblib"])
def test_an_interrupted_sweep_reports_finished_jobs_and_resumes(launcher: list[str], tmp_path: Path) -> None:
    if launcher:
        pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    process = start(tmp_path, *SWEEP, *launcher)
    wait_for(lambda: list(tmp_path.glob("sweep/*/job.json")), process)
    line = interrupt(process, signal.SIGTERM)
    num_done = len(list(tmp_path.glob("sweep/*/job.json")))
    assert 1 <= num_done < 6
    left = "jobs are done in sweep/sweep.csv; rerun with hydra.sweep.dir=sweep to run the rest"
    assert line == f"interrupted: {num_done} of 6 {left}"
    assert len((tmp_path / "sweep" / "sweep.csv").read_text().splitlines()) == 1 + num_done
    assert not list(tmp_path.rglob("*.partial"))
    rest, stderr = start(tmp_path, *SWEEP, *launcher).communicate(timeout=120)
    assert stderr == ""
    whole, _ = start(tmp_path, *SWEEP[:-1], "hydra.sweep.dir=whole").communicate(timeout=120)
    assert "6 jobs, 0 failed" in rest
    assert "6 jobs, 0 failed" in whole
    assert content_of(tmp_path / "sweep") == content_of(tmp_path / "whole")


def content_of(folder: Path) -> dict[str, bytes]:
    """Return the content of the files of a sweep, without the one that holds the name of the folder."""
    paths = [path for path in folder.rglob("*") if path.is_file() and path.name != "multirun.yaml"]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in paths}


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_jobs_end_when_their_sweep_is_killed(tmp_path: Path) -> None:
    pytest.importorskip("hydra_plugins.hydra_joblib_launcher")
    process = start(tmp_path, *SWEEP, *JOBLIB)
    wait_for(lambda: list(tmp_path.glob("sweep/*/job.json")), process)
    process.kill()
    process.communicate(timeout=20)  # until all processes that could write there have ended
    rest, _ = start(tmp_path, *SWEEP, *JOBLIB).communicate(timeout=120)
    assert "6 jobs, 0 failed" in rest


SWALLOWING_SCRIPT = """
import subprocess, sys, time
from pathlib import Path
from traces.shared import command_line
from traces.shared.atomic_files import atomic_file

def task(arguments):
    subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    with atomic_file(Path("file.txt")) as file:
        file.write("half")
        file.flush()
        while True:
            try:
                print("swallowing", flush=True)
                time.sleep(60)
            except BaseException:
                pass

command_line.run(task, [])
"""


@pytest.mark.parametrize("number", STATUS, ids=lambda number: number.name)
def test_code_that_swallows_exceptions_cannot_delay_an_interrupt(number: signal.Signals, tmp_path: Path) -> None:
    # Its output ends when the process that it started has ended, too.
    process = popen(tmp_path, [sys.executable, "-c", SWALLOWING_SCRIPT])
    assert process.stdout is not None
    assert process.stdout.readline() == "swallowing\n"
    assert len(list(tmp_path.glob(".file.txt.*.partial"))) == 1
    assert interrupt(process, number) == "interrupted"
    assert not list(tmp_path.iterdir())


def test_a_command_needs_no_signal_or_module_that_windows_lacks(tmp_path: Path) -> None:
    script = """
import runpy, signal, sys
for name in ("SIGALRM", "SIGHUP", "SIGKILL", "SIGQUIT", "alarm", "setitimer", "pthread_kill", "pthread_sigmask"):
    delattr(signal, name)
sys.modules.update(dict.fromkeys(["grp", "pwd", "resource", "syslog", "termios", "tty"]))
sys.argv[1:] = ["trace.num_requests=2", "output.timeline=true", "hydra.run.dir=run"]
runpy.run_module("simulator", run_name="__main__", alter_sys=True)
"""
    _, stderr = popen(tmp_path, [sys.executable, "-c", script]).communicate(timeout=60)
    assert stderr == ""
    names = ["log.npz", "requests.csv", "summary.json", "timeline.perfetto-trace"]
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == names


def test_only_one_run_at_a_time_writes_into_a_folder(tmp_path: Path) -> None:
    first = start(tmp_path, *LONG)
    wait_for((tmp_path / "run" / LOCK).exists, first)
    _, stderr = start(tmp_path, "trace.num_requests=5", "hydra.run.dir=run").communicate(timeout=60)
    assert stderr.startswith(f"error: {tmp_path}/run is in use by process {first.pid} on ")
    assert len(stderr.splitlines()) == 1
    first.kill()
    first.communicate()
    _, stderr = start(tmp_path, "trace.num_requests=5", "hydra.run.dir=run").communicate(timeout=60)
    assert stderr == ""
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["log.npz", "requests.csv", "summary.json"]
    load_result(tmp_path / "run")


def test_a_folder_can_be_taken_again_after_its_release(tmp_path: Path) -> None:
    release = take(tmp_path)
    with pytest.raises(FolderTakenError, match="is in use by process"):
        take(tmp_path)
    release()
    take(tmp_path)()
    assert not list(tmp_path.iterdir())


def test_a_waiting_process_does_not_erase_the_name_of_the_owner(tmp_path: Path) -> None:
    release = take(tmp_path)
    for _ in range(2):
        with pytest.raises(FolderTakenError, match=f"^{tmp_path} is in use by process {os.getpid()} on "):
            take(tmp_path)
    release()


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.ENOLCK])
def test_a_file_system_without_locks_is_written_to_and_named(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def no_lock(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr("fcntl.flock", no_lock)
    release = take(tmp_path)
    assert capsys.readouterr().err == f"warning: {tmp_path} cannot be locked here: do not write to it twice at a time\n"
    release()
    assert not list(tmp_path.iterdir())


def test_an_error_of_the_lock_itself_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(OSError, match="Input/output error"):
        take(tmp_path)


def test_files_that_belong_together_are_replaced_together(tmp_path: Path) -> None:
    paths = [tmp_path / "a", tmp_path / "b", tmp_path / "summary"]
    for path in paths:
        path.write_text("old")

    def fail_half_way() -> None:
        with replacing_together(paths) as partials:
            partials[0].write_text("new")
            raise ValueError("half way")

    def put_a_folder_at_a_target() -> None:
        with replacing_together(paths) as partials:
            for partial in partials:
                partial.write_text("new")
            paths[1].unlink()
            paths[1].mkdir()

    with pytest.raises(ValueError, match="half way"):
        fail_half_way()
    assert [path.read_text() for path in paths] == ["old"] * 3
    # The second file cannot be replaced: the last one, which marks the set as complete, is removed.
    with pytest.raises(OSError, match="b"):
        put_a_folder_at_a_target()
    assert paths[0].read_text() == "new"
    assert not paths[2].exists()
    assert not list(tmp_path.glob(".*"))


def test_stale_files_are_removed_with_the_old_mark_and_stay_on_an_error(tmp_path: Path) -> None:
    paths, stale = [tmp_path / "a", tmp_path / "summary"], tmp_path / "stale"
    for path in (*paths, stale):
        path.write_text("old")

    def fail_half_way() -> None:
        with replacing_together(paths, [stale]):
            raise ValueError("half way")

    def cannot_replace_the_first() -> None:
        with replacing_together(paths, [stale]) as partials:
            for partial in partials:
                partial.write_text("new")
            paths[0].unlink()
            paths[0].mkdir()

    with pytest.raises(ValueError, match="half way"):
        fail_half_way()
    assert [path.read_text() for path in (*paths, stale)] == ["old"] * 3
    with pytest.raises(OSError, match="a"):
        cannot_replace_the_first()
    assert not stale.exists()  # never beside a new set that is complete
    assert not paths[1].exists()


def test_partial_files_of_a_killed_process_are_removed(tmp_path: Path) -> None:
    host = socket.gethostname()
    (tmp_path / f".file.txt.{host}.999999999.partial").write_text("half")
    others = [f".file.txt.{host}.{os.getppid()}.partial", ".file.txt.elsewhere.999999999.partial"]
    for name in others:
        (tmp_path / name).write_text("of another process that goes on")
    with atomic_file(tmp_path / "file.txt") as file:
        file.write("whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted([*others, "file.txt"])


def test_a_closed_output_pipe_is_not_an_error(tmp_path: Path) -> None:
    command = f"{sys.executable} -m simulator --help | head -c 10"
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(REPOSITORY)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stderr == ""


@pytest.mark.parametrize("module", ["simulator", "simulator.capacity", "traces"])
def test_a_package_that_is_not_installed_is_one_line(tmp_path: Path, module: str) -> None:
    for package in ("omegaconf", "rich"):
        (tmp_path / f"{package}.py").write_text(f"raise ModuleNotFoundError('none', name='{package}')\n")
    environment = os.environ | {"PYTHONPATH": f"{tmp_path}{os.pathsep}{REPOSITORY}"}
    command = [sys.executable, "-m", module, "describe"]
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert re.fullmatch(r"error: (omegaconf|rich) is not installed: pip install -e \. installs what is needed", line)
