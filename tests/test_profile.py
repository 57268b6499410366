"""Fitted kernel times: regressors, profile files and predictions."""

import gzip
import importlib.util
import json
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from profiling.__main__ import main
from profiling.fit.piecewise_lines import cut
from profiling.fit.regressors import CorrectedPhysicsRegressor, TiledLinesRegressor, plain_trees
from profiling.tables import read_table
from simulator import simulate
from simulator.config import component, load_config
from simulator.iteration_time import CorrectedPhysics, Extent, MatMul, Profile, ProfileKernels, load_profile
from simulator.iteration_time.device_profile import SHIPPED, SUFFIX
from simulator.replica import Batch
from tests.helpers import A100, REPOSITORY, SHARED, needs_shared

DEVICES = ("a100_80gb", "a40", "h100_sxm")


def test_plain_trees_predict_the_same_as_scikit_learn() -> None:
    from sklearn.ensemble import HistGradientBoostingRegressor

    random = np.random.default_rng(0)
    features = random.normal(size=(500, 4))
    target = features[:, 0] * np.sign(features[:, 1]) + random.normal(size=500) / 10
    boosted = HistGradientBoostingRegressor(max_iter=40, max_leaf_nodes=9).fit(features, target)
    assert plain_trees(boosted).predict(features) == pytest.approx(boosted.predict(features), abs=1e-9)


def test_piecewise_lines_break_only_at_the_steps() -> None:
    tokens = np.arange(8.0, 513.0, 8.0)
    seconds = 1e-4 * np.ceil(tokens / 128) + 1e-8 * tokens
    assert len(cut(tokens, seconds, 1e-3)) == 4
    fitted = TiledLinesRegressor().fit(tokens[:, None], seconds)
    assert fitted.model_.last.tolist() == [128, 256, 384, 512]
    between = np.array([[129.0], [257.0], [384.0]])
    assert fitted.predict(between) == pytest.approx([2.0129e-4, 3.0257e-4, 3.0384e-4], rel=1e-3)


def test_coefficients_are_recovered_and_survive_a_round_trip_through_json() -> None:
    random = np.random.default_rng(0)
    terms = random.uniform(1e-6, 1e-3, size=(300, 2))
    features = np.log2(terms)
    seconds = terms @ [1.5, 0.5]
    physics = CorrectedPhysicsRegressor(2, max_iter=0).fit(np.hstack([terms, features]), seconds)
    assert physics.model_.coefficients == pytest.approx([1.5, 0.5], rel=1e-6)
    corrected = CorrectedPhysicsRegressor(2, max_iter=20).fit(np.hstack([terms, features]), seconds).model_
    loaded = CorrectedPhysics.from_json(json.loads(json.dumps(corrected.to_json())))
    assert loaded.predict(terms, features) == pytest.approx(corrected.predict(terms, features), rel=1e-4)


@pytest.mark.parametrize("name", sorted(path.name.removesuffix(SUFFIX) for path in SHIPPED.glob("*" + SUFFIX)))
def test_shipped_profiles_state_their_source_and_are_small(name: str) -> None:
    path = SHIPPED / f"{name}.json.gz"
    about = load_profile(path).about
    assert path.stat().st_size < 2_000_000
    assert {"source", "licence", "date", "engine_generation", "errors", "notes"} <= set(about)
    assert {error["split"] for error in about["errors"]} & {"shape", "tokens"}
    assert ("derived" in " ".join(about["notes"])) == (name == "a40")


@pytest.mark.parametrize(("tokens", "step"), [(256, 1.2), (384, 1.25)])
def test_one_token_beyond_a_tile_costs_the_next_step(tokens: int, step: float) -> None:
    kernels = ProfileKernels(load_profile(SHIPPED / "a100_80gb.json.gz"), A100)
    gate_up = MatMul("gate_up_proj", 8192, 14336)  # Llama2-70B, TP4
    full, beyond = kernels.matmul_time(gate_up, np.array([tokens, tokens + 1.0]))
    assert beyond / full > step


@pytest.mark.parametrize("name", DEVICES)
def test_times_grow_beyond_the_measured_range(name: str) -> None:
    times = load_config(f"device={name}", "engine=none")["deployment"].stage_times()
    prefills = [sum(times(Batch.of([(count, 0)], []))) for count in (4096, 16384, 65536)]
    assert prefills[0] * 3 < prefills[1] < prefills[2] / 3
    decodes = [sum(times(Batch.of([], [(200, context)]))) for context in (4000, 16000, 64000)]
    assert decodes[0] < decodes[1] < decodes[2]


def test_decode_attention_is_never_faster_than_the_memory_bandwidth() -> None:
    kernels = ProfileKernels(load_profile(SHIPPED / "a100_80gb.json.gz"), A100)
    from simulator.iteration_time import Attention

    table = kernels.attention_times(Attention(40, 40, 128))
    for count in (8, 64, 128):
        num_bytes = 2 * 2 * 40 * 128 * count * 4000
        assert table.decode_time(count, count * 4000) >= 0.999 * num_bytes / (0.85 * 1935e9)


