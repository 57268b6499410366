"""Reads the requests of a result that `vllm bench serve --save-result --save-detailed` wrote."""

import json
from collections.abc import Iterator
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa

from traces.readers.rows import Rows
from traces.readers.tables import Needed

_LENGTHS = {"prompt_tokens": "input_lens", "output_tokens": "output_lens"}


def is_result(content: Any) -> bool:
    """Whether an object is such a result."""
    return isinstance(content, dict) and "request_throughput" in content


def result_rows(file: BinaryIO, needed: Needed) -> Iterator[Rows]:
    """Yield the requests in order of arrival, numbered from 1 as in the file.

    A request arrives when it was sent or, if the result says so (queue_times), when it began to wait for room below
    the concurrency limit. The first arrives at 0: the clock of the times is any. A request that failed has no output.

    Raises:
        ValueError: It is no such result, or not a detailed one.
    """
    try:
        content = json.load(file)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"is not whole JSON, nor JSON lines: {error}") from None
    if not is_result(content):
        raise ValueError("is a JSON object and no result of vllm bench serve")
    lists = {role: content.get(name) for role, name in _LENGTHS.items()}
    if not all(isinstance(one, list) for one in lists.values()):
        raise ValueError("has no lengths of the requests: vllm bench serve writes them with --save-detailed")
    columns = {role: np.array(list(map(_number, one))) for role, one in lists.items() if one is not None}
    count = len(columns["prompt_tokens"])
    order = np.arange(count)
    starts, waits = content.get("start_times") or [], content.get("queue_times") or [0.0] * count
    if not isinstance(starts, list) or not isinstance(waits, list):
        raise ValueError("has start_times or queue_times that are no lists")
    if starts:
        start_s, waited_s = np.array(list(map(_number, starts))), np.array(list(map(_number, waits)))
        if not len(start_s) == len(waited_s) == count:
            raise ValueError("has start_times of another number of requests")
        due_s = start_s - waited_s
        order = np.argsort(due_s, kind="stable")
        columns["arrival_s"] = due_s - due_s[order[0]]
    if len(columns["output_tokens"]) != count:
        raise ValueError("has output_lens of another number of requests")
    names = needed(list(columns))
    yield Rows({name: pa.array(columns[name][order]) for name in names}, order + 1)


def _number(value: Any) -> float:
    return float(value) if type(value) in (int, float) else np.nan
