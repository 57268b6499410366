"""Runs a Hydra task as a command line: one clear line and exit status 2 for what the user can mend."""

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig

from simulator.cli import sweep
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
    input_digests,
    one_line,
    resolved,
    to_hydra,
)
from traces.shared import command_line

# Options of Hydra that make sense here, and whether a value follows.
_FLAGS = {
    "--multirun": False,
    "-m": False,
    "--cfg": True,
    "-c": True,
    "--resolve": False,
    "--config-dir": True,
    "-cd": True,
}

Task = Callable[[DictConfig, Path], Figures | None]


def run(task: Task, usage: str, config_name: str = "config", *, writes: bool = True) -> None:
    """Run a task on the configuration that the command line composes.

    Args:
        task: Called with the configuration and the folder of the run; returns what a sweep shows of it.
        usage: What --help prints.
        config_name: Top-level file in `configs/`.
        writes: Whether it writes into the folder of the run, which is then its own meanwhile.
    """
    folders: list[Path] = []
    mistakes: list[Exception] = []

    def told(arguments: list[str]) -> int | None:
        if "--help" in arguments or "-h" in arguments:
            print(usage)
            return None
        return _compose_and_run(_job(task, mistakes, folders, writes), mistakes, arguments, config_name)

    command_line.run(told, sys.argv[1:], one_line, lambda: sweep.after_interrupt() or _left(folders))


def _compose_and_run(
    job: Callable[[DictConfig], None], mistakes: list[Exception], arguments: list[str], config_name: str
) -> int:
    """Return the exit status: that of the mistakes in jobs, which the others do not stop for."""
    sweep.failures.clear()
    os.environ["HYDRA_FULL_ERROR"] = "1"  # composition errors raise instead of ending in Hydra's own words
    sys.argv[1:] = to_hydra(_known(arguments))
    hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name=config_name)(job)()
    if mistakes:
        raise mistakes[0]
    for failure in sweep.failures:
        print(f"error: {failure}", file=sys.stderr)
    return 2 if sweep.failures else 0


def _left(folders: list[Path]) -> str:
    """Say what an interrupted run has left."""
    written = [path for folder in folders if folder.is_dir() for path in folder.iterdir() if path.name != LOCK]
    return f"the files in {folders[0]} are whole" if written else "nothing was written"


def _known(arguments: list[str]) -> list[str]:
    """Return the arguments, options first; refuse what Hydra would answer in several lines or in its own words."""
    options: list[str] = []
    overrides: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument.startswith("-"):
            options += _option(argument, rest)
        else:
            check_override(argument)
            overrides.append(argument)
    return options + overrides


def _option(argument: str, rest: Iterator[str]) -> list[str]:
    """Return an option and its value, which may be the next argument."""
    flag, equals, value = argument.partition("=")
    if flag not in _FLAGS:
        raise ConfigError(f"{argument} is not an option; allowed are: --help, {', '.join(sorted(_FLAGS))}")
    if not _FLAGS[flag]:
        if equals:
            raise ConfigError(f"{argument}: {flag} takes no value")
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


def _job(task: Task, mistakes: list[Exception], folders: list[Path], writes: bool) -> Callable[[DictConfig], None]:
    """Wrap a task for Hydra, which would tell of an exception in its own words: it is noted instead."""

    def job(config: DictConfig) -> None:
        run = HydraConfig.get()
        folder = Path(run.runtime.output_dir)
        if run.mode == RunMode.MULTIRUN:
            about = {
                "overrides": list(map(sweep.as_written, run.overrides.task)),
                "config": resolved(config),
                "inputs": input_digests(config),
                "version": VERSION,
                "code": code_digest(),
            }
            sweep.run_job(folder, int(run.job.num), about, lambda: _built_and_run(task, config, folder))
            return
        try:
            if not writes:
                _built_and_run(task, config, folder)
                return
            folders.append(folder)
            give_back = take(folder)
            try:
                _built_and_run(task, config, folder)
            finally:
                give_back()
        except Exception as error:
            mistakes.append(error)
        finally:
            _remove_if_empty(folder)

    return job


def _built_and_run(task: Task, config: DictConfig, folder: Path) -> Figures | None:
    with allowing(config.allow_targets):
        return task(config, folder)


def _remove_if_empty(folder: Path) -> None:
    """Remove the folder that Hydra made for the run, and those above it, as far as nothing is in them."""
    try:
        while folder != Path.cwd():
            folder.rmdir()
            folder = folder.parent
    except OSError:
        return
