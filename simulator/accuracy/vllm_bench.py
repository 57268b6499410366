"""Results of `vllm bench serve --save-result`, in a folder of the user.

The deployment is what the command line says; the load is in the files.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from simulator.accuracy.points import Point, SetError, Skipped
from traces.shared.json_file import read_json

WHERE = "JSON files of `vllm bench serve --save-result`"
NAME = "vllm bench serve"
_METRICS = {"ttft_s": "ttft", "tpot_s": "tpot", "e2e_s": "e2el"}
_STATISTICS = {"mean": "mean", "median": "p50", "p90": "p90", "p99": "p99"}


def points(folder: Path, deployment: Sequence[str]) -> Iterator[Point | Skipped]:
    """Yield a point for each result in a folder.

    Args:
        folder: Has the JSON files.
        deployment: Configuration of the deployment that was measured.

    Raises:
        SetError: A file cannot be read.
    """
    num_others = 0
    for path in sorted(folder.glob("*.json")):
        try:
            content = read_json(path, allow_nan=True)
        except (OSError, ValueError) as error:
            raise SetError(f"cannot read {path}: {error}") from error
        if isinstance(content, dict) and "request_throughput" in content:
            yield _point(path.stem, content, deployment)
        else:
            num_others += 1
    if num_others:
        yield Skipped("not a result of vllm bench serve", num_others)


def _point(name: str, content: Mapping[str, Any], deployment: Sequence[str]) -> Point:
    count = int(content["completed"])
    if count < 1:
        raise SetError(f"{name}: no request was completed")
    prompt, output = (round(content[f"total_{kind}_tokens"] / count) for kind in ("input", "output"))
    measured = {
        f"{metric}.{statistic}": float(content[f"{word}_{column}_ms"]) * 1e-3
        for metric, column in _METRICS.items()
        for word, statistic in _STATISTICS.items()
        if content.get(f"{word}_{column}_ms")
    }
    load, arrivals = _arrivals(name, content)
    return Point(
        dataset=NAME,
        model=str(content.get("model_id", "")),
        device=name,
        layout="",
        engine=str(content.get("backend", content.get("endpoint_type", "vllm"))),
        load=f"{load}, {prompt} + {output} tokens",
        overrides=(
            *deployment,
            "trace=fixed",
            f"trace.prompt_tokens={prompt}",
            f"trace.output_tokens={output}",
            f"trace.num_requests={count}",
            *arrivals,
        ),
        measured=measured,
    )


def _arrivals(name: str, content: Mapping[str, Any]) -> tuple[str, Sequence[str]]:
    """Return the load in words, and its configuration."""
    users, rate = content.get("max_concurrency"), content.get("request_rate")
    if isinstance(rate, int | float) and rate != float("inf"):
        burstiness = float(content.get("burstiness", 1.0))
        return f"{rate:g} requests/s", ("arrival=gamma", f"arrival.qps={rate}", f"arrival.cv={burstiness**-0.5:.4g}")
    if users:
        return f"{users} users", ("arrival=closed_loop", f"arrival.users={users}")
    raise SetError(f"{name}: neither a finite request_rate nor a max_concurrency is stated")
