"""Reader of results of `vllm bench serve --save-result --save-detailed`."""

import json
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from traces.readers.rows import Rows
from traces.readers.tables import ChooseColumns

_LENGTHS = {"prompt_tokens": "input_lens", "output_tokens": "output_lens"}


def is_result(content: Any) -> bool:
    """Return whether a JSON value is a result of `vllm bench serve`."""
    return isinstance(content, dict) and "request_throughput" in content


def result_rows(file: BinaryIO, choose_columns: ChooseColumns) -> Iterator[Rows]:
    """Yield the requests in order of arrival.

    They keep their numbers in the file, from 1. A request arrives when it was sent or, if the result has queue_times,
    when it started to wait for the concurrency limit. Times are shifted so that the first request arrives at 0. A
    failed request has no output, which makes its row malformed.

    Raises:
        ValueError: The file is not a result of `vllm bench serve`, or not a detailed one.
    """
    try:
        content = json.load(file)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is neither complete JSON nor JSON lines: {error}") from None
    if not is_result(content):
        raise ValueError("is a JSON object but not a result of vllm bench serve")
    lists = {role: content.get(name) for role, name in _LENGTHS.items()}
    if not all(isinstance(lengths, list) for lengths in lists.values()):
        raise ValueError("has no request lengths: vllm bench serve writes them with --save-detailed")
    columns = {role: np.array(list(map(_to_float, lengths))) for role, lengths in lists.items() if lengths is not None}
    count = len(columns["prompt_tokens"])
    order = np.arange(count)
    starts, waits = content.get("start_times") or [], content.get("queue_times") or [0.0] * count
    if not isinstance(starts, list) or not isinstance(waits, list):
        raise ValueError("has start_times or queue_times that are not lists")
    if starts:
        start_s, waited_s = np.array(list(map(_to_float, starts))), np.array(list(map(_to_float, waits)))
        if not len(start_s) == len(waited_s) == count:
            raise ValueError("has start_times or queue_times of another length than input_lens")
        arrival_s = start_s - waited_s
        order = np.argsort(arrival_s, kind="stable")
        columns["arrival_s"] = arrival_s - arrival_s[order[0]]
    if len(columns["output_tokens"]) != count:
        raise ValueError("has output_lens of another length than input_lens")
    names = choose_columns(list(columns))
    yield Rows({name: pa.array(columns[name][order]) for name in names}, order + 1)


def _to_float(value: Any) -> float:
    return float(value) if type(value) in (int, float) else np.nan
