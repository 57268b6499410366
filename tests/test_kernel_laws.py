"""Laws of iteration times under today's kernels: every device, format and kind of batch."""

from itertools import pairwise

import numpy as np
import pytest

from simulator.cluster import Deployment
from simulator.config import load_config
from simulator.iteration_time import load_profile
from simulator.iteration_time.attention_inputs import AttentionCases
from simulator.iteration_time.attention_table import AttentionTable
from simulator.iteration_time.collectives import Collectives
from simulator.iteration_time.device_profile import SHIPPED
from simulator.iteration_time.operators import Attention
from simulator.replica import Batch, PrefillChunk

DEVICES = ("a100_80gb_sxm", "h100_sxm", "h200_sxm", "b200_sxm", "l40s", "rtx_pro_6000", "rtx4090")
BATCHES = (
    Batch.of([], [(1, 100)]),
    Batch.of([], [(300, 2000)]),
    Batch.of([(16, 0)] * 16, []),
    Batch.of([(512, 4000), (16, 0)], [(64, 1000)]),
    Batch.of([(8192, 0)], [(1, 5)]),
)
FORMATS = [(device, dtype) for device in DEVICES for dtype in load_profile(SHIPPED / f"{device}_vllm.json.gz").matmul]
# Measured rates exceed the data sheet's by no more than their noise.
TOLERANCE = 1.05


def deployment(*overrides: str) -> Deployment:
    served: Deployment = load_config("model=llama3_8b", "scheduler=vllm_v1", "trace.num_requests=1", *overrides)[
        "deployment"
    ]
    return served


@pytest.mark.parametrize(("device", "dtype"), FORMATS)
def test_every_kernel_takes_time_and_stays_below_the_peak_of_its_format(device: str, dtype: str) -> None:
    served = deployment(f"device={device}", f"model.dtype={dtype}")
    times = served.stage_times()
    for batch in BATCHES:
        operators = list(times.operators(batch, 0))
        assert sum(part.seconds_per_layer * part.layers for part in operators) == pytest.approx(
            times(batch)[0], rel=1e-9
        )
        for part in (part for part in operators if part.kind == "kernel"):
            assert part.seconds_per_layer > 0 or (part.name == "prefill_attention" and batch.num_decodes)
            peak = served.device.tflops(part.dtype) * 1e12
            if part.flops_per_layer:
                assert part.flops_per_layer / part.seconds_per_layer <= TOLERANCE * peak, part


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("num_decodes", [0, 32])
def test_more_chunks_never_take_less_time(device: str, num_decodes: int) -> None:
    times = deployment(f"device={device}").stage_times()
    decodes = [(num_decodes, 500)] if num_decodes else []
    for tokens, context in ((16, 0), (16, 1000), (256, 0)):
        seconds = [times(Batch.of([(tokens, context)] * count, decodes))[0] for count in range(1, 17)]
        # Measured products take less at some sizes than at smaller ones.
        assert all(more > 0.95 * less for less, more in pairwise(seconds))
        assert seconds[-1] > seconds[0]


@pytest.mark.parametrize("device", DEVICES[:-1])
def test_equal_chunks_take_what_the_fit_says_of_as_many_sequences(device: str) -> None:
    profile = load_profile(SHIPPED / f"{device}_vllm.json.gz")
    attention = Attention(32, 8, 128)
    table = AttentionTable(profile, attention)
    for count, tokens, context in ((16, 16, 0), (16, 64, 0), (8, 256, 1024), (2, 1024, 0)):
        one = np.ones(1)
        cases = AttentionCases(attention, count * one, tokens * one, context * one)
        (fitted_s,) = profile.attention["bf16"].prefill.predict(profile.gpu, cases)
        chunks = [PrefillChunk(request, tokens, context) for request in range(count)]
        assert table.add_prefills(0.0, chunks, False) == pytest.approx(fitted_s, rel=0.05)


@pytest.mark.parametrize("tp", [2, 4, 8])
def test_the_engine_reduces_on_its_own_path_and_others_by_nccl(tp: int) -> None:
    served = deployment("device=h100_sxm", f"parallel.tp={tp}")
    vllm = Collectives(served.layout, served.engine)
    old = Collectives(served.layout, load_config(f"parallel.tp={tp}", "device=h100_sxm")["deployment"].engine)
    for num_bytes in (1 << 15, 1 << 18, 1 << 21):
        assert vllm.all_reduce_time(float(num_bytes)) < old.all_reduce_time(float(num_bytes))
    far = float(1 << 34)  # beyond all measurements
    assert vllm.all_reduce_time(far) == pytest.approx(old.all_reduce_time(far), rel=0.3)
