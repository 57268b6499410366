"""Summaries of the simulator."""

from collections.abc import Mapping
from typing import Any

from simulator.compare.run import THROUGHPUTS, Run, number
from simulator.output import title
from simulator.results import LATENCIES, STATISTICS, objective_text

NAME = "a summary.json of the simulator"


def is_result(content: Mapping[str, Any]) -> bool:
    """Return whether a JSON object is a summary of the simulator."""
    return "ttft_s" in content and "scheduling_delay_s" in content


def read(content: Mapping[str, Any]) -> Run:
    """Return the metrics, without a name."""
    slo = content.get("slo") or {}
    bounds = ", ".join(objective_text(name, bound) for name, bound in slo.get("request_bounds_s", {}).items())
    return Run(
        name="",
        measured=False,
        num_finished=int(content["num_finished"]),
        throughputs={throughput: number(content[throughput]) for throughput in THROUGHPUTS},
        latencies={
            latency: {statistic: number(content[latency][statistic]) for statistic in STATISTICS}
            for latency in LATENCIES
        },
        notes=(f"goodput within {bounds}",) if bounds else (),
        goodput=number(slo.get("goodput")),
        good_requests_per_s=number(slo.get("goodput_qps")),
        title=title(content) if "groups" in content else "",
    )
