"""Fuzz targets: readers and the override parser accept an input or reject it with a one-line error.

A target takes bytes. `test_fuzzing.py` generates them with hypothesis, `python -m tests.fuzz` with atheris, a
coverage-guided fuzzer.
"""

import gzip
import json
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from simulator import load_result
from simulator.cli.sweep import RECORD, _read
from simulator.compare import read_run
from simulator.config import check_config_dir, load_config
from simulator.iteration_time import load_links, load_profile
from simulator.iteration_time.device_profile import SHIPPED
from simulator.iteration_time.link_curves import SHIPPED as LINKS
from simulator.model import read_hf_config
from simulator.output.saved_run import LOG
from tests.bad_inputs import MODEL
from tests.helpers import write_run
from traces.readers import TraceFile

Target = Callable[[bytes], None]


def require_one_line(error: Exception) -> None:
    """Check that an error has a message that a user can read."""
    assert str(error).strip(), repr(error)


@contextmanager
def temporary_file(content: bytes, name: str) -> Iterator[Path]:
    """Yield the path of a temporary file with a given content."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        yield path


def trace(content: bytes) -> None:
    """Load a request file of any format."""
    with temporary_file(content, "trace") as path:
        try:
            loaded = TraceFile(str(path)).load(np.random.default_rng(0))
        except ValueError as error:
            require_one_line(error)
            return
    assert len(loaded) > 0
    assert (loaded.prompt_tokens > 0).all()
    assert (loaded.output_tokens > 0).all()
    if loaded.arrival_s is not None:
        assert (np.diff(loaded.arrival_s[~np.isnan(loaded.arrival_s)]) >= 0).all()


def model(content: bytes) -> None:
    """Read a Hugging Face config.json."""
    with temporary_file(content, "config.json") as path:
        try:
            loaded = read_hf_config(str(path))
        except ValueError as error:
            require_one_line(error)
            return
    assert loaded.num_parameters > 0


def profile(content: bytes) -> None:
    """Load a device profile of fitted kernel times."""
    with temporary_file(content, "profile.json.gz") as path:
        try:
            load_profile(path)
        except ValueError as error:
            require_one_line(error)


def links(content: bytes) -> None:
    """Load a file of fitted link curves."""
    with temporary_file(content, "links.json") as path:
        try:
            load_links(str(path))
        except ValueError as error:
            require_one_line(error)


def measured_run(content: bytes) -> None:
    """Read a result of `vllm bench serve`, or a summary.json."""
    with temporary_file(content, "result.json") as path:
        try:
            read_run(path)
        except ValueError as error:
            require_one_line(error)


def sweep_record(content: bytes) -> None:
    """Read the record of a sweep job."""
    with temporary_file(content, RECORD) as path:
        _read(path)


def saved_run(content: bytes) -> None:
    """Load a saved run with some bytes of its log.npz overwritten, or only its beginning."""
    folder, log, summary = _run()
    changed = bytearray(log)
    for number in range(1, len(content) - 2, 3):
        changed[int.from_bytes(content[number : number + 2], "big") * len(log) >> 16] = content[number + 2]
    length = len(log) * (content[0] - 127) // 128 if content[:1] >= b"\x80" else len(log)
    (folder / LOG).write_bytes(changed[:length])
    try:
        result = load_result(folder)
    except ValueError as error:
        require_one_line(error)
        return
    assert result.summary == summary


@cache
def _run() -> tuple[Path, bytes, dict[str, Any]]:
    folder = Path(tempfile.mkdtemp()) / "run"
    result = write_run(folder, "trace=sharegpt", "trace.num_requests=10", "arrival.qps=4")
    return folder, (folder / LOG).read_bytes(), result.summary


def override(content: bytes) -> None:
    """Load a configuration with an arbitrary override."""
    text = content.decode(errors="surrogateescape")
    try:
        load_config("trace.num_requests=3", text)
    except (ValueError, MemoryError) as error:
        require_one_line(error)


def configuration(content: bytes) -> None:
    """Check a YAML file of a user's configuration folder."""
    with temporary_file(content, "mine.yaml") as path:
        try:
            check_config_dir(path.parent)
        except ValueError as error:
            require_one_line(error)


def seeds_of(name: str) -> list[bytes]:
    """Return the valid inputs of a target, from which others are mutated."""
    rows = b"prompt_tokens,output_tokens,arrival_s\n100,10,0\n200,20,1.5\n"
    return {
        "trace": [
            rows,
            gzip.compress(rows),
            b'{"timestamp": 0, "input_length": 5, "output_length": 6, "hash_ids": [1, 2]}\n',
            b"TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,374,44\n",
            b'[{"id": "a", "conversations": [{"from": "human", "value": "x"}, {"from": "gpt", "value": "y"}]}]',
            b"Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n5,ChatGPT,472,18,490,x\n",
        ],
        "model": [json.dumps(MODEL).encode()],
        "profile": [gzip.compress(gzip.decompress((SHIPPED / "a40.json.gz").read_bytes()), 1)],
        "links": [path.read_bytes() for path in sorted(LINKS.glob("*.json"))[:1]],
        "measured_run": [b'{"request_throughput": 1, "output_throughput": 2, "completed": 3, "mean_ttft_ms": 4}'],
        "sweep_record": [b'{"job": 1, "overrides": [], "config": {}, "inputs": {}, "figures": {}, "error": null}'],
        "saved_run": [b"\x01\x02\x03\x04", b"\x85\x10\xff\x20\x00"],
        "override": [b"seed=1", b"scheduler=vllm", b"cluster.groups=[{device: a40}]", b"slo.tbt_p99=0.2", b"x=${seed}"],
        "configuration": [b"# @package _global_\ndefaults:\n  - override /scheduler: vllm\nseed: 3\n"],
    }[name]


TARGETS: dict[str, Target] = {
    "trace": trace,
    "model": model,
    "profile": profile,
    "links": links,
    "measured_run": measured_run,
    "sweep_record": sweep_record,
    "saved_run": saved_run,
    "override": override,
    "configuration": configuration,
}
