"""`python -m profiling import`: convert published measurements into tables."""

import argparse
from dataclasses import replace
from pathlib import Path

import pandas as pd

from profiling.importers import aiconfigurator, llmservingsim, vidur
from profiling.tables import HEADER, Header, TableError, write_table


def add_arguments(command: argparse.ArgumentParser) -> None:
    """Add the sources and their arguments."""
    sources = command.add_subparsers(required=True, metavar="SOURCE")
    vidur = sources.add_parser("vidur", help="a folder of Vidur's profiling data")
    vidur.add_argument("folder", type=Path, help="has compute/GPU/ORG/MODEL/mlp.csv, or linear/GPU_MODEL.csv")
    vidur.add_argument("--output", type=Path, required=True, help="parent of the device folders that are written")
    vidur.set_defaults(run=_import_vidur)
    serving_sim = sources.add_parser("llmservingsim", help="a folder of LLMServingSim's profiler/perf")
    serving_sim.add_argument("folder", type=Path, help="has GPU/MODEL/FORMAT/meta.yaml")
    serving_sim.add_argument("--output", type=Path, required=True, help="parent of the device folders that are written")
    serving_sim.set_defaults(run=_import_llmservingsim)
    configurator = sources.add_parser("aiconfigurator", help="kernel tables of aiconfigurator-core or aisimulate")
    configurator.add_argument("--system", required=True, help="the package's name of the GPU, such as h200_sxm")
    configurator.add_argument("--backend", default="vllm", help="measured engine; default: vllm")
    configurator.add_argument("--version", help="version of the engine; default: the newest")
    configurator.add_argument(
        "--repeats", nargs="*", default=[], metavar="VERSION", help="versions whose matrix products are repeats"
    )
    configurator.add_argument("--systems", type=Path, help="folder `systems` of an unpacked wheel; default: installed")
    configurator.add_argument("--output", type=Path, required=True, help="parent of the device folder that is written")
    configurator.set_defaults(run=_import_aiconfigurator)


def _import_vidur(options: argparse.Namespace) -> None:
    for gpu, family, rows in vidur.tables(options.folder):
        _write_imported(options.output, vidur.header(gpu), family, rows)


def _import_llmservingsim(options: argparse.Namespace) -> None:
    for header, family, rows in llmservingsim.tables(options.folder):
        _write_imported(options.output, header, family, rows)


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
        TableError: It has.
    """
    if (folder / HEADER).exists() and (present := Header.read(folder).source) != source:
        raise TableError(f"{folder} has tables of another source ({present}); choose another --output")


def _import_aiconfigurator(options: argparse.Namespace) -> None:
    system = aiconfigurator.system(options.system, options.backend, options.version, options.repeats, options.systems)
    folder = options.output / system.device
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
