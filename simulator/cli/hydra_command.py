"""Entry point of the Hydra commands.

Invalid input ends in one line and exit status 2.
"""

import os
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from simulator.cli import sweep, sweep_table
from simulator.cli.folder_lock import LOCK, take
from simulator.cli.sweep import Figures
from simulator.config import (
    CONFIG_DIR,
    VERSION,
    ConfigError,
    allowing,
    check_config_dir,
    check_override,
    code_digest,
    combine_policies,
    input_digests,
    one_line,
    resolved,
    to_hydra,
)
from traces.shared import command_line
from traces.shared.spelling import nearest

# Supported options of Hydra and of sweeps, and whether each takes a value.
_FLAGS = {
    "--multirun": False,
    "--verbose": False,
    "-m": False,
    "--cfg": True,
    "-c": True,
    "--resolve": False,
    "--config-dir": True,
    "-cd": True,
}

Task = Callable[[DictConfig, Path], Figures | None]
# Returns arguments with a launch in them as overrides of a top-level file, and lines for the user.
ReadLaunch = Callable[[Sequence[str], str], tuple[list[str], list[str]]]


def run(
    task: Task,
    usage: str,
    config_name: str = "config",
    *,
    read_launch: ReadLaunch,
    writes: bool = True,
) -> None:
    """Run a task on the configuration that the command line composes.

    Args:
        task: Called with the configuration and the output folder; returns its columns in sweep.csv.
        usage: Text of --help.
        config_name: Top-level file in `configs/`.
        read_launch: Reads the command line of an engine, see `simulator.launch.with_launch`.
        writes: Whether the task writes to the output folder, which is then locked while it runs.
    """
    folders: list[Path] = []
    errors: list[Exception] = []

    def run_arguments(arguments: list[str]) -> int:
        arguments, notes = read_launch(arguments, config_name)
        status = _compose_and_run(_job(task, errors, folders, writes), errors, arguments, config_name)
        for note in notes:
            print(note, file=sys.stderr)
        return status

    command_line.run(
        run_arguments, sys.argv[1:], one_line, lambda: sweep.after_interrupt() or _interrupted_run(folders), usage
    )


def _compose_and_run(
    job: Callable[[DictConfig], None], errors: list[Exception], arguments: list[str], config_name: str
) -> int:
    """Run one job or a sweep and return the exit status.

    The status is 2 if a job of the sweep failed.

    Raises:
        Exception: The error of a single job.
    """
    sweep.failures.clear()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises composition errors instead of printing them
    checked = to_hydra(_check_arguments(arguments))
    sys.argv[1:] = combine_policies(checked) if {"-m", "--multirun"} & {*checked} else checked
    hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name=config_name)(job)()
    if errors:
        raise errors[0]
    for failure in sweep.failures:
        print(f"error: {failure}", file=sys.stderr)
    return 2 if sweep.failures else 0


def _interrupted_run(folders: list[Path]) -> str:
    """Describe what an interrupted run has written."""
    written = [path for folder in folders if folder.is_dir() for path in folder.iterdir() if path.name != LOCK]
    return f"the files in {folders[0]} are complete" if written else "nothing was written"


def _check_arguments(arguments: list[str]) -> list[str]:
    """Return the arguments, options first, and reject invalid ones.

    Hydra would reject them itself, but not in one line.
    """
    options: list[str] = []
    overrides: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument.startswith("-"):
            options += _check_option(argument, rest)
        else:
            check_override(argument)
            overrides.append(argument)
    return options + overrides


def _check_option(argument: str, rest: Iterator[str]) -> list[str]:
    """Return an option and its value, which may be the next argument."""
    flag, equals, value = argument.partition("=")
    if flag not in _FLAGS:
        hint = nearest(flag, ("--help", *_FLAGS))
        raise ConfigError(f"{argument} is not an option; {hint}allowed are: --help, {', '.join(sorted(_FLAGS))}")
    if not _FLAGS[flag]:
        if equals:
            raise ConfigError(f"{argument}: {flag} takes no value")
        if flag == "--verbose":
            os.environ[sweep.VERBOSE_VARIABLE] = "1"
            return []
        return [argument]
    if not equals:
        value = next(rest, "")
    if not value or (not equals and "=" in value and not Path(value).exists()):
        raise ConfigError(f"{flag} needs a value")
    if flag in ("--config-dir", "-cd"):
        check_config_dir(Path(value))
    if flag in ("--cfg", "-c") and value not in ("job", "hydra", "all"):
        raise ConfigError(f"{flag} {value}: must be one of job, hydra, all")
    return [flag, value]


def _job(task: Task, errors: list[Exception], folders: list[Path], writes: bool) -> Callable[[DictConfig], None]:
    """Wrap a task for Hydra and collect its exceptions.

    Hydra would print them itself.
    """

    def job(config: DictConfig) -> None:
        run = HydraConfig.get()
        folder = Path(run.runtime.output_dir)
        if run.mode == RunMode.MULTIRUN:
            about = {
                "overrides": sweep_table.written_overrides(run.overrides.task),
                "config": resolved(config),
                "inputs": input_digests(config),
                "version": VERSION,
                "code": code_digest(),
            }
            sweep.run_job(folder, int(run.job.num), about, lambda: _run_task(task, config, folder))
            return
        try:
            if not writes:
                _run_task(task, config, folder)
                return
            folders.append(folder)
            release = take(folder)
            try:
                _run_task(task, config, folder)
            finally:
                release()
        except Exception as error:
            errors.append(error)
        finally:
            _remove_if_empty(folder)

    return job


def _run_task(task: Task, config: DictConfig, folder: Path) -> Figures | None:
    with allowing(config.allow_targets):
        return task(config, folder)


def _remove_if_empty(folder: Path) -> None:
    """Remove the output folder that Hydra created, if it is empty.

    Its parents are removed as well, as far as they are empty.
    """
    try:
        while folder != Path.cwd():
            folder.rmdir()
            folder = folder.parent
    except OSError:
        return
