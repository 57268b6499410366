"""The bottlenecks of a run that its report names."""

import numpy as np
import pytest

from simulator import Result, simulate
from simulator.config import load_config
from simulator.results import bottlenecks, duration, utilisation
from simulator.schedulers import VLLM, FasterTransformer, Sarathi
from tests.helpers import serve


def limits_of(result: Result) -> dict[str, tuple[float, str]]:
    """Return the share and the text of each limit by its name."""
    return {limit.name: (limit.share, limit.text) for limit in bottlenecks(result)}


def test_queueing_is_the_share_of_ttft_spent_waiting() -> None:
    # One request at a time: the second request waits until the first one finishes.
    share, text = limits_of(serve([(0.0, 100, 50), (0.0, 100, 50)], FasterTransformer(max_num_seqs=1)))["queueing"]
    result = serve([(0.0, 100, 50), (0.0, 100, 50)], FasterTransformer(max_num_seqs=1))
    waited = result.requests["first_scheduled_s"].sum()
    assert share == pytest.approx(waited / result.requests["first_token_s"].sum())
    assert f"{share:.0%} of the time to first token" in text


def test_the_share_of_time_with_waiting_requests_is_exact() -> None:
    result = simulate(**load_config("scheduler=vllm", "trace=sharegpt", "trace.num_requests=80", "arrival.qps=3"))
    table = result.requests
    marks = np.unique(np.concatenate([table["arrival_s"], table["first_scheduled_s"]]))
    middle = (marks[:-1] + marks[1:]) / 2
    inside = (table["arrival_s"][:, None] < middle) & (middle < table["first_scheduled_s"][:, None])
    share = np.diff(marks)[inside.any(axis=0)].sum() / (result.end_s - table["arrival_s"].min())
    assert f"Requests waited {share:.0%} of the time" in limits_of(result)["KV memory"][1]


def test_waits_for_memory_are_distinguished_from_limits_of_the_policy() -> None:
    requests = [(0.0, 320, 100), (0.0, 320, 100)]
    tight = limits_of(serve(requests, VLLM(), num_blocks=30))["KV memory"]
    assert tight[0] > 0.4
    assert "too few blocks were free" in tight[1]
    alone = limits_of(serve(requests, VLLM(max_num_seqs=1), num_blocks=1000))["KV memory"]
    assert alone[0] == 0
    assert ": 0% because too few blocks were free" in alone[1]
    assert "hardly ever waited" in limits_of(serve(requests[:1], VLLM(), num_blocks=1000))["KV memory"][1]


def test_prefill_interference_is_the_time_that_prompts_add_between_tokens() -> None:
    requests = [(0.0, 16, 200), (1.0, 900, 5)]
    result = serve(requests, VLLM())
    share, text = limits_of(result)["prefill interference"]
    columns, end_s = result.replicas[0].logged.columns, result.replicas[0].logged.end_s
    prompt = int(columns["num_prefill_tokens"].argmax())
    added_s = end_s[prompt] - columns["start_s"][prompt]
    gaps = result.requests["completed_s"] - result.requests["first_token_s"]
    assert share == pytest.approx(added_s / gaps.sum(), rel=0.1)
    assert "of the slowest 1%" in text
    assert limits_of(serve(requests[:1], VLLM()))["prefill interference"][0] == 0


def test_host_overhead_is_a_share_of_the_busy_time() -> None:
    few = ("trace=sharegpt", "trace.num_requests=10", "iteration_time=roofline")
    result = simulate(**load_config(*few))
    without = simulate(**load_config(*few, "engine=none"))
    share, _ = limits_of(result)["host overhead"]
    (replica,) = result.replicas
    assert replica.provenance is not None
    assert replica.provenance.host is not None
    host, columns = replica.provenance.host, replica.logged.columns
    num_seqs = (columns["num_prefills"] + columns["num_decodes"]).sum()
    host_s = host.base_s * len(replica.logged.end_s) + host.per_seq_s * num_seqs
    assert share == pytest.approx(host_s / replica.stages[0].busy_s)
    assert 0.01 < share < 0.5
    assert limits_of(without)["host overhead"][0] == 0
    assert "host overhead" not in limits_of(serve([(0.0, 5, 5)], Sarathi()))  # affine times do not separate it