def test_a_device_without_a_profile_warns_and_uses_the_roofline() -> None:
    arguments = load_config("device=h200_sxm", "trace=fixed", "trace.num_requests=5")
    deployment = arguments["deployment"]
    unmeasured = replace(deployment, device=replace(deployment.device, profiles={}))
    result = simulate(**arguments | {"deployment": unmeasured})
    assert any("no kernel times were measured for h200_sxm" in warning for warning in result.summary["warnings"])
    assert result.summary["iteration_time"]["sources"] == ["roofline of h200_sxm"]


def test_a_device_without_kernels_of_the_engine_warns_and_uses_others() -> None:
    arguments = load_config("device=a40", "engine=vllm_v1", "trace=fixed", "trace.num_requests=5")
    warnings = simulate(**arguments).summary["warnings"]
    assert any("kernel times of sarathi_serve are used for those of vllm, on a40" in line for line in warnings)


def test_times_beyond_the_measurements_are_reported() -> None:
    within = simulate(**load_config("trace=fixed", "trace.num_requests=5")).summary
    assert (within["iteration_time"]["beyond_measured"], within["warnings"]) == ({}, [])
    beyond = simulate(**load_config("trace=fixed", "trace.num_requests=5", "trace.prompt_tokens=9000")).summary
    assert beyond["iteration_time"]["beyond_measured"]["prefill_tokens"] == {"used": 9000, "measured": 4096}
    assert "prompts of 9,000 tokens (measured to 4,096; error up to 4x beyond: " in beyond["warnings"][-1]


@pytest.mark.parametrize(
    "content", [b"", b"no gzip", *(gzip.compress(text, mtime=0) for text in (b"[1]", b"{}", b'{"schema": 9}'))]
)
def test_an_invalid_profile_file_is_named(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "own.json.gz"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=r"own\.json\.gz"):
        Profile(path=str(path)).kernels(component("device", "a40"))


def test_the_measured_extent_is_that_of_the_shipped_measurements() -> None:
    measured = load_profile(SHIPPED / "a100_80gb.json.gz").measured
    assert replace(measured, batch_tokens=0) == Extent(0, 128, 4032, 4096)


@needs_shared
def test_published_measurements_are_imported_fitted_and_predicted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    main(["import", "vidur", str(SHARED / "data" / "vidur"), "--output", str(tmp_path)])
    assert "36,516 rows of matmul" in capsys.readouterr().out
    main(["host", str(tmp_path)])
    assert "0.00805" in capsys.readouterr().out
    main(["launch", str(SHARED / "data")])
    assert "0.000462" in capsys.readouterr().out
    main(["compare", str(SHARED / "data")])
    printed = capsys.readouterr().out
    medians = {
        cells[0]: float(cells[1])
        for cells in (re.split(r"  +", line.strip()) for line in printed.splitlines())
        if len(cells) > 3 and cells[1].replace(".", "").isdigit()
    }
    assert medians["Splitwise A100, one prompt"] < 10
    assert medians["Sarathi-Serve Yi-34B TP2, from 512 tokens"] < 10


def test_mistakes_of_the_profiling_command_are_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["fit", str(tmp_path), "--output", str(tmp_path)], ["host", str(tmp_path)], ["import", "vidur"]):
        with pytest.raises(SystemExit) as stop:
            main(arguments)
        assert stop.value.code == 2
        message = capsys.readouterr().err
        assert message.startswith("error: ")
        assert message.count("\n") == 1


def test_the_tables_of_aiconfigurator_are_imported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("aiconfigurator_core", reason="aiconfigurator-core is not installed")
    main(["import", "aiconfigurator", "--system", "a100_sxm", "--output", str(tmp_path)])
    assert "rows of matmul" in capsys.readouterr().out
    folder = tmp_path / "a100_80gb_sxm"
    matmuls = read_table(folder, "matmul")
    rates = 2 * matmuls["num_tokens"] * matmuls["k"] * matmuls["n"] / matmuls["seconds"] / 312e12
    assert 0.6 < rates.max() < 1
    messages = read_table(folder, "communication").sort_values("num_bytes").iloc[-1]
    assert 100e9 < 2 * 7 / 8 * messages["num_bytes"] / messages["seconds"] < 300e9


def test_a_missing_package_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if importlib.util.find_spec("aiconfigurator_core") is not None:
        pytest.skip("aiconfigurator-core is installed")
    with pytest.raises(SystemExit) as stop:
        main(["import", "aiconfigurator", "--system", "a100_sxm", "--output", str(tmp_path)])
    assert stop.value.code == 2
    assert "no package with measurements is installed" in capsys.readouterr().err


def test_without_scikit_learn_fitting_says_what_to_install(tmp_path: Path) -> None:
    hidden = "import sys; sys.modules['sklearn'] = None; from profiling.__main__ import main; main(sys.argv[1:])"
    arguments = ["fit", str(REPOSITORY / "profiling" / "measurements"), "--output", str(tmp_path)]
    done = subprocess.run(
        [sys.executable, "-c", hidden, *arguments], capture_output=True, text=True, check=False, cwd=REPOSITORY
    )
    assert done.returncode == 2
    assert done.stderr == "error: fitting needs scikit-learn: pip install 'llm-serving-simulator[fit]'\n"
    assert not list(tmp_path.iterdir())
