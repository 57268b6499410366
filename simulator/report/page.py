"""HTML page of a report, rendered from its template."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from simulator.config import VERSION
from simulator.report.drawing import pictures
from simulator.report.tables import Runs, comparison_table, configuration_table, tables
from simulator.results import bottlenecks, duration, figure, share, utilisation


def page(runs: Runs) -> str:
    """Return the HTML of a report.

    Args:
        runs: Result and summary by name.
    """
    environment = Environment(loader=PackageLoader("simulator.report"), autoescape=True, undefined=StrictUndefined)
    environment.trim_blocks = environment.lstrip_blocks = True
    several = len(runs) > 1
    sections = [
        {
            "name": name,
            "cards": _cards(summary),
            "warnings": summary["warnings"],
            "limits": bottlenecks(result),
            "utilisation": utilisation(result),
            "description": _description(summary),
        }
        for name, (result, summary) in runs.items()
    ]
    return environment.get_template("page.html").render(
        title=" and ".join(runs) if len(runs) < 3 else f"{len(runs)} runs",
        runs=sections,
        several=several,
        # Matplotlib has escaped the names in the SVG.
        pictures=[(picture, Markup(picture.svg)) for picture in pictures(runs)],  # nosec B704
        tables=list(tables(runs)),
        comparison=comparison_table(runs) if several else None,
        differences=configuration_table(runs, only_differences=True) if several else None,
        configurations=configuration_table(runs, only_differences=False),
        version=VERSION,
    )


def _cards(summary: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    """Return the name, value and remark of each metric at the top."""
    cost = summary["cluster"]["cost_per_million_output_tokens_usd"]
    busy = [stage["busy"] for replica in summary["replicas"] for stage in replica["stages"] or []]
    cards = [
        ("finished", f"{summary['num_finished']:,}", f"of {summary['num_requests']:,} requests"),
        ("requests/s", figure(summary["requests_per_s"]), f"{figure(summary['output_tokens_per_s'])} output tokens/s"),
        ("TTFT P50", duration(summary["ttft_s"]["p50"]), f"P99 {duration(summary['ttft_s']['p99'])}"),
        ("TBT P99", duration(summary["tbt_s"]["p99"]), f"P50 {duration(summary['tbt_s']['p50'])}"),
        ("end to end P50", duration(summary["e2e_s"]["p50"]), f"P99 {duration(summary['e2e_s']['p99'])}"),
        ("KV cache usage", share(summary["kv_use"]["mean"]), f"peak {share(summary['kv_use']['max'])}"),
        ("stages busy", share(float(np.mean(busy)) if busy else None), _count(summary["cluster"]["num_gpus"], "GPU")),
    ]
    prefix = summary["prefix_cache"]
    if prefix is not None:
        remark = f"of prompt tokens; {prefix['num_evicted_blocks']:,} blocks evicted"
        cards.append(("prefix cache hits", share(prefix["hit_rate_tokens"]), remark))
    if cost is not None:
        cards.append(("cost", f"${cost:,.2f}", "per million output tokens"))
    return cards


def _description(summary: Mapping[str, Any]) -> str:
    """Describe the simulated system and workload in one line."""
    config, replicas = summary["config"], summary["replicas"]
    kinds = Counter((replica["device"], replica["tp"], replica["pp"]) for replica in replicas)
    parts = [f"{count} x {device} TP{tp} PP{pp}" for (device, tp, pp), count in kinds.items()]
    scheduler = str(config["scheduler"]["_target_"]).split(".")[-1]
    options = config["scheduler"]
    budget = options.get("token_budget", options.get("max_num_batched_tokens"))
    rate = summary["arrivals_per_s"]
    words = [
        f"{config['model']['name']} on {', '.join(parts)}",
        scheduler if budget is None else f"{scheduler} with a token budget of {budget:,}",
        f"{summary['num_requests']:,} requests" + ("" if rate is None else f" at {rate:.3g} requests/s"),
    ]
    return "; ".join(words) + "."


def _count(number: int, name: str) -> str:
    return f"{number:,} {name}{'s' if number > 1 else ''}"
