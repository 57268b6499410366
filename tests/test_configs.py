"""Every YAML file runs, defaults are the documented ones, and errors name the key."""

import pytest

from simulator import MetricOptions, Result
from simulator.capacity import load_capacity
from simulator.config import CONFIG_DIR, GROUPS, ConfigError, choices, load_config
from simulator.iteration_time import Profile
from simulator.model import EngineOverhead
from simulator.schedulers import VLLM, DynamicChunks, Sarathi
from simulator.simulation import simulate

CHOICES = [(group, name) for group in [*GROUPS, "cluster.router", "cluster.node"] for name in choices(group)]
TOP_LEVEL = {"base", "trials", "config", "predict", "capacity", "token_budget", "search"}
NEEDS = {
    ("trace", "csv"): ["trace.path={file}"],
    ("trace", "file"): ["trace.path={file}"],
    ("trace", "empirical"): ["trace.path={file}"],
    ("arrival", "sessions"): ["trace=sharegpt_sessions"],
    ("arrival", "trace"): ["trace=csv", "trace.path={file}"],
    ("device", "cpu"): ["model=llama_small", "engine=torch_loop", "trace=fixed"],
    ("engine", "torch_loop"): ["model=llama_small", "device=cpu", "trace=fixed"],
    ("model", "hf"): ["model.path={model}"],
    ("model", "llama_small"): ["trace=fixed"],
    ("model", "llama2_70b"): ["parallel.tp=4"],
    ("model", "llama3_70b"): ["parallel.tp=4"],
    ("model", "yi_34b"): ["parallel.tp=2"],
    ("model", "codellama_34b"): ["parallel.tp=2"],
    ("model", "falcon_180b"): ["parallel.tp=4", "parallel.pp=2"],
}


