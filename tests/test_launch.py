"""Launches of engines: from a command line or a manifest to a deployment, and back."""

import json
import re
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from simulator.cluster import Deployment
from simulator.config import ConfigError, choices, load_config, published_models
from simulator.launch import Launch, launch_lines, planning_lines, read_file, read_words, with_launch
from simulator.model import Model
from tests.helpers import command
from traces import Trace

VLLM_MODELS = sorted({model.choice for model in published_models().values()})


def composed(line: str, *overrides: str) -> Deployment:
    """Compose the deployment of a command line."""
    arguments, _ = with_launch([*overrides, "trace.num_requests=1", "--", *shlex.split(line)])
    return deployment(*arguments)


def deployment(*overrides: str) -> Deployment:
    loaded: Deployment = load_config("trace.num_requests=1", *overrides)["deployment"]
    return loaded


def overrides_of(line: str) -> list[str]:
    return read_words(shlex.split(line)).overrides()


def test_a_command_line_composes_what_its_options_say() -> None:
    launched = composed(
        "vllm serve Qwen/Qwen3-32B -tp 4 --max-num-batched-tokens 8192 --max_num_seqs=512 --gpu-memory-utilization 0.9",
        "device=h100",
    )
    assert launched == deployment(
        *("model=qwen3_32b", "device=h100_sxm", "parallel.tp=4", "scheduler=vllm_v1", "model.max_model_len=40960"),
        *("scheduler.max_num_batched_tokens=8192", "scheduler.max_num_seqs=512", "kv_cache.memory_utilization=0.9"),
    )


def test_without_options_the_engine_has_the_defaults_of_the_device_and_the_positions_of_the_model() -> None:
    for device in ("h100_sxm", "l40s"):
        launched = composed("vllm serve meta-llama/Meta-Llama-3-8B", f"device={device}")
        given = ("model=llama3_8b", "model.max_model_len=8192", "scheduler=vllm_v1", f"device={device}")
        assert launched == deployment(*given)


@pytest.mark.parametrize(
    ("options", "settings"),
    [
        ("-pp 2 -dp 2", "parallel.pp=2 cluster.replicas=2 cluster.router=least_outstanding_requests"),
        ("--max-model-len 32K --max-num-batched-tokens 1k", "scheduler.max_num_batched_tokens=1000"),
        ("--no-enable-prefix-caching", "kv_cache.prefix_caching=false"),
        ("--enable-prefix-caching true", "kv_cache.prefix_caching=true"),
        ("--enable-prefix-caching=False", "kv_cache.prefix_caching=false"),
        ("--scheduling-policy priority", "scheduler.policy=priority"),
        ("--gpu-memory-util 0.8", "kv_cache.memory_utilization=0.8"),
        ("--long-prefill-token-threshold 512", "scheduler.long_prefill_token_threshold=512"),
        ("--no-async-scheduling", "engine=vllm_v1_sync"),
        ("--num-gpu-blocks-override=1000 --block-size=32", "kv_cache.block_size=32 kv_cache.num_blocks=1000"),
        ("--kv-cache-dtype fp8_e4m3", "kv_cache.dtype=fp8"),
        ("-q fp8", "model.dtype=fp8"),
        ("--dtype half", "model.dtype=fp16"),
        ("--enforce-eager", "engine.decode_graph_sizes=[] engine.memory.graph_mib_per_layer=0"),
        ("-cc.cudagraph_mode=NONE", "engine.decode_graph_sizes=[] engine.memory.graph_mib_per_layer=0"),
        ("--cudagraph-capture-sizes 8 1 4 --port 80", "engine.decode_graph_sizes=[1,4,8]"),
        ("--max-cudagraph-capture-size 20", "engine.decode_graph_sizes=[1,2,4,8,16]"),
        ('--compilation-config {"cudagraph_capture_sizes":[2,4]}', "engine.decode_graph_sizes=[2,4]"),
        ("--compilation-config.cudagraph_mode FULL_DECODE_ONLY", "engine.mixed_graphs=false"),
        ("--max-num-seqs 4", "scheduler.max_num_seqs=4 engine.decode_graph_sizes=[1,2,4,8]"),
    ],
)
def test_options_become_settings(options: str, settings: str) -> None:
    given = read_words(["vllm", "serve", "Qwen/Qwen3-32B", *options.split()]).overrides()
    assert set(settings.split()) <= set(given)


