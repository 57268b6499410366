"""`python -m profiling import`: convert published measurements into tables."""

from dataclasses import replace
from pathlib import Path

import click
import pandas as pd

from profiling.importers import aiconfigurator, llmservingsim, vidur
from profiling.options import PATH, output
from profiling.tables import HEADER, Header, write_table

_VIDUR = "FOLDER: has compute/GPU/ORG/MODEL/mlp.csv, or linear/GPU_MODEL.csv."
_SERVING_SIM = "FOLDER: its profiler/perf, which has GPU/MODEL/FORMAT/meta.yaml."


@click.group("import", no_args_is_help=False, help="Convert published measurements into tables.")
def command() -> None:
    """Convert published measurements."""


@command.command("vidur", help=f"Convert Vidur's profiling data. {_VIDUR}")
@click.argument("folder", type=PATH)
@output("Parent of the device folders that are written.")
def import_vidur(folder: Path, output: Path) -> None:
    """Convert Vidur's profiling data."""
    for gpu, family, rows in vidur.tables(folder):
        _write_imported(output, vidur.header(gpu), family, rows)


@command.command("llmservingsim", help=f"Convert LLMServingSim's measurements. {_SERVING_SIM}")
@click.argument("folder", type=PATH)
@output("Parent of the device folders that are written.")
def import_llmservingsim(folder: Path, output: Path) -> None:
    """Convert LLMServingSim's measurements."""
    for header, family, rows in llmservingsim.tables(folder):
        _write_imported(output, header, family, rows)


def _write_imported(output: Path, header: Header, family: str, rows: pd.DataFrame) -> None:
    """Write a table into the folder of its device."""
    folder = output / header.device
    _require_source(folder, header.source)
    header.write(folder)
    write_table(folder, family, rows)
    print(f"{folder}: {len(rows):,} rows of {family}")


def _require_source(folder: Path, source: str) -> None:
    """Check that a folder has no tables of another source.

    Raises:
        ValueError: It has.
    """
    if (folder / HEADER).exists() and (present := Header.read(folder).source) != source:
        raise ValueError(f"{folder} has tables of another source ({present}); choose another --output")


@command.command("aiconfigurator", help="Convert NVIDIA's kernel tables, of aiconfigurator-core or aisimulate.")
@click.option("--system", "name", required=True, help="The package's name of the GPU, such as h200_sxm.")
@click.option("--backend", default="vllm", show_default=True, help="Measured engine.")
@click.option("--version", help="Version of the engine.  [default: the newest]")
@click.option("--repeats", multiple=True, metavar="VERSION ...", help="Versions whose matrix products are repeats.")
@click.option("--systems", type=PATH, help="Folder `systems` of an unpacked wheel.  [default: installed]")
@output("Parent of the device folder that is written.")
@click.argument("more_repeats", nargs=-1, metavar="")
def import_aiconfigurator(
    name: str,
    backend: str,
    version: str | None,
    repeats: tuple[str, ...],
    systems: Path | None,
    output: Path,
    more_repeats: tuple[str, ...],
) -> None:
    """Convert a system of aiconfigurator.

    `--repeats A B` gives A as its option and B as an argument.
    """
    if more_repeats and not repeats:
        raise click.UsageError(f"{more_repeats[0]} is not an argument; see --help")
    system = aiconfigurator.system(name, backend, version, [*repeats, *more_repeats], systems)
    folder = output / system.device
    _require_source(folder, system.header.source)
    versions = {}
    for family, files, rows in aiconfigurator.tables(system):
        kept, reasons = aiconfigurator.drop_doubtful(family, rows, system.header)
        versions[family] = sorted({f"{path.parent.parent.name} {path.parent.name}" for path in files})
        write_table(folder, family, kept)
        print(f"{folder}: {len(kept):,} rows of {family} ({', '.join(versions[family])})")
        for reason in reasons:
            print(f"  {reason}")
    replace(system.header, environment={"versions": versions}).write(folder)
