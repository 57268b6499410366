"""In-engine factors of operators, host time, and CUDA graphs."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from profiling.device.environment import CPU
from profiling.fit.host_overhead import host_time
from profiling.fit.in_engine_factors import KNOTS, iterations_of, with_in_engine
from profiling.measure.iterations import engine_cases
from profiling.tables import Header, columns_of, write_table
from simulator.config import load_config
from simulator.iteration_time import DeviceProfile, InEngine, StageTimes, load_profile
from simulator.iteration_time.composed import padded_sizes
from simulator.iteration_time.device_profile import SHIPPED
from simulator.model import EngineOverhead, HostTime
from simulator.replica import Batch

MODEL = load_config("model=llama_small")["deployment"].model
SMALL = ("model=llama_small", "device=cpu", "engine=none", "kv_cache.num_blocks=100")


def cpu_profile() -> DeviceProfile:
    return replace(load_profile(SHIPPED / "cpu.json.gz"), in_engine=InEngine())


def header(folder: Path) -> None:
    Header("cpu", "made up", "none", "2026-01-01", "none", 2, 2.6, 27).write(folder)


def write_iterations(folder: Path, seconds: np.ndarray[tuple[int], np.dtype[np.float64]] | None = None) -> None:
    header(folder)
    cases = [case.values for case in engine_cases(MODEL, CPU, False, 2048) if case.family == "iteration"]
    rows = pd.DataFrame(cases, columns=columns_of("iteration")[1:-4]).sort_values(columns_of("iteration")[1:-4])
    times = np.ones(len(rows)) if seconds is None else seconds
    measures = {"seconds": times, "seconds_min": times, "seconds_std": 0, "library": "x"}
    write_table(folder, "iteration", rows.assign(device="cpu", **measures))


def test_the_fit_recovers_the_factors_of_the_iterations(tmp_path: Path) -> None:
    profile = cpu_profile()
    write_iterations(tmp_path)
    parts = iterations_of(profile, tmp_path).parts
    true = np.concatenate([1.6 - 0.05 * np.arange(len(KNOTS)), [1.2, 0.9]])
    write_iterations(tmp_path, parts @ true)
    fitted = with_in_engine(profile, tmp_path)
    assert fitted.in_engine.prefill_attention == pytest.approx(1.2, abs=0.1)
    assert fitted.in_engine.decode_attention == pytest.approx(0.9, abs=0.1)
    assert fitted.in_engine.times(np.array([8.0, 256.0])) == pytest.approx([1.45, 1.2], abs=0.1)
    assert "52 iterations" in fitted.about["notes"][-1]
    again = DeviceProfile.from_json(fitted.to_json())
    assert again.in_engine.times(np.array([100.0])) == pytest.approx(fitted.in_engine.times(np.array([100.0])))


def test_a_few_outliers_do_not_change_the_factors(tmp_path: Path) -> None:
    profile = cpu_profile()
    write_iterations(tmp_path)
    parts = iterations_of(profile, tmp_path).parts
    seconds = parts @ np.full(parts.shape[1], 1.2)
    seconds[::13] *= 1.5  # four of 52
    write_iterations(tmp_path, seconds)
    factors = with_in_engine(profile, tmp_path).in_engine
    assert factors.times(np.array([4.0, 64.0, 1024.0])) == pytest.approx(1.2, abs=0.03)


def test_without_iterations_the_factors_are_one(tmp_path: Path) -> None:
    header(tmp_path)
    profile = cpu_profile()
    assert with_in_engine(profile, tmp_path) is profile
    assert profile.in_engine.times(np.array([1.0, 5000.0])).tolist() == [1.0, 1.0]


def test_factors_are_interpolated_over_the_logarithm_of_tokens() -> None:
    factors = InEngine(tokens=[4.0, 16.0], factors=[1.0, 2.0])
    assert factors.times(np.array([1.0, 4.0, 8.0, 16.0, 99.0])).tolist() == [1.0, 1.0, 1.5, 2.0, 2.0]
    for wrong in (
        {"tokens": [2.0, 1.0], "factors": [1.0, 1.0]},
        {"tokens": [1.0], "factors": []},
        {"decode_attention": 0.0},
    ):
        with pytest.raises(ValueError, match="in_engine"):
            InEngine(**wrong)  # type: ignore[arg-type]


def test_host_time_is_the_sum_of_the_parts_that_the_gpu_waits_for(tmp_path: Path) -> None:
    header(tmp_path)
    parts = {"schedule": (20, 1), "prepare_inputs": (100, 3), "synchronize": (30, 0), "process_outputs": (10, 1)}
    rows = [
        ("cpu", "llama_small", 1, operator, batch, 1e-6 * (base + per_seq * batch), 0, 0, "x")
        for operator, (base, per_seq) in (*parts.items(), ("launch_kernels", (400, 0)), ("launch_graph", (90, 0)))
        for batch in (1, 8, 64)
    ]
    write_table(tmp_path, "host", pd.DataFrame(rows, columns=columns_of("host")))
    host = host_time(tmp_path)
    assert host.base_s == pytest.approx(160e-6)
    assert host.per_seq_s == pytest.approx(5e-6)
    assert host.launch_per_layer_s == pytest.approx(200e-6)  # two layers
    assert host.launch_graph_s == pytest.approx(90e-6)


# --- CUDA graphs -----------------------------------------------------------------------------------------


def times_with(
    sizes: list[int], launch_per_layer_s: float = 0.0, launch_graph_s: float = 0.0, pp: int = 1
) -> StageTimes:
    overrides = [*SMALL[:1], f"parallel.pp={pp}", "kv_cache.num_blocks=100"]
    deployment = load_config(*overrides)["deployment"]
    host = HostTime(launch_per_layer_s=launch_per_layer_s, launch_graph_s=launch_graph_s)
    engine = EngineOverhead({"default": host}, decode_graph_sizes=sizes)
    times: StageTimes = deployment.iteration_time.for_layout(deployment.layout, engine)
    return times


def decodes(count: int, context: int = 1000) -> Batch:
    return Batch.of([], [(count, context)])


def test_decodes_are_padded_to_the_next_captured_size() -> None:
    assert padded_sizes([2, 4]) == [2, 2, 2, 4, 4]
    assert padded_sizes([]) == []
    plain, captured = times_with([]), times_with([4, 16])

    def linear_s(times: StageTimes, batch: Batch) -> float:
        assert times.operators is not None
        operators = [operator for operator in times.operators(batch, 0) if operator.name != "decode_attention"]
        return sum(operator.seconds_per_layer * operator.layers for operator in operators)

    assert linear_s(captured, decodes(5)) == pytest.approx(linear_s(plain, decodes(16)))
    assert linear_s(captured, decodes(16)) == pytest.approx(linear_s(plain, decodes(16)))
    assert linear_s(captured, decodes(17)) == pytest.approx(linear_s(plain, decodes(17)))
    (padded_s,), (alone_s,) = captured(decodes(5)), plain(decodes(5))
    attention = next(row for row in captured.operators(decodes(5), 0) if row.name == "decode_attention")
    assert padded_s == pytest.approx(linear_s(plain, decodes(16)) + attention.seconds_per_layer * attention.layers)
    assert padded_s > alone_s
    hybrid = Batch.of([(100, 0)], [(5, 1000)])
    assert captured(hybrid) == plain(hybrid)


def test_a_captured_batch_waits_for_its_graph_launch_and_others_for_kernel_launches() -> None:
    times = times_with([8], launch_per_layer_s=0.5, launch_graph_s=0.25)
    assert times(decodes(3))[0] == pytest.approx(0.25)
    assert times(decodes(9))[0] == pytest.approx(1.0)
    assert times(Batch.of([(10, 0)], []))[0] == pytest.approx(1.0)


@pytest.mark.parametrize("pp", [1, 2])
def test_operators_of_a_captured_batch_add_up_to_its_time(pp: int) -> None:
    times = times_with([8, 64], launch_per_layer_s=1e-5, launch_graph_s=2e-5, pp=pp)
    for batch in (decodes(3), decodes(40), decodes(65), Batch.of([(30, 10)], [(3, 50)])):
        operators = [operator for stage in range(pp) for operator in times.operators(batch, stage)]
        assert sum(operator.seconds_per_layer * operator.layers for operator in operators) == pytest.approx(
            sum(times(batch))
        )


@pytest.mark.parametrize("sizes", [[0], [True], "12", [4, 4], [4, 2], [1.5], 3])
def test_sizes_that_cannot_be_captured_are_refused(sizes: object) -> None:
    with pytest.raises(ValueError, match=r"decode_graph_sizes.* must"):
        EngineOverhead(decode_graph_sizes=sizes)  # type: ignore[arg-type]