def test_defaults_that_depend_on_other_options_are_those_of_vllm() -> None:
    few_tokens = composed("vllm serve Qwen/Qwen3-32B -tp 4 --max-num-batched-tokens 512", "device=h100")
    assert vars(few_tokens.scheduler)["max_num_seqs"] == 512
    few_tokens = composed("vllm serve Qwen/Qwen3-32B -tp 8 --max-num-batched-tokens 512", "device=l40s")
    assert vars(few_tokens.scheduler)["max_num_seqs"] == 256
    whole = composed("vllm serve Qwen/Qwen3-32B -tp 4 --no-enable-chunked-prefill", "device=h100")
    assert vars(whole.scheduler)["max_num_batched_tokens"] == 40960
    whole = composed("vllm serve Qwen/Qwen3-32B -tp 4 --no-enable-chunked-prefill --max-model-len 4k", "device=h100")
    assert vars(whole.scheduler)["max_num_batched_tokens"] == 8192


@pytest.mark.parametrize(
    "line",
    [
        "VLLM_USE_V1=1 HF_HOME=/x vllm serve Qwen/Qwen3-32B -tp 4",
        "env A=b /usr/local/bin/vllm serve Qwen/Qwen3-32B --tensor-parallel-size=4",
        "python3 -m vllm.entrypoints.openai.api_server --model Qwen/Qwen3-32B --tensor-parallel-size 4",
        "nohup vllm serve --model=qwen/qwen3-32b --tensor_parallel_size 4",
        "docker run --gpus all -p 8000:8000 vllm/vllm-openai:v0.21.0 --model Qwen/Qwen3-32B -tp=4",
        "docker run --name vllm-openai --gpus all vllm/vllm-openai:latest --model Qwen/Qwen3-32B -tp 4",
        "sudo docker run -itd --rm -p8000:8000 -eA=b -e B=c vllm/vllm-openai vllm serve Qwen/Qwen3-32B -tp 4",
        "podman run --init --ipc=host --entrypoint vllm my/image serve Qwen/Qwen3-32B -tp 4",
        "python3 -m dynamo.vllm --model Qwen/Qwen3-32B --tensor-parallel-size 4",
        "vllm serve --served-model-name=q Qwen/Qwen3-32B -tp 4",
    ],
)
def test_a_command_is_found_behind_prefixes_and_in_other_forms(line: str) -> None:
    assert overrides_of(line) == overrides_of("vllm serve Qwen/Qwen3-32B -tp 4")


def test_options_without_an_effect_are_silent_and_others_are_named() -> None:
    silent = "--port 80 --api-key x --served-model-name a b --trust-remote-code --seed 3 --disable-log-requests -O3"
    launch = read_words(shlex.split(f"vllm serve Qwen/Qwen3-32B {silent} --stream-interval 1 --no-enable-lora"))
    assert (list(launch.not_simulated), dict(launch.settings)) == ([], {"scheduler": "vllm_v1"})
    slower = "--disable-frontend-multiprocessing --disable-cascade-attn --model-impl transformers --numa-bind"
    launch = read_words(shlex.split(f"vllm serve Qwen/Qwen3-32B {slower} --tokenizer-mode auto"))
    assert sorted(launch.not_simulated) == sorted(word for word in slower.split() if word.startswith("--"))
    other = "--enable-lora --speculative-config {} --stream-interval 4 --lora-modules a=b c=d -O0"
    launch = read_words(shlex.split(f"vllm serve Qwen/Qwen3-32B {other}"))
    assert sorted(name.removeprefix("--") for name in launch.not_simulated) == [
        *("enable-lora", "lora-modules", "optimization-level", "speculative-config", "stream-interval")
    ]


