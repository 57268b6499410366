"""Malformed input files; `bad_inputs.txt` lists the commands that read them and the error lines they must print."""

import gzip
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from simulator.iteration_time.device_profile import SHIPPED
from simulator.output import SUMMARY
from simulator.output.saved_run import LOG
from tests.helpers import write_run

ROWS = "prompt_tokens,output_tokens\n100,10\n"
MODEL = {
    "model_type": "llama",
    "hidden_size": 4096,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 14336,
    "vocab_size": 32000,
    "max_position_embeddings": 8192,
}


def make_files(folder: Path) -> None:
    """Write every file that `bad_inputs.txt` names into a folder."""
    make_traces(folder)
    make_models(folder)
    make_profiles(folder)
    make_runs(folder)
    make_configurations(folder)


def make_traces(folder: Path) -> None:
    for name, content in {
        "empty.csv": b"",
        "header.csv": b"prompt_tokens,output_tokens\n",
        "other.csv": b"a,b\n1,2\n",
        "twice.csv": b"prompt_tokens,output_tokens,prompt_tokens\n1,2,3\n",
        "nan.csv": ROWS.encode() + b"nan,5\n",
        "negative.csv": ROWS.encode() + b"5,-1\n",
        "huge.csv": ROWS.encode() + b"99999999999999999999,5\n",
        "quote.csv": ROWS.encode() + b'"5,5\n5,5\n',
        "fields.csv": ROWS.encode() + b"5,5,5\n",
        "back.csv": b"arrival_s,prompt_tokens,output_tokens\n5,1,1\n4,1,1\n",
        "latin.csv": ROWS.encode() + "\u00e9,5\n".encode("latin-1"),
        "utf16.csv": ROWS.encode("utf-16"),
        "nul.csv": ROWS.encode() + b"\0\0,5\n",
        "columns.csv": ",".join(f"c{number}" for number in range(20_000)).encode() + b"\n",
        "line.csv": ROWS.encode() + b"1" * (1 << 23) + b",5\n",
        "rows.jsonl": b'{"input_length": 5, "output_length": 5}\n{"input_length": 5,\n',
        "deep.json": b"[" * 100_000,
        "cut.csv.gz": gzip.compress(ROWS.encode() * 1000)[:50],
        "bomb.csv.gz": gzip.compress(b"\0" * (1 << 28)),
        "x=1,({ \u00e9\n.csv": ROWS.encode() + b"5,x\n",
    }.items():
        (folder / name).write_bytes(content)
    (folder / "loop.csv").symlink_to("loop.csv")
    (folder / "dangling.csv").symlink_to("nowhere.csv")
    (folder / "folder.csv").mkdir()


def make_models(folder: Path) -> None:
    for name, content in {
        "fine": json.dumps(MODEL),
        "empty": "",
        "list": "[]",
        "unknown": json.dumps({**MODEL, "model_type": "rwkv"}),
        "lacking": json.dumps({key: value for key, value in MODEL.items() if key != "hidden_size"}),
        "text": json.dumps({**MODEL, "hidden_size": "4096"}),
        "nan": json.dumps({**MODEL, "hidden_size": float("nan")}),
        "huge": json.dumps({**MODEL, "hidden_size": 10**30}),
        "digits": '{"model_type": "llama", "hidden_size": ' + "9" * 5000 + "}",
        "twice": '{"model_type": "llama", "model_type": "mistral"}',
        "deep": '{"a": ' + "[" * 100_000,
        "heads": json.dumps({**MODEL, "num_key_value_heads": 33}),
    }.items():
        (folder / f"model_{name}.json").write_text(content)


