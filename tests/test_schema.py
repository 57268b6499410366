"""The JSON Schema of configurations: what is shipped is valid, mistakes are not, editors find keys and choices."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft202012Validator
from omegaconf import OmegaConf

from simulator.config import CONFIG_DIR, choices, composed, json_schema
from tests.helpers import code_blocks, command

SCHEMA = json_schema()
VALIDATOR = Draft202012Validator(SCHEMA)
SHIPPED = [path for group in ("experiment", "deployment") for path in sorted((CONFIG_DIR / group).glob("*.yaml"))]


def errors_of(content: Any) -> list[str]:
    """Return where a configuration is not valid, with the reason."""
    return [f"{list(error.absolute_path)}: {error.message[:100]}" for error in VALIDATOR.iter_errors(content)]


def test_the_schema_is_of_draft_2020_12() -> None:
    Draft202012Validator.check_schema(SCHEMA)
    assert SCHEMA["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: f"{path.parent.name}/{path.stem}")
def test_every_shipped_preset_is_valid(path: Path) -> None:
    assert errors_of(yaml.safe_load(path.read_text())) == []


@pytest.mark.parametrize(
    ("name", "overrides"),
    [
        ("config", []),
        ("config", ["scheduler=vllm_v1", "device=h100_sxm"]),
        ("config", ["trace=mix", "cluster.router=sticky"]),
        ("config", ["trace=sharegpt_sessions", "arrival=sessions", "engine=vllm_v1_2025"]),
        ("config", ["trace=shared_prefix", "arrival=bursts", "iteration_time=affine", "model=falcon_180b"]),
        ("config", ["cluster.groups=[{device: a40, replicas: 2}, {scheduler: {token_budget: 256}}]"]),
        ("config", ["faults.schedule=[{kind: failure, at_s: 30, for_s: 60}]", "time_limit_s=3"]),
        ("capacity", ["slo=paper_strict", "slo.ttft_p99.9=2"]),
        ("token_budget", []),
        ("search", []),
    ],
)
def test_whole_configurations_are_valid(name: str, overrides: list[str]) -> None:
    with composed(name, overrides) as config:
        assert errors_of(OmegaConf.to_container(config)) == []
        assert errors_of(OmegaConf.to_container(config, resolve=True)) == []


@pytest.mark.parametrize(
    "text",
    [
        "scheduler: {token_budget: 512}",
        "scheduler: {_target_: my_package.Mine, patience: 3}\nallow_targets: [my_package]",
        "defaults: [override /scheduler: vllm, _self_]\nscheduler: {max_num_batched_tokens: null}",
        "defaults: [{/trace@trace.clients.chat.requests: sharegpt}]",
        "trace: {prompt: {_target_: traces.generators.LogNormal, median: 400, sigma: 1}}",
        "seed: ${oc.env:SEED}",
        "slo: {tbt_p99: 0.2, ttft_p99_9: null, e2e_mean: {decode_iterations: 5}}",
        "cluster: {router: {_target_: simulator.routers.Random}, node: null}",
    ],
)
def test_what_the_simulator_takes_is_valid(text: str) -> None:
    assert errors_of(yaml.safe_load(text)) == []


@pytest.mark.parametrize(
    "text",
    [
        "schedular: {token_budget: 512}",
        "scheduler: vllm",
        "scheduler: {token_budgt: 512}",
        "scheduler: {token_budget: many}",
        "defaults: [override /scheduler: vllm]\nscheduler: {token_budget: 512}",
        "defaults: [override /scheduler: nope]",
        "defaults: [override /schedular: vllm]",
        "defaults: [override scheduler: vllm, override: 3]",
        "defaults: {override /scheduler: vllm}",
        "defaults: [other]",
        "defaults: [{override /scheduler: vllm, override /trace: arxiv}]",
        "seed: soon",
        "seed: 1.5",
        "check: 1",
        "time_limit_s: soon",
        "allow_targets: os",
        "trace: {num_request: 3}",
        "trace: {on_error: ignore}",
        "arrival: {qps: fast}",
        "parallel: {tp: two}",
        "parallel: {_target_: simulator.model.KVMemory}",
        "kv_cache: {blocks: 3}",
        "slo: {tbt_p99: fast}",
        "slo: {tbt_p99: -1}",
        "slo: {tbtp99: 1}",
        "cluster: {router: random}",
        "cluster: {replica: 2}",
        "cluster: {groups: [{devic: a40}]}",
        "cluster: {groups: [{device: a41}]}",
        "cluster: {groups: [{parallel: {tp: two}}]}",
        "metrics: {warmup_s: soon}",
        "output: {logs: true}",
        "capacity: {seeds: 1.5}",
        "search: {tp: [two]}",
        "token_budget: {decode: [[32, many]]}",
        "allow_targets: [3]",
        "faults: {schedule: [{kind: failure, at: 3}]}",
        "- seed",
    ],
)
def test_mistakes_are_not_valid(text: str) -> None:
    assert errors_of(yaml.safe_load(text)) != []


def test_the_example_of_the_documentation_is_valid() -> None:
    (example,) = code_blocks("docs/console.md", "yaml")
    assert errors_of(yaml.safe_load(example)) == []


def test_keys_have_descriptions_types_and_defaults() -> None:
    assert SCHEMA["properties"]["seed"]["description"] == "Equal seeds give byte-identical results."
    sarathi = SCHEMA["$defs"]["simulator.schedulers.Sarathi"]
    assert sarathi["description"] == "All decodes, then prefill chunks up to a token budget."
    budget = sarathi["properties"]["token_budget"]
    assert budget["description"] == "Tokens per iteration, decodes included."
    assert budget["default"] == 512
    assert {"type": "integer"} in budget["anyOf"]


def test_a_default_of_null_is_one_of_several_types() -> None:
    """The server of editors fails on the null default of a plain string."""
    found = list(defaults_of_null(SCHEMA))
    assert found
    assert not [schema for schema in found if "anyOf" not in schema]


def defaults_of_null(node: Any) -> Iterator[dict[str, Any]]:
    children = node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
    if isinstance(node, dict) and node.get("default", 0) is None:
        yield node
    for child in children:
        yield from defaults_of_null(child)


def test_every_component_and_choice_of_a_group_is_in_the_schema() -> None:
    offered = SCHEMA["properties"]["defaults"]["items"]["anyOf"][0]["properties"]
    for group in (
        "scheduler",
        "trace",
        "arrival",
        "model",
        "device",
        "engine",
        "cluster/router",
        "cluster/node",
        "slo",
    ):
        assert offered[f"override /{group}"]["enum"] == choices(group)
    for group in ("scheduler", "trace", "arrival", "iteration_time", "model"):
        targets = {target for name in choices(group) for target in targets_of(group, name)}
        assert {f"#/$defs/{target}" for target in targets} <= {
            option["$ref"] for option in SCHEMA["properties"][group]["else"]["anyOf"]
        }


def targets_of(group: str, name: str) -> list[str]:
    content = yaml.safe_load((CONFIG_DIR / group / f"{name}.yaml").read_text())
    own = content.get(group, content)
    return [own["_target_"]] if "_target_" in own else []  # it has it from another file of the group


def test_the_command_prints_the_schema_or_writes_it(tmp_path: Path) -> None:
    printed = command(tmp_path, "simulator.schema")
    assert json.loads(printed.stdout) == SCHEMA
    written = command(tmp_path, "simulator.schema", "output=schema.json")
    assert written.stdout == "written to schema.json\n"
    assert (tmp_path / "schema.json").read_text() == printed.stdout


def test_the_users_own_files_may_be_chosen(tmp_path: Path) -> None:
    own = tmp_path / "mine" / "trace" / "our_chats.yaml"
    own.parent.mkdir(parents=True)
    own.write_text("_target_: traces.generators.Fixed\n")
    chosen = {"defaults": [{"override /trace": "our_chats"}]}
    assert errors_of(chosen) != []
    assert command(tmp_path, "simulator.schema", "config_dir=mine", "output=schema.json").returncode == 0
    assert Draft202012Validator(json.loads((tmp_path / "schema.json").read_text())).is_valid(chosen)