def test_time_in_which_the_gpu_waits_for_launches_is_reported() -> None:
    few = ("trace=fixed", "trace.prompt_tokens=2000", "trace.output_tokens=100", "trace.num_requests=5")
    result = simulate(**load_config(*few, "iteration_time=roofline", "arrival.qps=0.1"))
    (replica,) = result.replicas
    decodes = replica.logged.columns["num_prefills"] == 0  # one request at a time: launch-bound, as predict says
    length_s = replica.logged.end_s - replica.logged.columns["start_s"]
    share = length_s[decodes].sum() / length_s.sum()
    assert f"In {share:.0%} of it the GPU also waited for its kernels" in limits_of(result)["host overhead"][1]


def test_bubbles_count_pipelines_only() -> None:
    few = ("trace=sharegpt", "trace.num_requests=20", "arrival.qps=1")
    result = simulate(**load_config("model=yi_34b", "parallel.pp=4", "scheduler=vllm", *few))
    bubbles = {name: sum(shares) / 4 for name, shares in result.summary["bubbles"].items()}
    no_work = bubbles.pop("no_work")
    assert limits_of(result)["pipeline bubbles"][0] == pytest.approx(sum(bubbles.values()))
    assert f"had no work {no_work:.0%}" in utilisation(result)
    assert "pipeline bubbles" not in limits_of(simulate(**load_config(*few)))
    mixed = simulate(**load_config("cluster.groups=[{parallel: {pp: 2}}, {device: h100_sxm, replicas: 2}]", *few))
    pipeline = mixed.summary["replicas"][0]["stages"]
    idle = [sum(stage[name] for name in bubbles) for stage in pipeline]
    assert limits_of(mixed)["pipeline bubbles"][0] == pytest.approx(sum(idle) / 2)


def test_a_late_start_of_the_trace_does_not_change_the_limits() -> None:
    requests = [(index * 0.01, 320, 100) for index in range(8)]
    late = [(arrival_s + 100_000, *lengths) for arrival_s, *lengths in requests]
    from_zero, shifted = (limits_of(serve(rows, VLLM(), num_blocks=30))["KV memory"] for rows in (requests, late))
    assert from_zero[0] > 0.5
    assert shifted[0] == pytest.approx(from_zero[0], rel=1e-3)


def test_stuck_requests_count_as_waiting_for_memory() -> None:
    result = serve([(0.0, 64, 4), (0.1, 900, 4), (9.0, 16, 4)], VLLM(), num_blocks=20)
    assert result.summary["num_stuck"] == 2
    texts = limits_of(result)
    assert texts["KV memory"][0] > 0.9
    assert "2 requests wait forever" in texts["queueing"][1]
    assert "Fewer requests arrived" not in utilisation(result)


def test_the_mean_and_p99_wait_match_the_summary() -> None:
    result = serve([(0.0, 64, 4), (0.1, 900, 4), (9.0, 16, 4)], VLLM(), num_blocks=20)
    delay = result.summary["scheduling_delay_s"]
    assert (
        f"waited {duration(delay['mean'])} on average (P99 {duration(delay['p99'])})"
        in limits_of(result)["queueing"][1]
    )


def test_limits_are_sorted_and_have_levels() -> None:
    result = serve([(0.0, 100, 50), (0.0, 100, 50)], FasterTransformer(max_num_seqs=1))
    shares = [limit.share for limit in bottlenecks(result)]
    assert shares == sorted(shares, reverse=True)
    for limit in bottlenecks(result):
        assert limit.level == ("strong" if limit.share >= 0.2 else "some" if limit.share >= 0.05 else "none")
