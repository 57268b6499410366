"""Parquet tables hold what the CSV file and the result hold, and describe themselves."""

import csv
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

from simulator import Result
from simulator.log import StayEnd
from simulator.output.files import TABLES
from simulator.output.parquet_tables import ITERATIONS, REQUESTS, STAYS, Column
from simulator.results import CACHED_TOKENS, REQUEST_COLUMNS
from simulator.shipped import VERSION
from tests.helpers import REPOSITORY, command, write_run
from tests.test_documentation import run_process

FAULT = "faults.schedule=[{kind: failure, at_s: 3, for_s: 6, replica: 0}]"
RUNS = {
    "a default run": ["trace.num_requests=30"],
    "cut off, with faults": ["trace=sharegpt", "trace.num_requests=60", "cluster.replicas=3", "time_limit_s=20", FAULT],
    "sessions": ["trace=sharegpt_sessions", "arrival=closed_loop", "trace.num_requests=30"],
    "clients": ["trace=mix", "trace.num_requests=40"],
    "a prefix cache": ["deployment=vllm_v1_llama3_8b_h100", "trace=shared_prefix", "trace.num_requests=40"],
    "nothing done": ["trace=fixed", "trace.num_requests=2", "trace.prompt_tokens=20000"],
}


def run(folder: Path, *overrides: str) -> Result:
    return write_run(folder, *overrides, "output.parquet=true")


@pytest.mark.parametrize("name", RUNS)
def test_requests_parquet_has_the_rows_of_requests_csv(name: str, tmp_path: Path) -> None:
    run(tmp_path, *RUNS[name])
    table = pq.read_table(tmp_path / "requests.parquet")
    with open(tmp_path / "requests.csv", encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    assert table.column_names == header
    for row, values in zip(rows, table.to_pylist(), strict=True):
        shown = [
            "" if value is None else str(int(value) if isinstance(value, bool) else value) for value in values.values()
        ]
        assert shown == row


def test_columns_have_their_types_and_missing_values_are_null(tmp_path: Path) -> None:
    run(tmp_path, *RUNS["cut off, with faults"])
    table = pq.read_table(tmp_path / "requests.parquet")
    types = {field.name: str(field.type) for field in table.schema}
    assert types["request_id"] == "string"
    assert types["ignored"] == "bool"
    assert {types[name] for name in types if name.endswith("_s")} == {"double"}
    assert {types[name] for name in types if name.endswith("_tokens") or name.startswith("num_")} == {"int64"}
    assert 0 < table["completed_s"].null_count < table.num_rows
    assert 0 < table["replica"].null_count < table.num_rows


@pytest.mark.parametrize("name", RUNS)
def test_iterations_parquet_has_the_iterations_of_every_replica(name: str, tmp_path: Path) -> None:
    result = run(tmp_path, *RUNS[name])
    frame = pd.read_parquet(tmp_path / "iterations.parquet")
    assert len(frame) == result.summary["num_iterations"]
    for number, replica in enumerate(result.replicas):
        rows = frame[frame["replica"] == number]
        assert rows["iteration"].tolist() == list(range(len(rows)))
        assert set(rows.columns) == {"replica", "iteration", *replica.iterations}
        for column, values in replica.iterations.items():
            expected = np.where(values < 0, np.nan, values) if column == "decode_set" else values
            assert np.array_equal(rows[column].to_numpy(dtype=expected.dtype), expected, equal_nan=True), column


def test_stays_parquet_has_the_stays_of_the_result(tmp_path: Path) -> None:
    stays = run(tmp_path, *RUNS["cut off, with faults"]).stays
    table = pq.read_table(tmp_path / "stays.parquet").to_pydict()
    assert table["request_id"] == [str(request) for request in stays.request.tolist()]
    assert table["replica"] == stays.replica.tolist()
    assert table["arrived_s"] == stays.arrived_s.tolist()
    assert table["left_s"] == [None if np.isnan(left_s) else left_s for left_s in stays.left_s.tolist()]
    assert table["why"] == [StayEnd(why).name.lower() for why in stays.why.tolist()]
    assert {"finished", "still_there"} <= {*table["why"]}


def test_a_table_says_its_version_and_what_its_columns_mean(tmp_path: Path) -> None:
    run(tmp_path, *RUNS["a default run"])
    for name, columns in (("requests", REQUESTS), ("iterations", ITERATIONS), ("stays", STAYS)):
        schema = pq.read_schema(tmp_path / f"{name}.parquet")
        assert schema.metadata[b"format_version"] == b"1"
        assert schema.metadata[b"simulator_version"] == VERSION.encode()
        assert schema.metadata[b"title"].startswith(name.encode())
        for field in schema:
            assert field.metadata[b"unit"].decode() == columns[field.name].unit
            assert field.metadata[b"description"].decode() == columns[field.name].meaning
            assert (field.metadata[b"unit"] == b"s") == field.name.endswith("_s")


def test_every_column_of_requests_csv_is_described() -> None:
    optional = ("session", "client", "priority", "num_retries", *CACHED_TOKENS)
    assert tuple(REQUESTS) == (*REQUEST_COLUMNS, *optional)


@pytest.mark.parametrize(("heading", "columns"), [("requests", REQUESTS), ("iterations", ITERATIONS), ("stays", STAYS)])
def test_the_documentation_describes_the_columns_as_the_files_do(heading: str, columns: dict[str, Column]) -> None:
    text = (REPOSITORY / "docs" / "output.md").read_text()
    (section,) = [part for part in text.split("\n## ") if part.startswith(heading)]
    rows = [line for line in section.splitlines() if line.startswith("| `")]
    assert rows == [f"| `{name}` | {column.unit} | {column.meaning} |" for name, column in columns.items()]


def test_the_same_run_is_written_as_the_same_bytes(tmp_path: Path) -> None:
    for folder in ("one", "two"):
        run(tmp_path / folder, *RUNS["a default run"])
    for name in TABLES:
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()


def test_a_table_that_cannot_be_written_leaves_the_files_of_the_earlier_run(tmp_path: Path) -> None:
    run(tmp_path, *RUNS["a default run"], "seed=1")
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("simulator.output.parquet_tables._write", _fill_the_disk)
        with pytest.raises(OSError, match="No space left on device"):
            run(tmp_path, *RUNS["a default run"], "seed=2")
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def _fill_the_disk(path: Path, *_: object) -> None:
    path.write_bytes(b"PAR1")
    raise OSError(28, "No space left on device")


def test_a_run_without_tables_imports_neither_pyarrow_nor_pandas(tmp_path: Path) -> None:
    script = "import runpy, sys; runpy.run_module('simulator', run_name='__main__', alter_sys=True)"
    loaded = "; print(sorted({'pandas', 'pyarrow'} & set(sys.modules)))"
    for option, expected in (("false", "[]"), ("true", "['pandas', 'pyarrow']")):
        arguments = ["trace.num_requests=2", "hydra.run.dir=run", f"output.parquet={option}"]
        printed = run_process(tmp_path, [sys.executable, "-c", script + loaded, *arguments])
        assert printed.splitlines()[-1] == expected


def test_the_tables_of_a_sweep_are_read_together(tmp_path: Path) -> None:
    arguments = ["-m", "seed=1,2", "trace.num_requests=10", "output.parquet=true", "hydra.sweep.dir=sweep"]
    done = command(tmp_path, "simulator", *arguments)
    assert done.returncode == 0, done.stderr
    paths = sorted(map(str, tmp_path.glob("sweep/*/requests.parquet")))
    assert pq.ParquetDataset(paths).read().num_rows == 20