SCRIPT = """#!/bin/bash
set -e
export MODEL="Qwen/Qwen3-32B"  # the model
PORT=8000
# vllm serve other/model
CUDA_VISIBLE_DEVICES=0,1 vllm serve $MODEL \\
    --tensor-parallel-size ${TP:-2} \\
    --port "$PORT" \\
    --override-generation-config '{"temperature": 0.6, "a": [1, 2]}' \\
    --max-model-len 8192 > server.log 2>&1 &
sleep 3; echo done
"""


def test_a_script_may_have_continuations_variables_comments_and_other_commands(tmp_path: Path) -> None:
    path = tmp_path / "serve.sh"
    path.write_text(SCRIPT)
    expected = overrides_of("vllm serve Qwen/Qwen3-32B -tp 2 --max-model-len 8192")
    assert read_file(str(path)).overrides() == expected


def test_comments_and_redirections_of_a_script_are_outside_of_quotes(tmp_path: Path) -> None:
    path = tmp_path / "serve.sh"
    path.write_text(
        "# don't\nvllm serve Qwen/Qwen3-32B --chat-template \"a # b > c; d\" --max-num-seqs 2 >>'my log' 2>&1  # it's\n"
        "echo '\n# vllm serve other/model' >x\n"
    )
    assert read_file(str(path)).overrides() == overrides_of("vllm serve Qwen/Qwen3-32B --max-num-seqs 2")


@pytest.mark.parametrize(
    "service",
    [
        {"command": "--model ${MODEL:-Qwen/Qwen3-32B} --tensor-parallel-size 2"},
        {"command": ["Qwen/Qwen3-32B", "--tensor-parallel-size", 2]},
        {"command": "--model $${NAME} -tp $$TP", "environment": {"NAME": "Qwen/Qwen3-32B", "TP": 2}},
        {"command": "vllm serve $${NAME} -tp 2", "environment": ["NAME=${MODEL:-Qwen/Qwen3-32B}", "HF_TOKEN"]},
        {"image": "my/image", "entrypoint": ["bash", "-c"], "command": ["exec vllm serve Qwen/Qwen3-32B -tp 2"]},
    ],
)
def test_a_file_of_docker_compose_has_the_arguments_of_the_image(service: dict[str, object], tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    base = {"image": "${IMAGE:-vllm/vllm-openai:v0.21.0}", "deploy": {"replicas": 2}, "ports": ["8000:8000"]}
    services = {"vllm": base | service, "web": {"image": "nginx", "command": "nginx -g x"}}
    path.write_text(yaml.safe_dump({"x-common": base | service, "services": services}))
    expected = [*overrides_of("vllm serve Qwen/Qwen3-32B -tp 2"), "cluster.replicas=2"]
    assert sorted(read_file(str(path)).overrides()) == sorted(expected)


def test_a_variable_of_docker_compose_without_a_value_is_one_line(tmp_path: Path) -> None:
    path = tmp_path / "compose.yaml"
    for variable in ("${MODEL}", "${MODEL:?set it}"):
        path.write_text(
            yaml.safe_dump({"services": {"v": {"image": "vllm/vllm-openai", "command": ["--model", variable]}}})
        )
        with pytest.raises(ConfigError, match=r"has the variable \$\{MODEL.*\}, whose value is not known"):
            read_file(str(path))


def manifest(**container: object) -> dict[str, object]:
    """Return a Deployment of Kubernetes with one container."""
    pod = {"containers": [{"name": "server", **container}, {"name": "proxy", "command": ["envoy"]}]}
    spec = {"replicas": 3, "template": {"spec": pod}}
    return {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "qwen"}, "spec": spec}


ARGUMENTS = ["Qwen/Qwen3-32B", "--tensor-parallel-size", "2"]


