"""Lines to paste for a deployment: its launch and its cost."""

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

from simulator.cluster import Deployment, groups_of
from simulator.config import published_models
from simulator.launch import sarathi_serve, vllm
from simulator.model import Model
from traces import Trace

HOURS_PER_MONTH = 730
_WIDTH = 88
_ASSIGNMENT = re.compile(r"[A-Z_]+=[\w,]+$")  # an environment variable in front of a command
# Engines by the class of the scheduler, and the generation of kernels that the engine has.
_ENGINES = {
    "VLLMV1": (vllm, "vllm"),
    **dict.fromkeys(sarathi_serve.POLICIES, (sarathi_serve, "sarathi_serve")),
}
_LONG = "VLLM_ALLOW_LONG_MAX_MODEL_LEN=1"


def planning_lines(
    deployment: Deployment | Sequence[Deployment], model_path: str | None, qps: float, requests: Trace
) -> list[str]:
    """Return the lines with which a planning command ends: launches and cost.

    Args:
        deployment: Deployment, or the groups of a cluster.
        model_path: The model's config.json; None: a model of `configs/model`.
        qps: Load, requests/s.
        requests: Their lengths.
    """
    lines = launch_lines(deployment, model_path)
    prices = [_hourly_price(group) for group in groups_of(deployment)]
    known = [price for price in prices if price is not None]
    return lines if len(known) < len(prices) else [*lines, f"# {_cost(sum(known), qps, requests)}"]


def _hourly_price(deployment: Deployment) -> float | None:
    """Return the price of all GPUs, USD per hour; None: unknown."""
    price = deployment.device.price_per_hour_usd
    return None if price is None else price * deployment.parallel.num_gpus * deployment.num_replicas


def _cost(per_hour_usd: float, qps: float, requests: Trace) -> str:
    """Describe the cost of all GPUs, and of a token under load."""
    line = f"${per_hour_usd:,.2f}/h, ${per_hour_usd * HOURS_PER_MONTH:,.0f} a month ({HOURS_PER_MONTH} h)"
    if not qps:
        return line
    output = float(requests.output_tokens.mean())
    usd_per_million = per_hour_usd / 3600 / qps * 1e6
    total_usd, output_usd = usd_per_million / (float(requests.prompt_tokens.mean()) + output), usd_per_million / output
    return f"{line}, ${total_usd:,.3f} per million tokens, ${output_usd:,.2f} per million output tokens"


def launch_lines(deployment: Deployment | Sequence[Deployment], model_path: str | None = None) -> list[str]:
    """Return the lines of a shell that launch a deployment.

    Each group has a comment that says where, then a command; a deployment that no engine runs has only a comment.

    Args:
        deployment: Deployment, or the groups of a cluster.
        model_path: The model's config.json; None: a model of `configs/model`.
    """
    return [line for group in groups_of(deployment) for line in _group_lines(group, model_path)]


def _group_lines(deployment: Deployment, model_path: str | None) -> list[str]:
    num_gpus, device = deployment.parallel.num_gpus, deployment.device.name
    where = f"{num_gpus} x {device}"
    if deployment.num_replicas > 1:
        where = f"each of {deployment.num_replicas} replicas, {where}"
    try:
        words = _command(deployment, model_path)
    except ValueError as error:
        return [f"# no launch line: {error}"]
    return [f"# on {where}", *_wrapped(words)]


def _command(deployment: Deployment, model_path: str | None) -> list[str]:
    """Return the words of the command of one replica.

    Raises:
        ValueError: No engine runs it.
    """
    policy = type(deployment.scheduler).__name__
    engine, kernels = _ENGINES.get(policy, (None, None))
    if engine is None:
        raise ValueError(f"no engine is known to run the scheduler {policy}")
    if deployment.engine.kernels not in (kernels, None):
        raise ValueError(f"no engine runs the scheduler {policy} with the kernels of {deployment.engine.kernels}")
    name, is_too_long = _served_name(deployment.model, model_path)
    words = engine.command(deployment, name)
    return [_LONG, *words] if is_too_long and engine is vllm else words


def _served_name(model: Model, model_path: str | None) -> tuple[str, bool]:
    """Return what to launch, and whether its config.json allows only shorter sequences.

    Raises:
        ValueError: The model has no published name.
    """
    if model_path is not None:
        return str(Path(model_path).parent), False
    published = [entry for entry in published_models().values() if entry.choice == model.name]
    if not published:
        raise ValueError(f"model {model.name} has no name on Hugging Face")
    long_enough = [entry for entry in published if entry.max_positions >= model.max_model_len]
    return (long_enough or published)[0].name, not long_enough


def _wrapped(words: Sequence[str]) -> list[str]:
    """Return a command on lines of moderate width.

    Each option and its values stay together.
    """
    parts: list[str] = []
    for word in words:
        if word.startswith("--"):
            parts.append(word)
        elif parts and not _ASSIGNMENT.match(parts[-1]):
            parts[-1] += f" {shlex.quote(word)}"
        elif _ASSIGNMENT.match(word):
            parts.append(word)
        else:
            parts.append(shlex.quote(word))
    own = next(index for index, part in enumerate(parts) if part.startswith("--"))
    lines = parts[:own]
    for part in parts[own:]:
        if len(lines) > own and len(lines[-1]) + 1 + len(part) <= _WIDTH:
            lines[-1] += f" {part}"
        else:
            lines.append(f"  {part}")
    return [f"{line} \\" for line in lines[:-1]] + lines[-1:]