def make_profiles(folder: Path) -> None:
    profile = json.loads(gzip.decompress((SHIPPED / "a40.json.gz").read_bytes()))
    half = profile["matmul"]["bf16"]
    key, lines = next(iter(half["own"].items()))

    def with_lines(**changed: Any) -> dict[str, Any]:
        return {**profile, "matmul": {"bf16": {**half, "own": {key: {**lines, **changed}}}}}

    def with_shared(shared: dict[str, Any]) -> dict[str, Any]:
        return {**profile, "matmul": {"bf16": {**half, "shared": shared}}}

    profiles: dict[str, Any] = {
        "plain": {"schema": 2},
        "schema": {**profile, "schema": 99},
        "about": {**profile, "about": {}},
        "measured": {**profile, "measured": {}},
        "elementwise": {**profile, "elementwise": {}},
        "bandwidth": {**profile, "most_bandwidth": 3},
        "slope": with_lines(slope=[float("nan")] * len(lines["slope"])),
        "negative": with_lines(at_last=[-1.0] * len(lines["at_last"])),
        "short": with_lines(last=[1]),
        "trees": with_shared({**half["shared"], "trees": {"roots": [5]}}),
        "nobody": with_shared({"coefficients": [0.0], "trees": None}),
    }
    for name, content in profiles.items():
        (folder / f"profile_{name}.json.gz").write_bytes(gzip.compress(json.dumps(content).encode()))
    (folder / "profile_cut.json.gz").write_bytes((SHIPPED / "a40.json.gz").read_bytes()[:1000])
    for name, content in {"about": {"format": 1, "about": 3, "curves": []}, "format": {"format": 9}}.items():
        (folder / f"links_{name}.json").write_text(json.dumps(content))
    falling = {"operator": "send", "num_gpus": 2, "gpus_per_node": 2, "num_bytes": [1, 2], "seconds": [2, 1]}
    (folder / "links_falling.json").write_text(
        json.dumps({"format": 1, "about": {"machine": "x"}, "curves": [falling]})
    )


def make_runs(folder: Path) -> None:
    write_run(folder / "run", "trace=sharegpt", "trace.num_requests=20", "seed=1")
    log_bytes = (folder / "run" / LOG).read_bytes()
    with np.load(folder / "run" / LOG) as file:
        arrays = {name: file[name] for name in file.files}
    changes_by_name: dict[str, Callable[[], dict[str, Any]]] = {
        "older": lambda: {"about": np.frombuffer(b'{"format": 6}', dtype=np.uint8)},
        "backwards": lambda: {"end_s": arrays["end_s"][::-1]},
        "code": lambda: {"about": np.array([print], dtype=object)},
    }
    for name, change in changes_by_name.items():
        copy_folder(folder / "run", folder / f"run_{name}")
        np.savez(folder / f"run_{name}" / LOG, **{**arrays, **change()})
    middle = len(log_bytes) // 2
    flipped = log_bytes[:middle] + bytes([log_bytes[middle] ^ 1]) + log_bytes[middle + 1 :]
    for name, log in {"cut": log_bytes[:2000], "flipped": flipped, "none": b""}.items():
        copy_folder(folder / "run", folder / f"run_{name}")
        (folder / f"run_{name}" / LOG).write_bytes(log)
    for name, summary in {
        "list": "[]",
        "deep": "[" * 100_000,
        "number": '{"ttft_s": 3, "scheduling_delay_s": 3}',
    }.items():
        copy_folder(folder / "run", folder / f"run_{name}")
        (folder / f"run_{name}" / SUMMARY).write_text(summary)


def copy_folder(source: Path, target: Path) -> None:
    target.mkdir()
    for path in source.iterdir():
        (target / path.name).write_bytes(path.read_bytes())


def make_configurations(folder: Path) -> None:
    for name, content in {
        "broken": b"a: [",
        "tab": b"a:\n\t- b\n",
        "list": b"- 1\n",
        "latin": "path: \u00e9\n".encode("latin-1"),
        "itself": b"path: &a [*a]\n",
        "bomb": b"a0: &a0 [x]\n"
        + b"".join(b"a%d: &a%d [%s]\n" % (n, n, b",".join([b"*a%d" % (n - 1)] * 10)) for n in range(1, 8)),
        "hydra": b"hydra:\n  callbacks:\n    x:\n      _target_: os.system\n",
        "override": b"defaults:\n  - override /hydra/job_logging: x\n",
        "package": b"# @package hydra.callbacks\nx: 1\n",
        "own": b"_target_: os.system\n",
        "object": b"path: !!python/object/apply:os.system [ls]\n",
        "defaults": b"defaults:\n  - defaults\n",
    }.items():
        (folder / f"configs_{name}" / "trace").mkdir(parents=True)
        (folder / f"configs_{name}" / "trace" / f"{name}.yaml").write_bytes(content)
