"""Saving a run in one file, and loading it again."""

import json
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, astuple, fields
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO
from zipfile import BadZipFile, ZipFile

import numpy as np
from numpy.typing import NDArray

from simulator.iteration_time import Extent, HostPart, Provenance
from simulator.log import RUN_COLUMNS, FaultSpan, LoggedIterations, StageUse, Stays
from simulator.model import FrontEndTime, Placement
from simulator.output.validation import validate_result
from simulator.results import LATENCIES, FaultResult, MetricOptions, ReplicaResult, RequestEventArrays, Result
from traces import Client
from traces.shared.json_file import read_json as parse
from traces.shared.warnings import Warning

LOG, SUMMARY = "log.npz", "summary.json"
_FORMAT = 8
_REQUESTS = "requests."  # prefix of the columns of the request table
# Tables of each replica, one row per iteration, run of iterations or event.
_TABLES = ("end_s", "free_blocks", "runs", "lone_preemptions", "stage_spans")
_EVENTS = ("admissions", "blocks_needed", "prefill_ends", "finishes", "preemptions", "evictions", "decode_spans")
# Keys of summary.json that reports show.
_SUMMARY_KEYS = (*LATENCIES, "kv_use", "cluster", "replicas", "clients", "config", "warnings", "requests_per_s")


class RunError(ValueError):
    """Error in the files of a run.

    The message is one line and names the path.
    """


def write_log(result: Result, path: Path) -> None:
    """Write log.npz, which `load_result` reads: arrays without pickled objects.

    Raises:
        OSError: The file cannot be written.
    """
    columns = result.requests
    texts = {name: column.tolist() for name, column in columns.items() if column.dtype.kind in "OU"}
    arrays = {f"{_REQUESTS}{name}": column for name, column in columns.items() if name not in texts}
    arrays["status"] = result.status
    tables = [dict(_tables_of(replica)) for replica in result.replicas]
    for name in (*_TABLES, *_EVENTS):
        arrays[name] = np.concatenate([table[name] for table in tables])
        arrays[f"{name}_size"] = np.array([len(table[name]) for table in tables])
    about = json.dumps(_about(result) | {"texts": texts}, allow_nan=False)
    arrays |= {f"stays_{name}": column for name, column in result.stays.columns.items()}
    arrays["about"] = np.frombuffer(about.encode(), dtype=np.uint8)
    with open(path, "wb") as file:
        np.savez(file, allow_pickle=False, **{name: _small(array) for name, array in arrays.items()})


def load_result(folder: Path | str) -> Result:
    """Load a run that `python -m simulator` wrote.

    This is the result of `simulate`, without the batch members.

    Args:
        folder: Folder of the run; log.npz in it is the only file that is read.

    Raises:
        RunError: The file is missing, damaged, or of another version.
    """
    if not isinstance(folder, str | os.PathLike):
        raise RunError(f"{folder!r} is not the path of a folder")
    path = Path(folder) / LOG
    if not path.is_file():
        raise RunError(_reason_missing(path))
    arrays = _read_arrays(path)
    try:
        about = json.loads(arrays["about"].tobytes()) if "about" in arrays else {}
        if about.get("format") != _FORMAT:
            raise RunError(f"{path} was written by another version of the simulator or another program: run it again")
        result = _result(arrays, about)
        validate_result(result)
        return result
    except RunError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError) as error:
        reason = " ".join(str(error).split())
        raise RunError(f"{path} cannot be loaded, run it again ({type(error).__name__}: {reason})") from error


def _reason_missing(path: Path) -> str:
    folder = path.parent
    if not folder.is_dir():
        return f"{folder} is not a folder of a run" if folder.exists() else f"there is no folder {folder}"
    return f"{folder} has no {LOG}: run it again with output.log=true"


