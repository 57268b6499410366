"""Head of every report and title of every picture: what was simulated."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from simulator.model import HALF
from traces.shared.spelling import counted

# Options of policies that limit a batch, and their units.
_LIMITS = (
    ("token_budget", "token"),
    ("max_num_batched_tokens", "token"),
    ("chunk_size", "prompt token"),
    ("max_num_seqs", "sequence"),
)
# An arrival process misses its rate by less than this in a long run.
_RATE_TOLERANCE = 0.05


def heading(about: Mapping[str, Any]) -> dict[str, str]:
    """Return the lines that say what was simulated, by label.

    Args:
        about: The content of summary.json, capacity.json or the like: config, choices, groups, and arrivals_per_s and
            requests_per_s of a run. What is missing, as in runs saved from Python, has no line.
    """
    return deployment_lines(about) | {"load": _load(about)}


def deployment_lines(about: Mapping[str, Any]) -> dict[str, str]:
    """Return the lines of `heading` about the deployment, by label."""
    groups = about.get("groups", ())
    lines = {
        "model": _joined(map(_model, groups)),
        "deployment": " + ".join(_replicas(group) for group in groups),
        "scheduler": _joined(_policy(group, about, with_limits=True) for group in groups),
        "engine": _engine(about),
    }
    return {label: text for label, text in lines.items() if text}


def title(about: Mapping[str, Any]) -> str:
    """Return what was simulated in one line."""
    return ", ".join([*deployment_parts(about), *load_parts(about)])


def deployment_parts(about: Mapping[str, Any]) -> list[str]:
    """Return the parts of `title` about the deployment."""
    groups = about.get("groups", ())
    parts = [
        _joined(str(group["model"]["name"]) for group in groups),
        " + ".join(_replicas(group) for group in groups),
        _joined(_policy(group, about, with_limits=False) for group in groups),
    ]
    return [part for part in parts if part]


def load_parts(about: Mapping[str, Any]) -> list[str]:
    """Return the parts of `title` about the load."""
    return [part for part in (_trace(about), _rate(about, digits=3), _limit(about)) if part]


def _joined(names: Any) -> str:
    """Join names, each once."""
    return " + ".join(dict.fromkeys(names))


def _model(group: Mapping[str, Any]) -> str:
    model = group["model"]
    formats = f"{model['dtype']}{' weights' if model.get('weight_only') else ''}"
    return f"{model['name']}, {formats}, KV cache {_kv_format(group)}, up to {model['max_model_len']:,} tokens"


def _kv_format(group: Mapping[str, Any]) -> str:
    """Return the format of the KV cache.

    In half precision, it is that of the model.
    """
    kv_format, weights = str(group["kv_cache"]["dtype"]), str(group["model"]["dtype"])
    if kv_format not in HALF:
        return kv_format
    # Which of the two formats a model with quantised weights computes in is not known, nor does a time depend on it.
    return weights if weights in HALF else "16-bit"


def _replicas(group: Mapping[str, Any]) -> str:
    parallel = group["parallel"]
    pipeline = f" PP{parallel['pp']}" if parallel["pp"] > 1 else ""
    return f"{group['replicas']} x {group['device']['name']} TP{parallel['tp']}{pipeline}"


def _policy(group: Mapping[str, Any], about: Mapping[str, Any], *, with_limits: bool) -> str:
    scheduler, chosen = group["scheduler"], about.get("choices", {}).get("scheduler")
    name = chosen if chosen and len(about["groups"]) == 1 else scheduler["class"]
    limits = [counted(scheduler[key], unit) for key, unit in _LIMITS if scheduler.get(key)]
    if with_limits:
        return ", ".join([name, *limits])
    return " ".join([name, *limits[:1]])


def _engine(about: Mapping[str, Any]) -> str:
    """Return the host of the engine, and the generation of its kernels."""
    choices = about.get("choices", {})
    measured = _joined(group["kernels"] for group in about.get("groups", ()) if group["kernels"])
    kernels = f"kernels of {measured}" if measured else choices.get("iteration_time")
    return ", ".join(part for part in (choices.get("engine"), kernels) if part)


def _load(about: Mapping[str, Any]) -> str:
    served = about.get("requests_per_s")
    num_requests = about.get("num_requests") or _part(about, "trace").get("num_requests")
    parts = [_trace(about), counted(num_requests, "request") if num_requests else ""]
    arrival = about.get("choices", {}).get("arrival")
    if "arrivals_per_s" in about:
        rate = _rate(about, digits=4) or "all at once"
        parts += [f"{rate}{f' ({arrival})' if arrival else ''}", _limit(about)]
    if served is not None:
        unit = "" if about.get("arrivals_per_s") and "users" not in _part(about, "arrival") else "requests/s "
        parts.append(f"{served:.4g} {unit}served")
    if "seed" in about.get("config", {}):
        parts.append(f"seed {about['config']['seed']}")
    return ", ".join(part for part in parts if part)


def _rate(about: Mapping[str, Any], digits: int) -> str:
    """Return the measured arrival rate, or the users of a closed loop.

    If it is not the rate that was asked for, both are there.
    """
    arrival, measured = _part(about, "arrival"), about.get("arrivals_per_s")
    # Users wait for answers: their rate is a result, and beside the served one it would read as an overload.
    if "users" in arrival:
        return counted(arrival["users"], "user")
    if measured is None:
        return ""
    asked = float(arrival.get("qps") or measured)  # "inf" in a saved configuration
    differs = abs(measured / asked - 1) > _RATE_TOLERANCE
    return f"{measured:.{digits}g} requests/s{f' of {asked:.{digits}g} asked' if differs else ''}"


def _limit(about: Mapping[str, Any]) -> str:
    """Return the limit on the requests in flight."""
    most = _part(about, "arrival").get("max_concurrency")
    return f"at most {most:,} in flight" if most else ""


def _trace(about: Mapping[str, Any]) -> str:
    """Return the name of the trace's file, or of its configuration."""
    path = _part(about, "trace").get("path")
    return Path(path).name if path else str(about.get("choices", {}).get("trace", ""))


def _part(about: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a part of the configuration; empty if it is missing."""
    part: Mapping[str, Any] = about.get("config", {}).get(name, {})
    return part
