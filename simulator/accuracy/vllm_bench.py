"""Results of `vllm bench serve --save-result`, in a folder of the user.

The deployment is what the command line says; the load is in the files. Detailed results (--save-detailed) have the
lengths of all requests; of others only means are known, so means and medians alone are compared.
"""

from collections.abc import Iterator, Mapping, Sequence
from math import inf
from pathlib import Path
from typing import Any

from simulator.accuracy.points import Point, Skipped, number
from traces.shared.json_file import read_json, reading

WHERE = "JSON files of `vllm bench serve --save-result`"
NAME = "vllm bench serve"
_METRICS = {"ttft_s": "ttft", "tpot_s": "tpot", "e2e_s": "e2el"}
_OF_MEANS = ("mean", "p50")  # statistics that equal lengths may stand for
_STATISTICS = {"mean": "mean", "median": "p50", "p90": "p90", "p99": "p99"}


def points(folder: Path, deployment: Sequence[str]) -> Iterator[Point | Skipped]:
    """Yield a point for each result in a folder.

    Args:
        folder: Has the JSON files.
        deployment: Configuration of the deployment that was measured.

    Raises:
        ValueError: A file cannot be read.
    """
    num_others = num_failed = 0
    for path in sorted(folder.glob("*.json")):
        with reading(path, "readable JSON"):
            content = read_json(path, allow_nan=True)
        if not isinstance(content, dict) or "request_throughput" not in content:
            num_others += 1
        elif content.get("failed") or content.get("completed") != content.get("num_prompts", content.get("completed")):
            num_failed += 1
        else:
            yield _point(path, content, deployment)
    if num_others:
        yield Skipped("not a result of vllm bench serve", num_others)
    if num_failed:
        yield Skipped("some requests failed", num_failed)


def _point(path: Path, content: Mapping[str, Any], deployment: Sequence[str]) -> Point:
    name = path.name
    count = int(number(content, "completed", name))
    prompt, output = (round(number(content, f"total_{kind}_tokens", name) / count) for kind in ("input", "output"))
    is_detailed = isinstance(content.get("input_lens"), list)
    lengths = (
        ("trace=file", f"trace.path={path.absolute()}", "trace.num_requests=null")
        if is_detailed
        else (
            "trace=fixed",
            f"trace.prompt_tokens={prompt}",
            f"trace.output_tokens={output}",
            f"trace.num_requests={count}",
        )
    )
    load, arrivals = _arrivals(name, content)
    return Point(
        dataset=NAME,
        model=str(content.get("model_id", "")),
        device=path.stem,
        layout="",
        engine=str(content.get("backend", content.get("endpoint_type", "vllm"))),
        load=f"{load}, {prompt} + {output} tokens",
        overrides=(*deployment, *lengths, *arrivals),
        measured={
            f"{metric}.{statistic}": number(content, f"{word}_{column}_ms", name) * 1e-3
            for metric, column in _METRICS.items()
            for word, statistic in _STATISTICS.items()
            if content.get(f"{word}_{column}_ms") and (is_detailed or statistic in _OF_MEANS)
        },
    )


def _arrivals(name: str, content: Mapping[str, Any]) -> tuple[str, Sequence[str]]:
    """Return the load in words, and its configuration.

    A detailed result says when requests were sent.
    """
    users, rate = content.get("max_concurrency"), content.get("request_rate")
    is_finite = isinstance(rate, int | float) and 0 < rate < inf
    if is_finite and content.get("start_times"):
        return f"{rate:g} requests/s", ("arrival=trace",)
    count = int(number(content, "max_concurrency", name)) if users else None
    if is_finite:
        burstiness = number({"burstiness": 1.0, **content}, "burstiness", name)
        arrivals = ("arrival=gamma", f"arrival.qps={rate}", f"arrival.cv={burstiness**-0.5:.4g}")
        if count is None:
            return f"{rate:g} requests/s", arrivals
        return f"{rate:g} requests/s, at most {count} in flight", (*arrivals, f"arrival.max_concurrency={count}")
    if count is not None:
        return f"{count} users", ("arrival=closed_loop", f"arrival.users={count}")
    if rate in ("inf", inf):
        return "all at once", ("arrival=constant", "arrival.qps=inf")
    raise ValueError(f"{name}: neither a request_rate nor a max_concurrency is stated")
