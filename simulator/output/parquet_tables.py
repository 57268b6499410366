"""Tables of a run as Parquet files that describe their columns."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from simulator.log import StayEnd
from simulator.results import Result
from simulator.shipped import VERSION

FORMAT = 1  # grows when a column changes its name, type, unit or meaning; not when one is added


class Column(NamedTuple):
    """Description of a column.

    Attributes:
        kind: Arrow type.
        unit: Unit; empty: none.
        meaning: What it holds.
        is_index: Whether a negative number means that there is none, which becomes null.
    """

    kind: Any
    unit: str
    meaning: str
    is_index: bool = False


Columns = Mapping[str, Column]
_TEXT, _INT, _FLOAT, _FLAG = pa.string(), pa.int64(), pa.float64(), pa.bool_()

REQUESTS: Columns = {
    "request_id": Column(_TEXT, "", "identifier in the trace, else the number of the row from 0"),
    "arrival_s": Column(_FLOAT, "s", "arrival; a result of the run for requests that wait for others"),
    "prompt_tokens": Column(_INT, "tokens", "prompt tokens"),
    "output_tokens": Column(_INT, "tokens", "output tokens that it was to emit; vLLM V1 cuts an output to what fits"),
    "first_scheduled_s": Column(_FLOAT, "s", "when the scheduler first took it"),
    "first_token_s": Column(_FLOAT, "s", "when it emitted its first token"),
    "completed_s": Column(_FLOAT, "s", "when it emitted its last token"),
    "num_preemptions": Column(_INT, "", "number of preemptions"),
    "ignored": Column(_FLAG, "", "whether it was refused because it is longer than the engine admits"),
    "replica": Column(_INT, "", "number of its replica", is_index=True),
    "session": Column(_INT, "", "number of its session, if the trace has sessions", is_index=True),
    "client": Column(_TEXT, "", "name of its client class, if the trace has classes"),
    "priority": Column(_INT, "", "priority, if the trace has priorities; smaller values go first"),
    "num_retries": Column(_INT, "", "how often it was sent again, if faults are configured"),
    "cached_tokens": Column(_INT, "tokens", "prefix cache hit at the first admission, if there is a prefix cache"),
    "cached_tokens_readmissions": Column(_INT, "tokens", "prefix cache hits at later admissions"),
}
ITERATIONS: Columns = {
    "replica": Column(_INT, "", "number of the replica"),
    "iteration": Column(_INT, "", "number of the batch at its replica, from 0, in the order of formation"),
    "schedule_s": Column(_FLOAT, "s", "when the scheduler formed the batch"),
    "start_s": Column(_FLOAT, "s", "start in the first pipeline stage"),
    "end_s": Column(_FLOAT, "s", "end in the last pipeline stage"),
    "num_prefills": Column(_INT, "", "prefill chunks in the batch"),
    "num_prefill_tokens": Column(_INT, "tokens", "prompt tokens in the batch"),
    "num_decodes": Column(_INT, "", "decodes in the batch, one token each"),
    "prefill_context_tokens": Column(_INT, "tokens", "tokens of its prefills in the KV cache at the start"),
    "decode_context_tokens": Column(_INT, "tokens", "tokens of its decodes in the KV cache at the start"),
    "decode_set": Column(_INT, "", "number of its set of decoding requests; several only in a pipeline", is_index=True),
    "context_tokens": Column(_INT, "tokens", "tokens of its requests in the KV cache at the start"),
    "free_blocks": Column(_INT, "KV blocks", "free KV blocks after the decision"),
}
STAYS: Columns = {
    "request_id": Column(_TEXT, "", "the request, as in requests.parquet"),
    "replica": Column(_INT, "", "number of the replica"),
    "arrived_s": Column(_FLOAT, "s", "when the gateway sent the request to the replica"),
    "left_s": Column(_FLOAT, "s", "when it left; null: it was still there at the end"),
    "why": Column(_TEXT, "", "why it left: finished, refused, failed, transferred, drained or still_there"),
    "was_running": Column(_FLAG, "", "whether it left while running, and not while waiting"),
}


def write_tables(result: Result, paths: Sequence[Path]) -> None:
    """Write the requests, the iterations and the stays of a run.

    Raises:
        OSError: A file cannot be written.
    """
    requests, iterations, stays = paths
    columns = {name: REQUESTS[name] for name in result.request_columns}
    table = {name: result.column(name) for name in columns}
    _write(requests, "requests, in the order of the trace", columns, [table])
    _write(iterations, "iterations, replica by replica", ITERATIONS, _iterations(result))
    _write(stays, "stays of requests at replicas, in the order in which they began", STAYS, [_stays(result)])


def _stays(result: Result) -> dict[str, NDArray[Any]]:
    stays = result.stays
    names = np.array([end.name.lower() for end in StayEnd], dtype=object)
    return {**stays.columns, "request_id": result.column("request_id")[stays.request], "why": names[stays.why]}


def _iterations(result: Result) -> Iterator[dict[str, NDArray[Any]]]:
    for number, replica in enumerate(result.replicas):
        columns = replica.iterations
        num_iterations = len(columns["end_s"])
        yield {"replica": np.full(num_iterations, number), "iteration": np.arange(num_iterations), **columns}


def _write(path: Path, title: str, columns: Columns, parts: Iterable[Mapping[str, NDArray[Any]]]) -> None:
    """Write a table, part by part, with what its columns mean."""
    about = {"title": title, "format_version": str(FORMAT), "simulator_version": VERSION}
    fields = [
        pa.field(name, column.kind, metadata={"unit": column.unit, "description": column.meaning})
        for name, column in columns.items()
    ]
    schema = pa.schema(fields, metadata=about)
    with open(path, "wb") as file, pq.ParquetWriter(file, schema, compression="zstd") as writer:
        for part in parts:
            arrays = [_array(part[name], column) for name, column in columns.items()]
            writer.write_table(pa.table(arrays, schema=schema))


def _array(values: NDArray[Any], column: Column) -> Any:
    """Return an Arrow array.

    NaN and the negative numbers of an index are null.
    """
    missing = values < 0 if column.is_index else None
    return pa.array(values, mask=missing, from_pandas=True).cast(column.kind)
