"""Saving the log of a run, and loading the run again."""

import json
import os
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from simulator.iteration_time import Extent, HostPart, Provenance
from simulator.log import NO_REPLICA, RUN_COLUMNS, FaultSpan, LoggedIterations, StageUse, Stays
from simulator.model import FrontEndTime, Placement
from simulator.output.validation import validate_result
from simulator.results import (
    CACHED_TOKENS,
    LATENCIES,
    REQUEST_COLUMNS,
    FaultResult,
    MetricOptions,
    ReplicaResult,
    RequestEventArrays,
    Result,
)
from traces import Client
from traces.shared.json_file import read_json as parse

LOG, REQUESTS, SUMMARY = "log.npz", "requests.csv", "summary.json"
_FORMAT = 7
# Tables of each replica, one row per iteration, run of iterations or event.
_TABLES = ("end_s", "free_blocks", "runs", "lone_preemptions", "stage_spans")
_EVENTS = ("admissions", "blocks_needed", "prefill_ends", "finishes", "preemptions", "evictions", "residencies")
_ATTRIBUTES = {"residencies": "decode_spans"}  # where the name in the code differs from the file
# Keys of summary.json that reports show.
_SUMMARY_KEYS = (*LATENCIES, "kv_use", "cluster", "replicas", "clients", "config", "warnings", "requests_per_s")
_TIMES = ("arrival_s", "first_scheduled_s", "first_token_s", "completed_s")


class RunError(ValueError):
    """Error in the files of a run.

    The message is one line and names the path.
    """


def write_log(result: Result, path: Path, requests: Path, summary: Path) -> None:
    """Write log.npz, which `load_result` reads besides requests.csv: arrays without pickled objects.

    Args:
        result: The result.
        path: The file.
        requests: The requests.csv of the run, already written.
        summary: The summary.json of the run, already written.

    Raises:
        OSError: The file cannot be written.
    """
    arrays: dict[str, NDArray[Any]] = {"status": result.status.astype(np.int8)}
    tables = [dict(_tables_of(replica)) for replica in result.replicas]
    for name in (*_TABLES, *_EVENTS):
        arrays[name] = np.concatenate([table[name] for table in tables])
        arrays[f"{name}_size"] = np.array([len(table[name]) for table in tables])
    sums = {"requests": _checksum(requests), "summary": _checksum(summary)}
    about = json.dumps({**sums, **_about(result)}, allow_nan=False)
    arrays |= {f"stays_{name}": column for name, column in result.stays.columns.items()}
    arrays["about"] = np.frombuffer(about.encode(), dtype=np.uint8)
    with open(path, "wb") as file:
        np.savez(file, allow_pickle=False, **arrays)


def load_result(folder: Path | str) -> Result:
    """Load a run that `python -m simulator` wrote.

    This is the result of `simulate`, without the batch members.

    Args:
        folder: Folder of the run, with summary.json, requests.csv and log.npz.

    Raises:
        RunError: A file is missing or damaged.
    """
    if not isinstance(folder, str | os.PathLike):
        raise RunError(f"{folder!r} is not the path of a folder")
    folder = Path(folder)
    require_run(folder)
    try:
        with open(folder / LOG, "rb") as content, np.load(content, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        about = json.loads(arrays.pop("about").tobytes().decode())
        if about["format"] != _FORMAT:
            raise RunError(f"{folder / LOG} was written by another version of the simulator: run it again")
        for key, name in (("requests", REQUESTS), ("summary", SUMMARY)):
            if about[key] != _checksum(folder / name):
                raise RunError(f"{folder / name} and {folder / LOG} are not from the same run: run it again")
        result = _result(arrays, about, folder / REQUESTS)
        validate_result(result)
        return result
    except (LookupError, TypeError, ValueError, AttributeError, OSError, EOFError, BadZipFile) as error:
        if isinstance(error, RunError):
            raise
        reason = " ".join(str(error).split())
        raise RunError(f"{folder / LOG} cannot be loaded, run it again ({type(error).__name__}: {reason})") from error


def require_run(folder: Path) -> None:
    """Check that a folder has the files of a run.

    Raises:
        RunError: The folder or a file is missing.
    """
    if not folder.is_dir():
        raise RunError(f"{folder} is not a folder of a run" if folder.exists() else f"there is no folder {folder}")
    for name in (SUMMARY, REQUESTS):
        if not (folder / name).is_file():
            raise RunError(f"{folder} is not a folder of a run: it has no {name}")
    if not (folder / LOG).is_file():
        raise RunError(f"{folder} has no {LOG}: run it again with output.log=true")


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


def _checksum(path: Path) -> int:
    """Return the CRC-32 of a file, enough to tell runs apart."""
    checksum = 0
    with open(path, "rb") as file:
        while part := file.read(1 << 20):
            checksum = zlib.crc32(part, checksum)
    return checksum


def _tables_of(replica: ReplicaResult) -> Iterator[tuple[str, NDArray[Any]]]:
    logged = replica.logged
    spans = logged.stage_spans
    yield "end_s", logged.end_s
    yield "free_blocks", logged.free_blocks
    yield "runs", logged.runs.ravel()
    yield "lone_preemptions", logged.lone_preemptions.ravel()
    yield "stage_spans", np.zeros(0) if spans is None else spans.ravel()
    for name in _EVENTS:
        events = getattr(replica.request_events, _ATTRIBUTES.get(name, name)).ravel()
        small = np.abs(events).max(initial=0) < 2**31
        yield name, events.astype(np.int32) if small else events


def _about(result: Result) -> dict[str, Any]:
    """Return the scalars and texts of a result, as JSON."""
    return {
        "format": _FORMAT,
        "numbered": result.requests["request_id"].dtype.kind == "i",
        "end_s": result.end_s,
        "metrics": asdict(result.metrics),
        "notes": list(result.notes),
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
                "obstacle": replica.stuck_reason,
                "placement": asdict(replica.placement),
                "front_end": asdict(replica.front_end),
                "provenance": None if replica.provenance is None else asdict(replica.provenance),
                "stages": [asdict(stage) for stage in replica.stages],
                "has_spans": replica.logged.stage_spans is not None,
            }
            for replica in result.replicas
        ],
    }