@pytest.mark.parametrize(
    "document",
    [
        manifest(command=["vllm", "serve"], args=ARGUMENTS),
        manifest(command=["/bin/sh", "-c"], args=["exec vllm serve Qwen/Qwen3-32B \\\n  --tensor-parallel-size $TP\n"])
        | {"x": 1},
        manifest(image="vllm/vllm-openai:v0.21.0", args=["--model", *ARGUMENTS]),
        manifest(command=["vllm", "serve", "$(MODEL)", "-tp", "2"]),
        manifest(command=["vllm", "serve", "/mnt/models", "-tp=2"]) | {"model": {"uri": "hf://Qwen/Qwen3-32B"}},
        {  # Dynamo
            "kind": "DynamoGraphDeployment",
            "spec": {
                "services": {
                    "Frontend": {"replicas": 1, "extraPodSpec": {"mainContainer": {"command": ["dynamo"]}}},
                    "Worker": {
                        "replicas": 3,
                        "extraPodSpec": {
                            "mainContainer": {
                                "command": ["python3", "-m", "dynamo.vllm"],
                                "args": ["--model", "Qwen/Qwen3-32B", "--tensor-parallel-size", "2"],
                            }
                        },
                    },
                }
            },
        },
        {  # KServe
            "kind": "LLMInferenceService",
            "spec": {"replicas": 3, "template": {"containers": [{"command": ["vllm", "serve"], "args": ARGUMENTS}]}},
        },
    ],
)
def test_a_manifest_gives_the_launch_and_its_replicas(document: dict[str, object], tmp_path: Path) -> None:
    containers = document["spec"].get("template", {}).get("spec", {}).get("containers", [])  # type: ignore[attr-defined]
    for container in containers:
        container["env"] = [{"name": "MODEL", "value": "Qwen/Qwen3-32B"}, {"name": "TP", "value": "2"}, {"name": "X"}]
    path = tmp_path / "deployment.yaml"
    path.write_text(yaml.safe_dump_all([{"kind": "Service"}, document]))
    expected = [*overrides_of("vllm serve Qwen/Qwen3-32B -tp 2"), "cluster.replicas=3"]
    assert sorted(read_file(str(path)).overrides()) == sorted(expected)


def test_overrides_of_the_user_win_over_the_launch(tmp_path: Path) -> None:
    path = tmp_path / "serve.sh"
    path.write_text("vllm serve some/model --tensor-parallel-size 2 --dtype half --max-model-len 5000\n")
    arguments, notes = with_launch([f"serve={path}", "model=yi_34b", "parallel.tp=4", "device=h100"])
    launched = deployment(*arguments)
    assert (launched.model.name, launched.model.max_model_len, launched.parallel.tp) == ("yi_34b", 5000, 4)
    assert notes == ["launch: scheduler=vllm_v1 model.max_model_len=5000"]
    assert with_launch(["seed=1"]) == (["seed=1"], [])


def test_what_a_command_does_not_need_of_a_launch_is_named_and_left_out(tmp_path: Path) -> None:
    line = "vllm serve Qwen/Qwen3-32B -tp 4 -dp 2 --num-gpu-blocks-override 100 --max-num-batched-tokens 512"
    done = command(tmp_path, "simulator.predict", "device=h100", "decode=[[8,1000]]", "--", *line.split())
    assert done.returncode == 0
    assert "qwen3_32b" in done.stdout
    assert done.stderr.splitlines()[1] == (
        "not used by predict: kv_cache.num_blocks=100, cluster.replicas=2, cluster.router=least_outstanding_requests"
    )
    arguments, notes = with_launch(["--", *line.split()], "search")
    kept = {argument.partition("=")[0] for argument in arguments}
    assert not kept & {"parallel.tp", "cluster.replicas", "scheduler.max_num_batched_tokens", "scheduler.max_num_seqs"}
    assert notes[1] == "not used by search: parallel.tp=4, scheduler.max_num_batched_tokens=512, cluster.replicas=2"
    assert len(notes) == 2
    with pytest.raises(ConfigError, match="--no-enable-chunked-prefill: without chunks"):
        with_launch(["--", *line.split(), "--no-enable-chunked-prefill"], "search")


def test_more_sequences_than_default_tokens_are_refused_as_by_vllm() -> None:
    line = "vllm serve Qwen/Qwen3-32B -tp 4 --max-num-seqs 4096"
    assert vars(composed(line, "device=h100").scheduler)["max_num_batched_tokens"] == 8192
    with pytest.raises(ConfigError, match="--max-num-seqs=4096 is more than the 2048 tokens of an iteration"):
        composed(line, "device=l40s")


