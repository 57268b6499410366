"""Breakdown of the time of one batch into operators."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from simulator.iteration_time.base import OperatorTime, StageTimes
from simulator.iteration_time.provenance import Extent, describe_provenance
from simulator.model import Device
from simulator.replica import Batch


def time_breakdown(stage_times: StageTimes, device: Device, batch: Batch) -> dict[str, Any]:
    """Return the breakdown that `python -m simulator.predict` writes.

    Returns:
        iteration_s (all stages in sequence), stages (seconds of each stage and its send to the next), operators
        (one row each, see `_row`), mfu and mbu (model FLOPs and bandwidth utilization over
        iteration_s, each operator at the peak of its format), ridge_flop_per_byte (ridge point of the roofline by
        number format of its operators, at the peaks), num_tokens, sources, beyond_measured, warnings.

    Raises:
        ValueError: The stage times are not composed of operators.
    """
    if not stage_times.has_operators:
        raise ValueError("iteration_time: this model is not composed of operators; use roofline or profile")
    times = [float(seconds) for seconds in stage_times(batch)]
    stages = [sum(times[2 * stage : 2 * stage + 2]) for stage in range((len(times) + 1) // 2)]
    rows = [
        _row(stage, operator, device)
        for stage in range(len(stages))
        for operator in _merged(stage_times.operators(batch, stage))
    ]
    iteration_s = sum(stages)
    source, warnings = describe_provenance([(stage_times.provenance, extent_of_batch(batch))])
    return {
        "iteration_s": iteration_s,
        "stages": stages,
        "num_tokens": batch.num_prefill_tokens + batch.num_decodes,
        "mfu": sum(row["compute_s"] for row in rows) / iteration_s,
        "mbu": sum(row["memory_s"] for row in rows) / iteration_s,
        "ridge_flop_per_byte": {
            row["dtype"]: device.tflops(row["dtype"]) * 1e3 / device.bandwidth_gb_per_s for row in rows if row["flops"]
        },
        "operators": rows,
        **source,
        "warnings": [warning.text for warning in warnings],
    }


def _merged(operators: Iterator[OperatorTime]) -> list[OperatorTime]:
    """Merge operators that run several times in a layer."""
    merged: dict[str, OperatorTime] = {}
    for operator in operators:
        previous = merged.get(operator.name)
        if previous is not None:
            operator = replace(
                operator,
                seconds_per_layer=previous.seconds_per_layer + operator.seconds_per_layer,
                flops_per_layer=previous.flops_per_layer + operator.flops_per_layer,
                bytes_per_layer=previous.bytes_per_layer + operator.bytes_per_layer,
            )
        merged[operator.name] = operator
    return list(merged.values())


def _row(stage: int, operator: OperatorTime, device: Device) -> dict[str, Any]:
    """Return one operator of a batch on one GPU.

    FLOPs, bytes (read from and written to memory) and seconds are those of all layers of the stage; compute_s and
    memory_s are the seconds at the peaks of the device, in the number format in which it multiplies. The operator is
    bound by whichever is longer, or by the network or the host.
    """
    layers = operator.layers
    dtype = operator.dtype if device.computes_in(operator.dtype) else "bf16"
    flops, num_bytes = operator.flops_per_layer * layers, operator.bytes_per_layer * layers
    compute_s, memory_s = flops / (device.tflops(dtype) * 1e12), num_bytes / (device.bandwidth_gb_per_s * 1e9)
    bound = "compute" if compute_s >= memory_s else "memory"
    return {
        "stage": stage,
        "name": operator.name,
        "seconds_per_layer": operator.seconds_per_layer,
        "layers": layers,
        "seconds": operator.seconds_per_layer * layers,
        "flops": flops,
        "bytes": num_bytes,
        "arithmetic_intensity": flops / num_bytes if flops else None,
        "compute_s": compute_s,
        "memory_s": memory_s,
        "dtype": dtype,
        "bound": bound if operator.kind == "kernel" else operator.kind,
    }


def extent_of_batch(batch: Batch) -> Extent:
    """Return the extent of one batch."""
    num_decodes = batch.num_decodes
    return Extent(
        batch_tokens=batch.num_prefill_tokens + num_decodes,
        num_decodes=num_decodes,
        decode_context_tokens=-(-batch.decode_context_tokens // num_decodes) if num_decodes else 0,
        prefill_tokens=max((chunk.num_tokens + chunk.context_tokens for chunk in batch.chunks), default=0),
    )
