"""Lower bounds on replicas and latency: rooflines at the data-sheet peaks."""

import math
from dataclasses import dataclass

import numpy as np

from simulator.cluster import Deployment
from simulator.iteration_time import MatMul, attention_of, layer_operators
from simulator.model import Model
from simulator.results import SLO, percentile_of, rank
from traces import Trace


@dataclass(frozen=True)
class Load:
    """Mean work per request of a sustained load.

    Attributes:
        qps: Requests per second.
        tokens: Tokens that the model computes: the prompt, and all output tokens but the last.
        context_products: Pairs of a token and an earlier token.
        decodes: Output tokens after the first.
        decode_context: Context tokens that decodes read, summed over the decodes of a request.
        prompts: int64[num_requests], prompt tokens, sorted.
    """

    qps: float
    tokens: float
    context_products: float
    decodes: float
    decode_context: float
    prompts: np.ndarray[tuple[int], np.dtype[np.int64]]

    @classmethod
    def of(cls, trace: Trace, qps: float) -> "Load":
        """Return the load of a trace at a rate."""
        prompt = trace.prompt_tokens.astype(np.float64)
        decodes = trace.output_tokens - 1.0
        tokens = prompt + decodes
        return cls(
            qps=qps,
            tokens=float(tokens.mean()),
            context_products=float((tokens * tokens / 2).mean()),
            decodes=float(decodes.mean()),
            decode_context=float((decodes * (prompt + decodes / 2)).mean()),
            prompts=np.sort(trace.prompt_tokens),
        )


def fewest_replicas(deployment: Deployment, load: Load) -> int:
    """Return a lower bound on the number of replicas.

    Assumes that every GPU always runs at its peaks. Counts the FLOPs of tokens and attention, and the KV reads of
    decodes. Reads of the weights are left out, because the batch size has no bound here.
    """
    model, device, parallel = deployment.model, deployment.device, deployment.parallel
    attention = attention_of(model, 1, deployment.kv_cache.dtype)
    flops = load.tokens * _flops_per_token(model)
    flops += 4.0 * model.num_layers * attention.q_heads * attention.head_dim * load.context_products
    num_bytes = model.num_layers * attention.kv_bytes_per_token * load.decode_context
    busy_s = max(flops / _peak_flops(deployment), num_bytes / (device.bandwidth_gb_per_s * 1e9)) / parallel.num_gpus
    return max(1, math.ceil(load.qps * busy_s * (1 - 1e-9)))


def ruled_out(deployment: Deployment, slo: SLO, load: Load) -> str:
    """Return why no number of replicas can meet an objective.

    Empty if every objective may be met. A decode reads the weights of all stages in turn. The GPUs of a stage share
    the FLOPs of a prompt.
    """
    model, device, tp = deployment.model, deployment.device, deployment.parallel.tp
    matmuls = [operator for part in layer_operators(model, tp) for operator in part if isinstance(operator, MatMul)]
    weight_bytes = model.num_layers * sum(float(matmul.bytes_moved(1.0)) for matmul in matmuls)
    decode_s = weight_bytes / (device.bandwidth_gb_per_s * 1e9)
    for objective in slo.objectives:
        if objective.metric in ("tbt", "tpot") and decode_s > objective.bound_s:
            return f"{objective.name}: reading the weights alone takes {decode_s:.3g} s"
        if objective.metric in ("ttft", "e2e") and objective.statistic.startswith("p") and objective.client is None:
            prompt = float(load.prompts[rank(percentile_of(objective.statistic), len(load.prompts)) - 1])
            prefill_s = prompt * _flops_per_token(model) / (_peak_flops(deployment) * tp)
            if prefill_s > objective.bound_s:
                return f"{objective.name}: a prompt of {prompt:,.0f} tokens takes {prefill_s:.3g} s at the peak rate"
    return ""


def _flops_per_token(model: Model) -> float:
    """Return the FLOPs of a token in the layers' matrix products."""
    matmuls = [operator for part in layer_operators(model, 1) for operator in part if isinstance(operator, MatMul)]
    return model.num_layers * sum(float(matmul.flops(1.0)) for matmul in matmuls)


def _peak_flops(deployment: Deployment) -> float:
    """Return the highest rate of the device for the model, FLOP/s."""
    device = deployment.device
    return 1e12 * max(device.tflops(deployment.model.dtype), device.peak_tflops)
