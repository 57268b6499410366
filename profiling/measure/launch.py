"""Host time to launch an iteration's kernels: one by one, and as a CUDA graph."""

import time
from collections.abc import Callable, Sequence
from typing import Any

from profiling.measure.cases import LAYER_OPERATORS, Case, layer_cases
from profiling.measure.kernels import TorchKernels
from profiling.measure.timing import REPEATS, WARM_UPS, Sample
from simulator.model import Model

BATCHES = (1, 8, 32, 128)
# A layer with the attention of its decodes, in the order they run.
_ATTENTION_AT = LAYER_OPERATORS.index("o_proj")
LAUNCHED = (*LAYER_OPERATORS[:_ATTENTION_AT], "decode_attention", *LAYER_OPERATORS[_ATTENTION_AT:])
# Context of the decodes; it hardly matters to the host.
CONTEXT = 1024


def launch_cases(model: Model, degrees: Sequence[int]) -> list[Case]:
    """Iterations of decodes, launched both ways."""
    return [
        Case("host", (model.name, degree, operator, batch))
        for degree in degrees
        for batch in BATCHES
        for operator in ("launch_kernels", "launch_graph")
    ]


def layer_of(model: Model, degree: int, batch: int) -> list[Case]:
    """Kernels of one layer of a batch of decodes, in the order they run."""
    cases = layer_cases(model, [degree], LAUNCHED, max(CONTEXT, batch))
    chosen = {
        case["operator"]: case
        for case in cases
        if case["num_tokens"] == batch and (case.family != "attention" or case["context"] == CONTEXT)
    }
    return [chosen[name] for name in LAUNCHED if name in chosen]


def measure_launch(case: Case, model: Model, kernels: TorchKernels, torch: Any) -> Sample:
    """Time how long the host is busy with launching all layers; what the GPU does meanwhile does not count."""
    layer = [kernels.prepare(one).build() for one in layer_of(model, case["tp"], case["batch"])]

    def iteration() -> None:
        for _ in range(model.num_layers):
            for kernel in layer:
                kernel()

    launch: Callable[[], object] = iteration
    if case["operator"] == "launch_graph":
        for kernel in layer:
            kernel()
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            iteration()
        launch = graph.replay
    seconds = []
    for number in range(WARM_UPS + REPEATS):
        torch.cuda.synchronize()
        begin = time.perf_counter()
        launch()
        elapsed = time.perf_counter() - begin
        if number >= WARM_UPS:
            seconds.append(elapsed)
    return Sample.of(seconds)