def _result(arrays: Mapping[str, NDArray[Any]], about: Mapping[str, Any], path: Path) -> Result:
    status = arrays["status"].astype(np.int64)
    clients = [Client(**client) for client in about["clients"]]
    requests = _requests(path, [client.name for client in clients])
    if about["numbered"]:
        requests["request_id"] = np.arange(len(status))
    for name in (*_TABLES, *_EVENTS):
        sizes = arrays[f"{name}_size"]
        if len(sizes) != len(about["replicas"]) or (sizes < 0).any() or sizes.sum() != len(arrays[name]):
            raise ValueError(f"{name}: its sizes do not match the replicas")
    parts = {name: np.split(arrays[name], np.cumsum(arrays[f"{name}_size"])[:-1]) for name in (*_TABLES, *_EVENTS)}
    replicas = [
        _replica({name: part[number] for name, part in parts.items()}, replica)
        for number, replica in enumerate(about["replicas"])
    ]
    return Result(
        requests,
        status,
        replicas,
        Stays(**{field.name: arrays[f"stays_{field.name}"] for field in fields(Stays)}),
        MetricOptions(**about["metrics"]),
        end_s=about["end_s"],
        notes=about["notes"],
        clients=clients,
        num_skipped=about["num_skipped"],
        has_prefixes=about["has_prefixes"],
        num_broken_off=about["num_broken_off"],
        faults=FaultResult([FaultSpan(**span) for span in about["faults"]], about["tokens_lost"]),
    )


def _replica(tables: Mapping[str, NDArray[Any]], about: Mapping[str, Any]) -> ReplicaResult:
    placement = Placement(**about["placement"])
    spans = tables["stage_spans"].reshape(-1, placement.pp, 2) if about["has_spans"] else None
    runs, lone = tables["runs"].reshape(-1, len(RUN_COLUMNS)), tables["lone_preemptions"].reshape(-1, 2)
    widths = {"admissions": (-1, 4), "blocks_needed": (-1,), "residencies": (-1, 4)}
    events = {
        _ATTRIBUTES.get(name, name): tables[name].astype(np.int64).reshape(widths.get(name, (-1, 2)))
        for name in _EVENTS
    }
    return ReplicaResult(
        logged=LoggedIterations(tables["end_s"], tables["free_blocks"], runs, lone, spans),
        request_events=RequestEventArrays(**events),
        stages=[StageUse(**stage) for stage in about["stages"]],
        num_blocks=about["num_blocks"],
        caches_prefixes=about["caches_prefixes"],
        members=None,
        stuck_reason=about["obstacle"],
        provenance=_provenance(about["provenance"]),
        placement=placement,
        front_end=FrontEndTime(**about["front_end"]),
    )


def _provenance(about: Mapping[str, Any] | None) -> Provenance | None:
    if about is None:
        return None
    measured, host = about["measured"], about["host"]
    return Provenance(
        source=about["source"],
        measured=None if measured is None else Extent(**measured),
        warnings=about["warnings"],
        host=None if host is None else HostPart(**host),
        beyond=about["beyond"],
        generation=about.get("generation", ""),
    )


def _requests(path: Path, clients: list[str]) -> dict[str, NDArray[Any]]:
    """Read requests.csv into the arrays of `Result.requests`."""
    import pyarrow as pa  # only loading needs it
    from pyarrow import csv

    types = dict.fromkeys(REQUEST_COLUMNS, pa.int64()) | dict.fromkeys(_TIMES, pa.float64())
    types |= dict.fromkeys(("session", "num_retries", "priority", *CACHED_TOKENS), pa.int64())
    types |= {"request_id": pa.string(), "client": pa.string()}
    convert = csv.ConvertOptions(column_types=types, null_values=[""], strings_can_be_null=False)
    read = csv.read_csv(path, parse_options=csv.ParseOptions(newlines_in_values=True), convert_options=convert)
    missing = {**dict.fromkeys(_TIMES, np.nan), "replica": NO_REPLICA, "session": -1}
    table: dict[str, NDArray[Any]] = {}
    for name in read.column_names:
        column = read[name].fill_null(missing[name]) if name in missing else read[name]
        table[name] = column.to_numpy().copy()
    if "client" in table:
        number_of = {name: number for number, name in enumerate(clients)}
        table["client"] = np.array([number_of[name] for name in table["client"]], dtype=np.int64)
    return table