def test_the_command_prints_what_the_launch_stands_for(tmp_path: Path) -> None:
    line = "vllm serve mistralai/Mistral-7B-Instruct-v0.2 --max-model-len 8k --enable-lora"
    few = ("trace=fixed", "trace.num_requests=3", "hydra.run.dir=out")
    done = command(tmp_path, "simulator", *few, "--", *line.split())
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        "launch: model=mistral_7b model.max_model_len=8000 scheduler=vllm_v1",
        "launch: the command line names no GPU: set device=NAME, or the default is simulated",
        "not simulated: --enable-lora",
    ]
    config = json.loads((tmp_path / "out" / "summary.json").read_text())["config"]
    assert (config["model"]["max_model_len"], config["scheduler"]["max_num_seqs"]) == (8000, 256)


CONFIG = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 32000,
    "max_position_embeddings": 8192,
}


def local_model(folder: Path, **more: object) -> Path:
    """Write the config.json of a model into a folder whose name needs quotes."""
    path = folder / "my model, v=1"
    path.mkdir(exist_ok=True)
    (path / "config.json").write_text(json.dumps({**CONFIG, **more}))
    return path


def test_a_local_folder_is_read_and_launched_again(tmp_path: Path) -> None:
    folder = local_model(tmp_path)
    launched = composed(f"vllm serve '{folder}' -tp 2 --dtype bfloat16", "device=h100")
    assert (launched.model.name, launched.model.max_model_len) == (folder.name, 8192)
    lines = launch_lines(launched, f"{folder}/config.json")
    assert composed(" ".join(lines[1:]).replace("\\", ""), "device=h100") == launched


def test_the_format_of_a_quantised_checkpoint_stays(tmp_path: Path) -> None:
    folder = local_model(tmp_path, quantization_config={"quant_method": "awq", "bits": 4})
    launched = composed(f"vllm serve '{folder}' --dtype half -q awq_marlin", "device=h100")
    assert launched.model.dtype == "int4"
    lines = launch_lines(launched, f"{folder}/config.json")
    assert composed(" ".join(lines[1:]).replace("\\", ""), "device=h100") == launched


LAYOUTS = ["parallel.tp=8", "parallel.tp=4 parallel.pp=2", "parallel.tp=8 parallel.pp=2 parallel.stage_layers=[HALVES]"]
OPTIONS = [
    "",
    "model.dtype=fp16 kv_cache.dtype=fp8",
    "model.dtype=fp8 kv_cache.prefix_caching=false kv_cache.block_size=32",
    "scheduler.max_num_batched_tokens=16384 scheduler.max_num_seqs=64 kv_cache.prefix_caching=true",
    "scheduler.enable_chunked_prefill=false scheduler.policy=priority scheduler.watermark=0.02",
    "scheduler.long_prefill_token_threshold=256 scheduler.long_prefill_token_threshold_adaptive=true",
    "scheduler.scheduler_reserve_full_isl=false scheduler.max_num_active_seqs=9 scheduler.max_num_scheduled_tokens=99",
    "scheduler.prefill_schedule_interval=3 kv_cache.num_blocks=5000 kv_cache.memory_utilization=0.77",
    "engine=vllm_v1_sync",
    "engine.decode_graph_sizes=[] engine.memory.graph_mib_per_layer=0",
    "engine.decode_graph_sizes=[1,5] engine.mixed_graphs=false",
    "engine.decode_graph_sizes=[1,2,4,8] model.max_model_len=1000",
]


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("model", VLLM_MODELS)
def test_the_printed_command_composes_the_same_deployment(model: str, options: str) -> None:
    layout = LAYOUTS[OPTIONS.index(options) % len(LAYOUTS)]
    num_layers = deployment(f"model={model}", "kv_cache.num_blocks=9").model.num_layers
    layout = layout.replace("HALVES", f"{num_layers - 9},9")
    base = ["device=b200_sxm", *(("engine=vllm_v1_sync",) if "engine=vllm_v1_sync" in options else ())]
    given = deployment(f"model={model}", "scheduler=vllm_v1", *base, *layout.split(), *options.split())
    lines = launch_lines(given)
    assert max(map(len, lines)) <= 100
    assert composed(" ".join(lines[1:]).replace("\\", ""), *base) == given