def _read_arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Read the arrays of the file, integers in 64 bits.

    Each is read whole before it is parsed, so that its checksum is known to hold.

    Raises:
        RunError: The file cannot be read, or a checksum does not hold.
    """
    try:
        with open(path, "rb") as content:
            arrays = _arrays_of(content)
    except OSError as error:
        raise RunError(f"{path} cannot be read: {error.strerror}") from error
    # What the reader of zip files raises for damaged ones; RuntimeError: a bit claims that a part is encrypted.
    except (BadZipFile, EOFError, LookupError, RuntimeError, ValueError, zlib.error) as error:
        raise RunError(f"{path} is damaged or not the log of a run: run it again") from error
    return {name: array.astype(np.int64) if array.dtype == np.int32 else array for name, array in arrays.items()}


def _arrays_of(content: BinaryIO) -> dict[str, NDArray[Any]]:
    with ZipFile(content) as file:
        names = file.namelist()
        return {name.removesuffix(".npy"): np.load(BytesIO(file.read(name)), allow_pickle=False) for name in names}


def load_summary(folder: Path | str) -> dict[str, Any]:
    """Return the content of the summary.json of a run.

    Raises:
        RunError: The file is missing or incomplete.
    """
    return read_json(Path(folder) / SUMMARY, *_SUMMARY_KEYS)


def read_json(path: Path, *keys: str) -> dict[str, Any]:
    """Read a JSON object that must have some keys.

    Raises:
        RunError: The file cannot be read, is no JSON object, or lacks a key.
    """
    try:
        content = parse(path)
    except (OSError, ValueError) as error:
        raise RunError(f"{path} cannot be read: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise RunError(f"{path} holds no JSON object")
    missing = [key for key in keys if key not in content]
    if missing:
        raise RunError(f"{path} is incomplete: it has no {missing[0]}")
    return content


def _tables_of(replica: ReplicaResult) -> Iterator[tuple[str, NDArray[Any]]]:
    logged = replica.logged
    spans = logged.stage_spans
    yield "end_s", logged.end_s
    yield "free_blocks", logged.free_blocks
    yield "runs", logged.runs.ravel()
    yield "lone_preemptions", logged.lone_preemptions.ravel()
    yield "stage_spans", np.zeros(0) if spans is None else spans.ravel()
    for name in _EVENTS:
        yield name, getattr(replica.request_events, name).ravel()


def _small(array: NDArray[Any]) -> NDArray[Any]:
    """Return integers in 32 bits if they all fit."""
    fits = array.dtype == np.int64 and -(2**31) <= array.min(initial=0) <= array.max(initial=0) < 2**31
    return array.astype(np.int32) if fits else array


def _about(result: Result) -> dict[str, Any]:
    """Return the scalars and texts of a result, as JSON."""
    return {
        "format": _FORMAT,
        "columns": list(result.requests),
        "end_s": result.end_s,
        "metrics": asdict(result.metrics),
        "notes": [astuple(note) for note in result.notes],
        "clients": [{"name": client.name, "slo": dict(client.slo)} for client in result.clients],
        "num_skipped": result.num_skipped,
        "has_prefixes": result.has_prefixes,
        "num_broken_off": result.num_broken_off,
        "faults": [asdict(span) for span in result.faults.spans],
        "tokens_lost": result.faults.tokens_lost,
        "replicas": [
            {
                "num_blocks": replica.num_blocks,
                "caches_prefixes": replica.caches_prefixes,
                "stuck_reason": replica.stuck_reason,
                "placement": asdict(replica.placement),
                "front_end": asdict(replica.front_end),
                "provenance": _about_times(replica.provenance),
                "stages": [asdict(stage) for stage in replica.stages],
                "has_spans": replica.logged.stage_spans is not None,
            }
            for replica in result.replicas
        ],
    }


def _result(arrays: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> Result:
    for name in (*_TABLES, *_EVENTS):
        if arrays[f"{name}_size"].sum() != len(arrays[name]):
            raise ValueError(f"{name}: its sizes do not match the replicas")
    parts = {name: np.split(arrays[name], np.cumsum(arrays[f"{name}_size"])[:-1]) for name in (*_TABLES, *_EVENTS)}
    replicas = [
        _replica({name: part[number] for name, part in parts.items()}, replica)
        for number, replica in enumerate(about["replicas"])
    ]
    texts = {name: np.array(text, dtype=object) for name, text in about["texts"].items()}
    return Result(
        {name: texts[name] if name in texts else arrays[f"{_REQUESTS}{name}"] for name in about["columns"]},
        arrays["status"],
        replicas,
        Stays(**{field.name: arrays[f"stays_{field.name}"] for field in fields(Stays)}),
        MetricOptions(**about["metrics"]),
        end_s=about["end_s"],
        notes=[Warning(*note) for note in about["notes"]],
        clients=[Client(**client) for client in about["clients"]],
        num_skipped=about["num_skipped"],
        has_prefixes=about["has_prefixes"],
        num_broken_off=about["num_broken_off"],
        faults=FaultResult([FaultSpan(**span) for span in about["faults"]], about["tokens_lost"]),
    )


def _replica(tables: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> ReplicaResult:
    placement = Placement(**about["placement"])
    spans = tables["stage_spans"].reshape(-1, placement.pp, 2) if about["has_spans"] else None
    runs, lone = tables["runs"].reshape(-1, len(RUN_COLUMNS)), tables["lone_preemptions"].reshape(-1, 2)
    widths = {"admissions": (-1, 4), "blocks_needed": (-1,), "decode_spans": (-1, 4)}
    events = {name: tables[name].reshape(widths.get(name, (-1, 2))) for name in _EVENTS}
    return ReplicaResult(
        logged=LoggedIterations(tables["end_s"], tables["free_blocks"].astype(np.int32), runs, lone, spans),
        request_events=RequestEventArrays(**events),
        stages=[StageUse(**stage) for stage in about["stages"]],
        num_blocks=about["num_blocks"],
        caches_prefixes=about["caches_prefixes"],
        members=None,
        stuck_reason=about["stuck_reason"],
        provenance=_provenance(about["provenance"]),
        placement=placement,
        front_end=FrontEndTime(**about["front_end"]),
    )


def _about_times(provenance: Provenance | None) -> dict[str, Any] | None:
    if provenance is None:
        return None
    return asdict(provenance) | {"warnings": [astuple(warning) for warning in provenance.warnings]}


def _provenance(about: Mapping[str, Any] | None) -> Provenance | None:
    if about is None:
        return None
    measured, host = about["measured"], about["host"]
    parts = {
        "measured": None if measured is None else Extent(**measured),
        "warnings": [Warning(*warning) for warning in about["warnings"]],
        "host": None if host is None else HostPart(**host),
    }
    return Provenance(**{**about, **parts})
