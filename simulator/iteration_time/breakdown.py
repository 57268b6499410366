"""What the time of one batch is made of."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any, Protocol, runtime_checkable

from simulator.iteration_time.base import StageTimes
from simulator.iteration_time.composed import OperatorTime
from simulator.iteration_time.provenance import Extent, Provenance, describe
from simulator.model import Device
from simulator.replica import Batch


@runtime_checkable
class Composed(StageTimes, Protocol):
    """Stage times that are sums of operators."""

    provenance: Provenance

    def operators(self, batch: Batch, stage: int) -> Iterator[OperatorTime]:
        """Yield what a stage's time for a batch is made of."""
        ...


@dataclass(frozen=True)
class OperatorRow:
    """One operator of a batch on one GPU.

    Attributes:
        stage: Pipeline stage, from 0.
        name: Name of the operator.
        seconds_per_layer: Seconds in one layer.
        layers: Layers of the stage; 1 for what runs outside them.
        seconds: Seconds in all layers.
        flops: FLOPs in all layers.
        bytes: Bytes moved from and to memory in all layers.
        arithmetic_intensity: FLOP/byte; None where no bytes are moved.
        compute_s: Seconds at the peak FLOP rate of its format.
        memory_s: Seconds at the peak bandwidth.
        bound: What limits it at the peaks, "compute" or "memory"; or "network" or "host".
    """

    stage: int
    name: str
    seconds_per_layer: float
    layers: int
    seconds: float
    flops: float
    bytes: float
    arithmetic_intensity: float | None
    compute_s: float
    memory_s: float
    bound: str


def time_breakdown(stage_times: StageTimes, device: Device, batch: Batch) -> dict[str, Any]:
    """Return what `python -m simulator.predict` writes.

    Returns:
        iteration_s (all stages one after the other), stages (seconds of each and of its message to the next),
        operators (list of the fields of `OperatorRow`), mfu and mbu (shares of the peaks over iteration_s),
        ridge_flop_per_byte (intensity at which half precision and memory take equally long at the peaks), num_tokens,
        source, warnings.

    Raises:
        ValueError: The stage times are not a sum of operators.
    """
    if not isinstance(stage_times, Composed):
        raise ValueError("iteration_time: this one is not made of operators; roofline and profile are")
    times = [float(seconds) for seconds in stage_times(batch)]
    stages = [sum(times[2 * stage : 2 * stage + 2]) for stage in range((len(times) + 1) // 2)]
    peak_flops, peak_bytes = device.peak_tflops * 1e12, device.bandwidth_gb_per_s * 1e9
    rows = []
    for stage in range(len(stages)):
        merged = _merged(stage_times.operators(batch, stage))
        rows += [_row(stage, operator, device.tflops(operator.dtype) * 1e12, peak_bytes) for operator in merged]
    iteration_s = sum(stages)
    source, warnings = describe([(stage_times.provenance, extent_of_batch(batch))])
    return {
        "iteration_s": iteration_s,
        "stages": stages,
        "num_tokens": batch.num_prefill_tokens + batch.num_decodes,
        "mfu": sum(row.compute_s for row in rows) / iteration_s,
        "mbu": sum(row.memory_s for row in rows) / iteration_s,
        "ridge_flop_per_byte": peak_flops / peak_bytes,
        "operators": [asdict(row) for row in rows],
        **source,
        "warnings": warnings,
    }


def _merged(operators: Iterator[OperatorTime]) -> list[OperatorTime]:
    """Make one of those that run several times in a layer."""
    found: dict[str, OperatorTime] = {}
    for one in operators:
        before = found.get(one.name)
        if before is not None:
            one = OperatorTime(
                one.name,
                one.kind,
                before.seconds_per_layer + one.seconds_per_layer,
                one.layers,
                before.flops_per_layer + one.flops_per_layer,
                before.bytes_per_layer + one.bytes_per_layer,
                one.dtype,
            )
        found[one.name] = one
    return list(found.values())


def _row(stage: int, operator: OperatorTime, peak_flops: float, peak_bytes: float) -> OperatorRow:
    layers = operator.layers
    flops, num_bytes = operator.flops_per_layer * layers, operator.bytes_per_layer * layers
    compute_s, memory_s = flops / peak_flops, num_bytes / peak_bytes
    limit = "compute" if compute_s >= memory_s else "memory"
    return OperatorRow(
        stage=stage,
        name=operator.name,
        seconds_per_layer=operator.seconds_per_layer,
        layers=layers,
        seconds=operator.seconds_per_layer * layers,
        flops=flops,
        bytes=num_bytes,
        arithmetic_intensity=flops / num_bytes if num_bytes else None,
        compute_s=compute_s,
        memory_s=memory_s,
        bound=limit if operator.kind == "kernel" else operator.kind,
    )


def extent_of_batch(batch: Batch) -> Extent:
    """Return how large a batch is, in the terms that measurements are bounded in."""
    num_decodes = batch.num_decodes
    return Extent(
        batch_tokens=batch.num_prefill_tokens + num_decodes,
        num_decodes=num_decodes,
        decode_context_tokens=-(-batch.decode_context_tokens // num_decodes) if num_decodes else 0,
        prefill_tokens=max((chunk.num_tokens + chunk.context_tokens for chunk in batch.chunks), default=0),
    )
