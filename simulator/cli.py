"""Runs a Hydra task as a command line: one clear line and exit status 2 for what the user can mend."""

import os
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import hydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from simulator import __version__, sweep
from simulator.components import CONFIG_DIR, GROUPS, ConfigError, choices
from simulator.config import resolved, to_hydra
from simulator.errors import one_line
from simulator.identity import code_digest, input_digests
from simulator.sweep import Figures

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


# Groups that may choose nothing.
_MAY_BE_NULL = (("experiment", "null"), ("deployment", "null"))
Task = Callable[[DictConfig, Path], Figures | None]
_NOT_A_NAME = re.compile(r"|null|true|false|[-+.\d\[{(].*", re.IGNORECASE)


def run(task: Task, usage: str, config_name: str = "config") -> None:
    """Run a task on the configuration that the command line composes.

    Args:
        task: Called with the configuration and the folder of the run; returns what a sweep shows of it.
        usage: What --help prints.
        config_name: Top-level file in `configs/`.
    """
    arguments = sys.argv[1:]
    if "--help" in arguments or "-h" in arguments:
        print(usage)
        return
    os.environ["HYDRA_FULL_ERROR"] = "1"  # composition errors raise instead of ending in Hydra's own words
    failures: list[str] = []
    try:
        sys.argv[1:] = to_hydra(_known(arguments))
        hydra.main(version_base="1.3", config_path=str(CONFIG_DIR), config_name=config_name)(_job(task, failures))()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)
    except (ValueError, HydraException, OmegaConfBaseException, YAMLError, OSError) as error:
        failures.append(one_line(error))
    failures += sweep.failures
    for failure in failures:
        print(f"error: {failure}", file=sys.stderr)
    if failures:
        sys.exit(2)


def _known(arguments: list[str]) -> list[str]:
    """Return the arguments, options first; refuse what Hydra would answer in several lines or in its own words."""
    options: list[str] = []
    overrides: list[str] = []
    rest = iter(arguments)
    for argument in rest:
        if argument.startswith("-"):
            options += _option(argument, rest)
        else:
            _check_override(argument)
            overrides.append(argument)
    return options + overrides


def _option(argument: str, rest: Iterator[str]) -> list[str]:
    """Return an option and its value, which may be the next argument."""
    flag, equals, value = argument.partition("=")
    if flag not in _FLAGS:
        raise ConfigError(f"{argument} is not an option; allowed are: --help, {', '.join(sorted(_FLAGS))}")
    if not _FLAGS[flag]:
        return [argument]
    if not equals:
        value = next(rest, "")
    if not value:
        raise ConfigError(f"{flag} needs a value")
    if flag in ("--cfg", "-c") and value not in ("job", "hydra", "all"):
        raise ConfigError(f"{flag} {value}: must be one of job, hydra, all")
    return [flag, value]


def _check_override(argument: str) -> None:
    name, equals, value = argument.lstrip("+").partition("=")
    if name.startswith("~"):
        if "." not in name:
            raise ConfigError(f"{argument}: this key cannot be removed; give it a value, key=value")
        return
    if not name or not equals:
        raise ConfigError(f"{argument} is not an override; write key=value, see --help")
    if name == "cluster":
        raise ConfigError(f"{argument}: cluster has keys of its own, cluster.NAME=VALUE, and takes no value itself")
    is_group = name in (*GROUPS, "cluster.router", "cluster.node")
    if is_group and _NOT_A_NAME.fullmatch(value) and (name, value) not in _MAY_BE_NULL:
        raise ConfigError(f"{argument}: {name} must be one of {', '.join(choices(name))}")


def _job(task: Task, failures: list[str]) -> Callable[[DictConfig], None]:
    """Wrap a task for Hydra: what the user can mend is noted; the other jobs of a sweep go on."""

    def job(config: DictConfig) -> None:
        run = HydraConfig.get()
        folder = Path(run.runtime.output_dir)
        if run.mode == RunMode.MULTIRUN:
            about = {
                "overrides": list(map(sweep.as_written, run.overrides.task)),
                "config": resolved(config),
                "inputs": input_digests(config),
                "version": __version__,
                "code": code_digest(),
            }
            sweep.run_job(folder, int(run.job.num), about, lambda: task(config, folder))
            return
        try:
            task(config, folder)
        except (ConfigError, OSError, OmegaConfBaseException) as error:
            _remove_if_empty(folder)
            failures.append(one_line(error))
        except BaseException:
            _remove_if_empty(folder)
            raise

    return job


def _remove_if_empty(folder: Path) -> None:
    """Remove the folder that Hydra made for the run, and those above it, as far as nothing is in them."""
    try:
        while folder != Path.cwd():
            folder.rmdir()
            folder = folder.parent
    except OSError:
        return
