"""Errors of the fits of a device on held-out measurements."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from profiling.evaluate import few_shapes, grids
from profiling.evaluate.scores import ROW, Score, score
from profiling.fit import links
from profiling.fit.attention import (
    BANDWIDTH_SHARE,
    DECODE,
    PREFILL,
    AttentionSource,
    Phase,
    attention_rows,
    is_grid,
    physics_only,
    within_bandwidth,
)
from profiling.fit.designs import (
    ELEMENTWISE_SHAPE,
    MATMUL_SHAPE,
    attention_design,
    elementwise_design,
    gpu_of,
    matmul_design,
    routed_rows,
)
from profiling.fit.kernels import is_grid as is_matmul_grid
from profiling.tables import Header, medians, read_table


def device_scores(folder: Path, attention_from: Path | None = None, baseline: bool = True) -> Iterator[Score]:
    """Yield the scores of every fit to the tables of a device.

    Args:
        folder: Tables of the device.
        attention_from: As in `fit.fit_device`.
        baseline: Whether to score the baselines too.
    """
    yield from message_scores(folder, baseline)
    yield from _matmul_scores(folder, baseline)
    yield from _elementwise_scores(folder, baseline)
    yield from _attention_scores(folder, attention_from, baseline)
    yield from grids.experts_scores(Header.read(folder), routed_rows(folder))


def _matmul_scores(folder: Path, baseline: bool) -> Iterator[Score]:
    header = Header.read(folder)
    table = read_table(folder, "matmul")
    for dtype, inside in table.groupby("dtype"):
        if is_matmul_grid(inside):
            rows = medians(inside, [*MATMUL_SHAPE, "num_tokens"])
            yield from grids.matmul_scores(header, rows, str(dtype), baseline)
        else:
            rows = medians(inside, list(dict.fromkeys([*ROW, *MATMUL_SHAPE, "num_tokens"])))
            design = matmul_design(gpu_of(header), rows, str(dtype))
            yield from few_shapes.layer_scores(header.device, "matmul", rows, list(MATMUL_SHAPE), design, baseline)


def _elementwise_scores(folder: Path, baseline: bool) -> Iterator[Score]:
    header, shape = Header.read(folder), list(ELEMENTWISE_SHAPE)
    rows = medians(read_table(folder, "elementwise"), list(dict.fromkeys([*ROW, *shape, "num_tokens"])))
    if len(rows):
        design = elementwise_design(gpu_of(header), rows)
        yield from few_shapes.layer_scores(header.device, "elementwise", rows, shape, design, baseline)


def _attention_scores(folder: Path, attention_from: Path | None, baseline: bool) -> Iterator[Score]:
    source = AttentionSource.of(folder, attention_from)
    if source.is_derived:
        yield from _derived_attention_scores(folder, source.folder)
        return
    header = Header.read(folder)
    gpu = gpu_of(header)
    for kv_dtype in source.formats:
        for phase in (PREFILL, DECODE):
            rows = attention_rows(folder, phase, kv_dtype)
            if is_grid(rows):
                yield from grids.attention_scores(header, rows, kv_dtype, baseline)
                continue
            rows = _plausible(folder, rows, phase)
            design = attention_design(gpu, rows, phase.own_design, kv_dtype)
            yield from few_shapes.attention_scores(
                header.device, phase.operator, rows, design, phase.regressor, baseline
            )


def _plausible(folder: Path, rows: pd.DataFrame, phase: Phase) -> pd.DataFrame:
    """Leave out decodes faster than the HBM allows.

    The fit sees a bound there, not the measurement.
    """
    if phase is PREFILL:
        return rows
    bounded = within_bandwidth(gpu_of(Header.read(folder)), rows, BANDWIDTH_SHARE)
    plausible: pd.DataFrame = rows[bounded == rows["seconds"].to_numpy()].reset_index(drop=True)
    return plausible


def _derived_attention_scores(folder: Path, source: Path) -> Iterator[Score]:
    """Yield the scores of attention derived from another device.

    All rows of this device are scored.
    """
    header, source_gpu = Header.read(folder), gpu_of(Header.read(source))
    for phase in (PREFILL, DECODE):
        source_rows, rows = attention_rows(source, phase), attention_rows(folder, phase)
        seconds = source_rows["seconds"].to_numpy()
        if phase is DECODE:
            seconds = within_bandwidth(source_gpu, source_rows, BANDWIDTH_SHARE)
        design = attention_design(source_gpu, source_rows, phase.own_design, "bf16")
        model = phase.regressor().fit(design, seconds).model_
        model = physics_only(model) if phase is DECODE else model
        own_design = attention_design(gpu_of(header), rows, phase.own_design, "bf16")
        terms, features = np.split(own_design, [len(model.coefficients)], axis=1)
        key = {"device": header.device, "split": "device", "tokens": "all", "model": f"derived from {source.name}"}
        yield score(key | {"operator": phase.operator}, rows["seconds"].to_numpy(), model.predict(terms, features))


def message_scores(folder: Path, baseline: bool) -> Iterator[Score]:
    """Yield the scores of collectives and messages on held-out sizes.

    Each machine and group of GPUs is scored separately.
    """
    device = Header.read(folder).device
    for group, num_bytes, seconds in links.groups(folder):
        held_out = links.held_out_sizes(len(num_bytes))
        long = num_bytes >= links.LONG
        label = f"{group['operator']}, {group['machine']}, {group['num_gpus']} GPUs, {group['gpus_per_node']} a machine"
        regressors = [("curve", links.LinkCurveRegressor())]
        if baseline:
            regressors.append(("latency and bandwidth", links.LatencyBandwidthRegressor()))
        for model, regressor in regressors:
            predicted = regressor.fit(num_bytes[~held_out], seconds[~held_out]).predict(num_bytes)
            for name, chosen in (("from 1 MiB", long), ("below 1 MiB", ~long)):
                tested = held_out & chosen
                if tested.any():
                    key = {"device": device, "operator": label, "split": "sizes", "tokens": name, "model": model}
                    yield score(key, seconds[tested], predicted[tested])