@pytest.mark.parametrize(
    "options",
    [
        "scheduler=sarathi scheduler.token_budget=1024",
        "scheduler=sarathi scheduler.dynamic_chunks.stages=4",
        "scheduler=vllm scheduler.max_num_batched_tokens=4096 kv_cache.num_blocks=900",
        "scheduler=vllm parallel.pp=2 model.dtype=fp16",
        "scheduler=orca",
        "scheduler=faster_transformer kv_cache.block_size=32",
        "scheduler=chunked_prefills scheduler.max_num_seqs=9",
    ],
)
def test_the_printed_command_of_sarathi_serve_composes_the_same_deployment(options: str) -> None:
    given = deployment("model=yi_34b", "device=a100", "parallel.tp=4", *options.split())
    lines = launch_lines(given)
    assert composed(" ".join(lines[1:]).replace("\\", ""), "device=a100") == given


def test_a_deployment_that_no_engine_runs_has_a_reason_in_place_of_a_command() -> None:
    def reason(*overrides: str) -> str:
        (line,) = launch_lines(deployment("kv_cache.num_blocks=99", *overrides))
        return line

    assert "no engine runs the scheduler Sarathi with the kernels of vllm" in reason("device=h200")
    assert "no name on Hugging Face" in reason("model=llama_small")
    assert "needs a checkpoint of that format" in reason("scheduler=vllm_v1", "model.dtype=int4")
    assert "no KV cache of kv_cache.dtype=int8" in reason("scheduler=vllm_v1", "kv_cache.dtype=int8")


def test_a_command_for_longer_sequences_than_the_model_has_positions_allows_them() -> None:
    lines = launch_lines(deployment("model=llama2_7b", "scheduler=vllm_v1", "device=h100"))
    assert lines[1:3] == ["VLLM_ALLOW_LONG_MAX_MODEL_LEN=1 \\", "vllm serve meta-llama/Llama-2-7b-chat-hf \\"]
    lines = launch_lines(deployment("model=llama3_8b", "scheduler=vllm_v1", "device=h100"))
    assert lines[1].startswith("vllm serve meta-llama/Llama-3.1-8B-Instruct ")


def test_the_lines_are_words_that_a_shell_reads() -> None:
    given = deployment(
        "model=qwen3_32b", "scheduler=vllm_v1", "device=h100", "engine.mixed_graphs=false", "parallel.tp=4"
    )
    script = "vllm() { printf '%s\\n' \"$@\"; }\n" + "\n".join(launch_lines(given))
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert read_words(["vllm", *done.stdout.splitlines()]) == read_words(
        shlex.split(" ".join(launch_lines(given)[1:]).replace("\\", ""))
    )


def test_the_cost_is_that_of_the_hour_over_the_tokens_of_the_hour() -> None:
    import numpy as np

    requests = Trace(np.array([100, 300]), np.array([50, 50]))
    given = deployment("model=llama3_8b", "scheduler=vllm_v1", "device=h100", "cluster.replicas=3")
    lines = planning_lines(given, None, 2.0, requests)
    assert lines[0] == "# on each of 3 replicas, 1 x h100_sxm"
    assert lines[-1].startswith(
        "# $20.64/h, $15,067 a month (730 h), $11.467 per million tokens, $57.33 per million out"
    )
    per_million_usd = [float(text) for text in re.findall(r"\$([\d.]+) per million", lines[-1])]
    assert per_million_usd == pytest.approx([20.64 / (3600 * 2 * tokens) * 1e6 for tokens in (250, 50)], rel=1e-3)
    assert planning_lines(given, None, 0.0, requests)[-1] == "# $20.64/h, $15,067 a month (730 h)"


def test_every_shipped_model_states_its_names_and_no_name_is_stated_twice() -> None:
    names = [name.lower() for choice in choices("model") for name in stated(choice)]
    assert len(set(names)) == len(names) == len(published_models())
    assert {entry.choice for entry in published_models().values()} == {*choices("model")} - {"hf", "llama_small"}


def stated(choice: str) -> list[str]:
    lines = (Path(__file__).parent.parent / "configs" / "model" / f"{choice}.yaml").read_text().splitlines()
    return [line.split()[1].rstrip(":") for line in lines if line.startswith("#   ")]


