"""What a deployment cannot beat: rooflines at the peaks of the data sheets."""

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
    """What one request of a sustained load needs in the mean.

    Attributes:
        qps: Requests per second.
        tokens: Tokens that go through the model: the prompt, and all output tokens but the last.
        context_products: Pairs of a token and one before it.
        decodes: Output tokens after the first.
        decode_context: Tokens in the KV cache that decodes read, summed over a request's decodes.
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
        """Measure a trace."""
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
    """Return how many replicas it takes at least, if every GPU computed and read at its peaks all the time.

    A request takes the FLOPs of its tokens and of its attention, and each decode reads keys and values of its
    request. Reading the weights is left out: a batch may be as large as it likes.
    """
    model, device, parallel = deployment.model, deployment.device, deployment.parallel
    attention = attention_of(model, 1, deployment.kv_cache.dtype)
    flops = load.tokens * _flops_per_token(model)
    flops += 4.0 * model.num_layers * attention.q_heads * attention.head_dim * load.context_products
    num_bytes = model.num_layers * attention.kv_bytes_per_token * load.decode_context
    busy_s = max(flops / _peak_flops(deployment), num_bytes / (device.bandwidth_gb_per_s * 1e9)) / parallel.num_gpus
    return max(1, math.ceil(load.qps * busy_s * (1 - 1e-9)))


def ruled_out(deployment: Deployment, slo: SLO, load: Load) -> str:
    """Say which objective no number of replicas can meet; empty: none is ruled out.

    A decode reads the weights of all stages, one after another; a prompt takes its FLOPs on all GPUs of a stage
    at once.
    """
    model, device, tp = deployment.model, deployment.device, deployment.parallel.tp
    products = [one for part in layer_operators(model, tp) for one in part if isinstance(one, MatMul)]
    weight_bytes = model.num_layers * sum(float(one.bytes_moved(1.0)) for one in products)
    decode_s = weight_bytes / (device.bandwidth_gb_per_s * 1e9)
    for one in slo.objectives:
        if one.metric in ("tbt", "tpot") and decode_s > one.bound_s:
            return f"{one.name}: reading the weights alone takes {decode_s:.3g} s"
        if one.metric in ("ttft", "e2e") and one.statistic.startswith("p") and one.client is None:
            prompt = float(load.prompts[rank(percentile_of(one.statistic), len(load.prompts)) - 1])
            prefill_s = prompt * _flops_per_token(model) / (_peak_flops(deployment) * tp)
            if prefill_s > one.bound_s:
                return f"{one.name}: a prompt of {prompt:,.0f} tokens takes {prefill_s:.3g} s at the peak rate"
    return ""


def _flops_per_token(model: Model) -> float:
    """FLOPs of a token in the matrix products of all layers."""
    products = [one for part in layer_operators(model, 1) for one in part if isinstance(one, MatMul)]
    return model.num_layers * sum(float(one.flops(1.0)) for one in products)


def _peak_flops(deployment: Deployment) -> float:
    """Best rate that the device has for the model, FLOP/s."""
    device = deployment.device
    return 1e12 * max(device.tflops(deployment.model.dtype), device.peak_tflops)