@pytest.mark.parametrize(("group", "name"), CHOICES, ids=lambda value: value)
def test_every_configuration_file_runs(group: str, name: str, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("trace") / "trace.csv"
    file.write_text("prompt_tokens,output_tokens,arrival_s\n" + "300,5,0.5\n" * 20)
    model = file.with_name("config.json")
    model.write_text(
        '{"model_type": "qwen2", "hidden_size": 896, "intermediate_size": 4864, "num_hidden_layers": 24, '
        '"num_attention_heads": 14, "num_key_value_heads": 2, "vocab_size": 151936, '
        '"max_position_embeddings": 32768}'
    )
    needed = [override.format(file=file, model=model) for override in NEEDS.get((group, name), [])]
    if group == "slo":
        bound = [] if name != "none" else ["slo.tbt_p99=1"]
        assert load_capacity(f"slo={name}", *bound).experiment.slo.objectives
        return
    result: Result = simulate(**load_config(f"{group}={name}", *needed, "trace.num_requests=20"))
    assert result.summary["num_finished"] == 20


def test_every_file_belongs_to_a_group() -> None:
    files = {path.relative_to(CONFIG_DIR).with_suffix("").as_posix() for path in CONFIG_DIR.rglob("*.yaml")}
    assert files == {f"{group.replace('.', '/')}/{name}" for group, name in CHOICES} | TOP_LEVEL


def test_defaults_are_the_documented_ones() -> None:
    built = load_config()
    deployment = built["deployment"]
    assert deployment.scheduler == Sarathi(token_budget=512, max_num_seqs=128, dynamic_chunks=DynamicChunks(stages=0))
    assert deployment.iteration_time == Profile(path=None)
    assert deployment.engine == load_config("engine=sarathi_serve")["deployment"].engine
    assert load_config("engine=none")["deployment"].engine == EngineOverhead(hosts=None)
    assert (deployment.model.name, deployment.model.max_model_len) == ("mistral_7b", 16384)
    assert (deployment.device.name, deployment.parallel.tp, deployment.parallel.pp) == ("a100_80gb", 1, 1)
    assert (deployment.kv_cache.block_size, deployment.kv_cache.num_blocks) == (16, None)
    assert (deployment.kv_cache.watermark, deployment.kv_cache.memory_utilization) == (0.01, 0.85)
    assert deployment.num_replicas == 1
    assert len(built["trace"]) == 512
    assert built["metrics"] == MetricOptions(warmup_s=0, zero_first_gap=False)
    assert (built["time_limit_s"], built["log_members"]) == (None, False)
    for name, seqs in (("vllm", 128), ("orca", 16), ("faster_transformer", 16)):
        assert load_config(f"scheduler={name}")["deployment"].scheduler.max_num_seqs == seqs
    assert load_config("scheduler=vllm")["deployment"].scheduler == VLLM(max_num_batched_tokens=None)


def test_the_default_load_is_below_the_capacity_of_the_default_deployment() -> None:
    (warning,) = simulate(**load_config()).summary["warnings"]
    assert warning.startswith("iteration time is extrapolated: ")


def test_a_choice_means_the_same_with_and_without_a_plus() -> None:
    assert load_config("+scheduler=vllm", "+trace=fixed")["deployment"] == load_config("scheduler=vllm")["deployment"]


def test_a_user_defined_policy_needs_only_its_target() -> None:
    built = load_config(
        "allow_targets=[tests]",
        "scheduler._target_=tests.test_python_api.ShortestPromptFirst",
        "~scheduler.token_budget",
        "~scheduler.dynamic_chunks",
    )
    assert type(built["deployment"].scheduler).__name__ == "ShortestPromptFirst"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["scheduler.token_budget=0"], "scheduler.token_budget must be an integer of at least 1 and below 2^31, got 0"),
        (
            ["scheduler.token_budget=abc"],
            "scheduler.token_budget must be an integer of at least 1 and below 2^31, got 'abc'",
        ),
        (["scheduler.dynamic_chunks.stages=-1"], "scheduler.dynamic_chunks.stages must be an integer of at least 0"),
        (["scheduler.dynamic_chunks=3"], "scheduler.dynamic_chunks has keys of its own"),
        (["arrival.qps=0"], "arrival.qps must be a number from 1e-6 to 1e9, or inf, got 0"),
        (["arrival.qps=nan"], "arrival.qps must be a number from 1e-6 to 1e9, or inf, got nan"),
        (["arrival=trace"], "arrival=trace needs a trace with arrival times"),
        (["trace=csv"], "trace.path has no default"),
        (["trace=csv", "trace.path=/nowhere.csv"], "trace.path: cannot read /nowhere.csv: No such file"),
        (["trace.num_requests=0"], "trace.num_requests must be an integer from 1 to 100000000, got 0"),
        (["trace.prompt=3"], "trace.prompt has keys of its own"),
        (["parallel.tp=3"], "parallel.tp=3 must divide the 32 query heads of mistral_7b"),
        (["parallel.tp=0"], "parallel.tp must be an integer of at least 1, got 0"),
        (["parallel=null"], "parallel has keys of its own"),
        (["kv_cache.watermark=1"], "kv_cache.watermark must be a number of at least 0 and below 1, got 1"),
        (["kv_cache.num_blocks=0"], "kv_cache.num_blocks must be an integer from 1 to 2147483648 or null, got 0"),
        (["cluster.replicas=0"], "cluster.replicas must be an integer from 1 to 10000, got 0"),
        (["seed=-1"], "seed must be an integer of at least 0, got -1"),
        (["time_limit_s=0"], "time_limit_s must be a finite number above 0 or null, got 0"),
        (["time_limit_s=inf"], "time_limit_s must be a finite number above 0 or null, got inf"),
        (["time_limit_s=[1,2]"], "time_limit_s must be a finite number above 0 or null"),
        (["iteration_time=affine", "iteration_time.base_s=1e306"], "iteration_time.base_s must be a number from 0 to"),
        (["iteration_time=affine", "iteration_time.base_s=true"], "iteration_time.base_s must be a number from 0 to"),
        (["device.peak_tflops=1e-320"], "device.peak_tflops must be a number from"),
        (["kv_cache.num_blocks=100000000000000000000"], "kv_cache.num_blocks must be an integer from 1 to"),
        (["trace=fixed", "trace.prompt_tokens=99999999999999999"], "trace.prompt_tokens must be an integer from 1 to"),
        (["trace.num_requests=999999999999999"], "trace.num_requests must be an integer from 1 to"),
        (["cluster.replicas=1000000000"], "cluster.replicas must be an integer from 1 to"),
        (["scheduler._target_=os.system"], "scheduler._target_=os.system is not in simulator or traces"),
        (
            ["model._target_=simulator.cli.hydra_command.run"],
            "model._target_=simulator.cli.hydra_command.run is not a class that can be imported",
        ),
        (
            ["scheduler._target_=foo.Bar"],
            "scheduler._target_=foo.Bar is not in simulator or traces; allow_targets=[foo]",
        ),
        (
            ["scheduler._target_=simulator.output.files.Path"],
            "scheduler._target_=simulator.output.files.Path is not a class",
        ),
        (
            ["scheduler._target_=traces.shared.atomic_files.os.system"],
            "scheduler._target_=traces.shared.atomic_files.os.system is not",
        ),
        (["allow_targets=os"], "allow_targets must be a list of packages, for example [my_package], got 'os'"),
        (["metrics.warmup_s=true"], "metrics.warmup_s must be a finite number of at least 0, got True"),
        (["output.batches=3"], "output.batches must be true or false, got 3"),
        (["output.parquet=iterations"], "output.parquet must be true or false, got 'iterations'"),
        (["output.log=null"], "output.log must be true or false, got None"),
        (["output.timeline=[0,10]"], "output.timeline must be true or false, got [0, 10]"),
        (["metrics.warmup_s=-1"], "metrics.warmup_s must be a finite number of at least 0, got -1"),
        (["cluster.node.links=[]"], "cluster.node.links must be a list of at least one Link"),
        (["model.max_model_len=0"], "model.max_model_len must be an integer from 1 to 1000000000"),
    ],
    ids=" ".join,
)
def test_values_out_of_range_are_named(overrides: list[str], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        load_config(*overrides)
    assert str(error.value).startswith(message)
    assert "\n" not in str(error.value)