def test_a_model_is_chosen_by_its_name_on_hugging_face() -> None:
    assert (
        deployment("model=Qwen/Qwen3-32B", "parallel.tp=4").model
        == deployment("model=qwen3_32b", "parallel.tp=4").model
    )
    assert isinstance(deployment("model=01-ai/yi-34b", "parallel.tp=4").model, Model)
    with pytest.raises(ConfigError, match=r"near it: Qwen/Qwen3-32B; .*model=hf model\.path=config\.json"):
        load_config("model=Qwen/Qwen3-14B")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            "vllm serve Qwen/Qwen3-32B --max-num-seq 3 --max-nm-seqs 4",
            "vllm serve has no option --max-nm-seqs; did you",
        ),
        ("vllm serve Qwen/Qwen3-32B --banana", "vllm serve has no option --banana; leave it out"),
        (
            "vllm serve Qwen/Qwen3-32B -tp x",
            "vllm serve: argument --tensor-parallel-size/-tp: must be an integer, got 'x'",
        ),
        ("vllm serve Qwen/Qwen3-32B stray", "vllm serve: stray belongs to no option"),
        ("vllm serve", "vllm serve needs a model"),
        ("vllm serve $MODEL", r"the command line has the variable \$MODEL, whose value is not known"),
        ("vllm serve Qwen/Qwen3-32B -q awq", "--quantization=awq: Qwen/Qwen3-32B is not known as a checkpoint"),
        ("vllm serve Qwen/Qwen3-32B --dtype float32", "--dtype=float32 is not simulated"),
        ("vllm serve Qwen/Qwen3-32B --kv-cache-dtype nvfp4", "--kv-cache-dtype=nvfp4 is not simulated"),
        ("vllm serve Qwen/Qwen3-32B --max-model-len auto", "--max-model-len=auto is not simulated"),
        ("vllm serve Qwen/Qwen3-32B -cc [1]", "--compilation-config must be a JSON object"),
        (
            "vllm serve Qwen/Qwen3-32B --max-num-batched-tokens 9 --max-num-seqs 10",
            "must be at least --max-num-seqs=10",
        ),
        ("vllm serve Qwen/Qwen3-14B", "Qwen/Qwen3-14B: no such model; near it: Qwen/Qwen3-32B"),
        ("python -m sglang.launch_server --model-path x", "SGLang is not simulated; simulated engines are started by"),
        ("trtllm-serve x", "TensorRT-LLM is not simulated"),
        ("ls -l", "'ls -l' does not launch a simulated engine; known are: vllm serve MODEL"),
        ("python -m sarathi.entrypoints.openai.api_server --chunk 3", "sarathi-serve has no option --chunk"),
    ],
)
def test_what_the_engine_or_the_simulator_does_not_have_is_one_line(line: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        overrides_of(line)


def test_a_file_with_several_launches_names_them(tmp_path: Path) -> None:
    path = tmp_path / "both.yaml"
    one = manifest(command=["vllm", "serve"], args=ARGUMENTS)
    path.write_text(yaml.safe_dump_all([one, {**one, "metadata": {"name": "decode"}}]))
    with pytest.raises(ConfigError, match=r"has 2 launches \(qwen server, decode server\): leave one of them"):
        read_file(str(path))
    without = {"metadata": {"name": "prefill"}, "spec": {**one["spec"], "replicas": 0}}  # type: ignore[dict-item]
    path.write_text(yaml.safe_dump_all([one, without]))
    assert "cluster.replicas=3" in read_file(str(path)).overrides()


def test_options_may_come_from_a_configuration_file_of_vllm(tmp_path: Path) -> None:
    path = tmp_path / "vllm.yaml"
    path.write_text("model: Qwen/Qwen3-32B\ntensor-parallel-size: 8\nno-enable-prefix-caching: true\nport: 80\n")
    launch = read_words(["vllm", "serve", "--config", str(path), "-tp", "4"])
    assert launch == Launch(
        "Qwen/Qwen3-32B", None, {"scheduler": "vllm_v1", "parallel.tp": 4, "kv_cache.prefix_caching": False}, []
    )
