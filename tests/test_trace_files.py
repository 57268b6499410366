"""Trace files: published formats are recognised by their content, and malformed rows are named."""

import csv
import gzip
import io
import json
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from simulator.config import load_config
from tests.helpers import SHARED, needs_shared
from traces import Trace
from traces.arrivals import Sessions
from traces.readers import TraceFile, tables
from traces.shared.atomic_files import write_atomic
from traces.shared.warnings import Warning
from traces.tools import SUFFIXES, save

RNG = np.random.default_rng(0)
HEADER = "prompt_tokens,output_tokens,arrival_s,request_id\n"


def write(path: Path, text: str | bytes) -> str:
    content = text if isinstance(text, bytes) else text.encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return str(path)


def load(path: str | Path, **options: Any) -> Trace:
    return TraceFile(str(path), **options).load(RNG)


def lists(trace: Trace) -> dict[str, list[Any]]:
    """Return the arrays of a trace as lists, None for NaN."""
    columns: dict[str, list[Any]] = {}
    if trace.request_id is not None:
        columns["request_id"] = list(map(str, trace.request_id.tolist()))
    for name in ("prompt_tokens", "output_tokens", "arrival_s", "think_s", "session", "priority"):
        values = getattr(trace, name)
        if values is not None:
            columns[name] = [None if value != value else value for value in values.tolist()]
    if trace.client is not None:
        columns["client"] = [trace.clients[client].name for client in trace.client.tolist()]
    return columns


LENGTHS = {"prompt_tokens": [472, 1087], "output_tokens": [18, 230]}
FORMATS = {
    "plain": (
        "request_id,arrival_s,prompt_tokens,output_tokens,session,client\na,0.5,472,18,x,web\nb,1.5,1087,230,x,app\n",
        {"arrival_s": [0.5, 1.5], "request_id": ["a", "b"], "session": [0, 0], "client": ["web", "app"]},
    ),
    "plain, with priorities": (
        "prompt_tokens,output_tokens,priority\n472,18,-2\n1087,230,\n",
        {"priority": [-2, 0]},
    ),
    "plain, with priorities, JSON": (
        '{"prompt_tokens": 472, "output_tokens": 18}\n{"prompt_tokens": 1087, "output_tokens": 230, "priority": 7}\n',
        {"priority": [0, 7]},
    ),
    "plain, lengths only": ("prompt_tokens,output_tokens,text\n472,18,a\n1087,230,b\n", {}),
    "plain, a turn that waits": (
        "arrival_s,think_s,prompt_tokens,output_tokens,session\n0.5,,472,18,s\n,7.25,1087,230,s\n",
        {"arrival_s": [0.5, None], "think_s": [None, 7.25], "session": [0, 0]},
    ),
    "azure 2023": (
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2023-11-16 18:17:03.9799600,472,18\n2023-11-16 18:17:05.0319600,1087,230\n",
        {"arrival_s": [0.0, 1.052]},
    ),
    "azure 2024": (
        "TIMESTAMP,ContextTokens,GeneratedTokens\n"
        "2024-05-12 00:00:00+00:00,472,18\n2024-05-12 00:00:00.009930+00:00,1087,230\n",
        {"arrival_s": [0.0, 0.00993]},
    ),
    "azure 2025": (
        "TIMESTAMP,NumImages,ContextTokens,GeneratedTokens\n"
        "2024-10-15T12:00:00.269Z,0,472,18\n2024-10-15T12:00:01.000Z,2,1087,230\n",
        {"arrival_s": [0.0, 0.731]},
    ),
    "burstgpt": (
        "Timestamp,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "5,ChatGPT,472,18,490,Conversation log\n45,GPT-4,1087,230,1317,API log\n",
        {"arrival_s": [0.0, 40.0], "client": ["ChatGPT", "GPT-4"]},
    ),
    "burstgpt with sessions": (
        "Timestamp,Session ID,Elapsed time,Model,Request tokens,Response tokens,Total tokens,Log Type\n"
        "19440110.0,1722ac82,43,GPT-4,472,18,490,Conversation log\n19440112.5,,1,GPT-4,1087,230,1317,API log\n",
        {"arrival_s": [0.0, 2.5], "session": [0, -1], "client": ["GPT-4", "GPT-4"]},
    ),
    "mooncake": (
        '{"timestamp": 0, "input_length": 472, "output_length": 18, "hash_ids": [0]}\n'
        '{"timestamp": 3000, "input_length": 1087, "output_length": 230, "hash_ids": [0, 7, 9]}\n',
        {"arrival_s": [0.0, 3.0]},
    ),
    "mooncake with delays": (
        '{"session_id": "c1", "timestamp": 500.5, "input_length": 472, "output_length": 18}\n'
        '{"session_id": "c1", "delay": 2000, "input_length": 1087, "output_length": 230}\n',
        {"arrival_s": [0.5005, None], "think_s": [None, 2.0], "session": [0, 0]},
    ),
    "bailian": (
        '{"chat_id": 159, "parent_chat_id": -1, "timestamp": 61.114, "input_length": 472, "output_length": 18, '
        '"type": "text", "turn": 1, "hash_ids": [1089]}\n'
        '{"chat_id": 160, "parent_chat_id": 159, "timestamp": 70.5, "input_length": 1087, "output_length": 230, '
        '"type": "text", "turn": 2, "hash_ids": [1089, 1090]}\n',
        {"arrival_s": [0.0, 9.386], "session": [0, 0], "request_id": ["159", "160"], "client": ["text", "text"]},
    ),
    "splitwise": (
        "request_id,request_type,application_id,arrival_timestamp,batch_size,prompt_size,token_size\n"
        "0,2,0,1,1,472,18\n1,2,0,1.5,1,1087,230\n",
        {"arrival_s": [1.0, 1.5], "request_id": ["0", "1"], "client": ["0", "0"]},
    ),
    "vidur": (
        "arrived_at,num_prefill_tokens,num_decode_tokens\n4.25,472,18\n5.5,1087,230\n",
        {"arrival_s": [4.25, 5.5]},
    ),
    "aiperf records": (
        "".join(
            json.dumps(
                {
                    "metadata": {"x_correlation_id": f"c{index}", "request_start_ns": 1760000000000000000 + start_ns},
                    "metrics": {
                        "input_sequence_length": {"value": prompt, "unit": "tokens"},
                        "output_sequence_length": {"value": output, "unit": "tokens"},
                    },
                    "error": None,
                }
            )
            + "\n"
            for index, (start_ns, prompt, output) in enumerate([(0, 472, 18), (1_500_000_000, 1087, 230)])
        ),
        {"arrival_s": [0.0, 1.5], "session": [0, 1]},
    ),
    "llmservingsim without tokens": (
        '{"input_toks": 472, "output_toks": 18, "arrival_time_ns": 0}\n'
        '{"input_toks": 1087, "output_toks": 230, "arrival_time_ns": 500000000}\n',
        {"arrival_s": [0.0, 0.5]},
    ),
    "servegen": (
        "request_id,timestamp,input_tokens,output_tokens,client_id\n0,0.25,472,18,7\n1,1.5,1087,230,9\n",
        {"arrival_s": [0.25, 1.5], "request_id": ["0", "1"], "client": ["7", "9"]},
    ),
    "servegen with other names": (
        "timestamp,input_length,output_length,client_id\n0.25,472,18,7\n1.5,1087,230,9\n",
        {"arrival_s": [0.25, 1.5], "client": ["7", "9"]},
    ),
    "usage of an API": (
        '{"id": "x", "created": 1760000000, "usage": {"prompt_tokens": 472, "completion_tokens": 18}}\n'
        '{"id": "y", "created": 1760000002, "usage": {"prompt_tokens": 1087, "completion_tokens": 230}}\n',
        {"arrival_s": [0.0, 2.0]},
    ),
    "names in another case": (
        "Start Time,Input Tokens,Output Tokens\n2025-01-01T00:00:00Z,472,18\n2025-01-01T00:00:00.5Z,1087,230\n",
        {"arrival_s": [0.0, 0.5]},
    ),
    "milliseconds by name": (
        "timestamp_ms,prompt_len,output_len\n100,472,18\n350,1087,230\n",
        {"arrival_s": [0.1, 0.35]},
    ),
    "vllm bench": (
        json.dumps(
            {
                "request_throughput": 1.0,
                "input_lens": [1087, 472],
                "output_lens": [230, 18],
                "start_times": [1012.5, 1010.0],
                "queue_times": [0.5, 0.0],
            }
        ),
        {"arrival_s": [0.0, 2.0]},
    ),
}


@pytest.mark.parametrize("packed", [False, True], ids=["as it is", "gzip"])
@pytest.mark.parametrize("name", FORMATS)
def test_a_published_format_is_recognised_by_its_content(name: str, packed: bool, tmp_path: Path) -> None:
    text, expected = FORMATS[name]
    path = tmp_path / "file"
    path.write_bytes(gzip.compress(text.encode()) if packed else text.encode())
    loaded = lists(load(path))
    assert loaded.keys() == (LENGTHS | expected).keys()
    for column, values in (LENGTHS | expected).items():
        assert loaded[column] == (
            pytest.approx(values, nan_ok=True) if column.endswith("_s") and None not in values else values
        )


def test_prefix_blocks_have_the_block_size_of_their_format(tmp_path: Path) -> None:
    mooncake = load(write(tmp_path / "a", FORMATS["mooncake"][0]))
    assert mooncake.prefix is not None
    assert (mooncake.prefix.block_tokens, [mooncake.prefix.of(request).tolist() for request in (0, 1)]) == (
        512,
        [[0], [0, 7, 9]],
    )
    bailian = load(write(tmp_path / "b", FORMATS["bailian"][0])).prefix
    assert bailian is not None
    assert bailian.block_tokens == 16
    text = "prompt_tokens,output_tokens,block_ids,block_tokens\n40,9,0-1;7,16\n16,1,0,16\n9,1,,16\n"
    plain = load(write(tmp_path / "c", text)).prefix
    assert plain is not None
    assert (plain.block_tokens, [plain.of(request).tolist() for request in range(3)]) == (16, [[0, 1, 7], [0], []])


def test_blocks_of_prompt_and_output_are_read_from_their_ranges(tmp_path: Path) -> None:
    text = "prompt_tokens,output_tokens,block_ids\n40,60,0-5\n45,5,0-1;6\n40,90,0-5;7;9-8\n"
    with pytest.raises(ValueError, match="line 4: block_ids must be a list of block numbers, got '0-5;7;9-8'"):
        load(write(tmp_path / "a", text))
    blocks = load(write(tmp_path / "b", text.replace("9-8", "8-8"))).prefix
    assert blocks is not None
    assert (blocks.block_tokens, blocks.ids.dtype) == (None, np.int32)
    expected = [[0, 1, 2, 3, 4, 5], [0, 1, 6], [0, 1, 2, 3, 4, 5, 7, 8]]
    assert [blocks.of(request).tolist() for request in range(3)] == expected


def test_parquet_columns_keep_their_types(tmp_path: Path) -> None:
    moments = pa.array(np.array(["2024-05-10T00:00:01", "2024-05-10T00:00:03.5"], dtype="datetime64[us]"))
    columns = {"TIMESTAMP": moments, "ContextTokens": [472, 1087], "GeneratedTokens": [18.0, 230.0], "text": ["a", "b"]}
    pa.parquet.write_table(pa.table(columns), tmp_path / "file")
    assert lists(load(tmp_path / "file")) == LENGTHS | {"arrival_s": [0.0, 2.5]}


CHATS = [
    {
        "id": "a_0",
        "conversations": [
            {"from": "system", "value": "be kind"},
            {"from": "human", "value": "one two three"},
            {"from": "gpt", "value": "four five"},
            {"from": "human", "value": "six"},
            {"from": "gpt", "value": "seven eight nine ten"},
        ],
    },
    {"id": "a_1", "conversations": [{"from": "gpt", "value": "goes on"}, {"from": "human", "value": "and ends"}]},
    {"id": "b", "items": [{"role": "user", "content": "hello"}, {"role": "assistant", "content": "hello you"}]},
    {"id": "c", "conversations": []},
]


@pytest.mark.parametrize("indent", [None, 2])
def test_chats_become_turns_whose_prompts_contain_the_conversation_so_far(
    tmp_path: Path, tokenizer_path: str, indent: int | None
) -> None:
    path = write(tmp_path / "sharegpt.json", json.dumps(CHATS, indent=indent))
    trace = load(path, tokenizer=tokenizer_path)
    assert trace.prompt_tokens.tolist() == [5, 8, 1]
    assert trace.output_tokens.tolist() == [2, 4, 2]
    assert trace.session is not None
    assert trace.session.tolist() == [0, 0, 1]


@pytest.mark.parametrize(
    ("text", "options", "complaint"),
    [
        (json.dumps(CHATS), {}, "tokenizer: this file contains text; give the tokenizer.json"),
        (json.dumps(CHATS)[:-9], {"tokenizer": True}, "is not complete JSON"),
        (json.dumps([{"a": 1}]), {"tokenizer": True}, "conversation 1: must be an object with a list conversations"),
        (
            json.dumps([{"items": [{"from": "human", "value": None}]}]),
            {"tokenizer": True},
            "conversation 1: message 1 must have strings from and value",
        ),
        (json.dumps(CHATS), {"tokenizer": "/nowhere.json"}, "tokenizer: cannot read /nowhere.json"),
        ("[]", {"tokenizer": True}, "no requests"),
    ],
)
def test_errors_in_chats_are_named(
    tmp_path: Path, tokenizer_path: str, text: str, options: dict[str, Any], complaint: str
) -> None:
    given = {name: tokenizer_path if value is True else value for name, value in options.items()}
    with pytest.raises(ValueError, match=r".") as error:
        load(write(tmp_path / "chats", text), **given)
    assert complaint in str(error.value)


MALFORMED = [
    ("", "has no header; it may be empty"),
    ("prompt_tokens,output_tokens\n10,5,7\n20,6,8\n", "line 2: 3 fields, but the header has 2"),
    (HEADER + "5,3,0,a\n7,2\n", "line 3: 2 fields, but the header has 4"),
    (HEADER, "no requests"),
    ("a,b\n1,2\n", "has no column of prompt lengths that is known; it has: a, b; trace.columns={prompt_tokens: NAME, "),
    ("prompt_tokens,prompt_tokens\n1,2\n", "has more than one column prompt_tokens"),
    (HEADER + "5,3,0,a\n7,x,1,b\n", "line 3: output_tokens must be an integer of at least 1"),
    (HEADER + "5,3,0,a\n\n7,,1,b\n", "line 4: output_tokens must be an integer"),
    (HEADER + "0,3,0,a\n", "line 2: prompt_tokens must be an integer of at least 1 and below 2^31, got '0'"),
    (HEADER + "5,-3,0,a\n", "got '-3'"),
    (HEADER + "5.5,3,0,a\n", "got '5.5'"),
    (
        "prompt_tokens,output_tokens,priority\n1,1,-1\n1,1,0.5\n",
        "line 3: priority must be an integer from -2^53 to 2^53, or empty, got '0.5'",
    ),
    ("prompt_tokens,output_tokens,priority\n1,1,high\n", "line 2: priority must be an integer"),
    ("prompt_tokens,output_tokens,priority\n1,1,1e17\n", "line 2: priority must be an integer"),
    ('{"prompt_tokens": 1, "output_tokens": 1, "priority": true}\n', "line 1: priority must be an integer"),
    (HEADER + "nan,3,0,a\n", "got 'nan'"),
    (HEADER + "0x10,3,0,a\n", "got '0x10'"),
    (HEADER + "1e99,3,0,a\n", "got '1e99'"),
    (HEADER + "5,3,,a\n", "line 2: arrival_s must be a number of at least 0, or in each row a date and time, got ''"),
    (
        HEADER + "5,3,inf,a\n",
        "line 2: arrival_s must be a number of at least 0, or in each row a date and time, got 'inf'",
    ),
    (HEADER + "5,3,-1,a\n", "line 2: arrival_s must be a number of at least 0"),
    (HEADER + "5,3,0,a\n5,3,1,a\n", "line 3: request_id must be unique and not empty"),
    (HEADER + '5,3,0,"a\n5,3,1,b\n5,3,2,c\n', "line 2: request_id has a quote that is not closed in its line"),
    (HEADER + '5,3,0,"a\nb"\n5,3,1,b\n', "line 2: request_id has a quote that is not closed in its line"),
    (HEADER.replace("\n", "\r") + "5,3,0,a\r", "has no header in line 1: new-line character"),
    (HEADER + "5,3,0,\n", "line 2: request_id must be unique and not empty, got None"),
    (
        HEADER + "5,3,1e300,a\n",
        "line 2: arrival_s must be a number of at least 0, or in each row a date and time, got '1e300'",
    ),
    (
        "prompt_tokens,output_tokens,block_ids\n1,1,5-1\n",
        "line 2: block_ids must be a list of block numbers, got '5-1'",
    ),
    ("prompt_tokens,output_tokens,block_ids\n1,1,0-99999999999999\n", "line 2: block_ids must be a list of block"),
    ("prompt_tokens,output_tokens,block_ids\n1,1,99999999999999999999\n", "line 2: block_ids must be a list of block"),
    (
        '{"input_length": 5, "output_length": 3}\n' * 1001 + '{"input_length": 5, "output_length": 3, "delay": 1}\n',
        "delay first appears after line 1000",
    ),
    ("[" * 100_000, "is not complete JSON"),
    ('{"a":\n' + "[" * 100_000, "is neither complete JSON nor JSON lines"),
    ('{"input_length": 5, "output_length": 3}\n{"x": ' + "[" * 100_000 + "}\n", "line 2: not JSON"),
    (
        '{"request_throughput": 1, "input_lens": [5], "output_lens": [3], "start_times": 5}',
        "start_times or queue_times",
    ),
    (HEADER + "5,3,0,a\n5,3,1,a,9,9\n", "line 3: 6 fields, but the header has 4"),
    (
        "TIMESTAMP,ContextTokens,GeneratedTokens\nyesterday,1,2\n",
        "line 2: TIMESTAMP must be a number of at least 0, or in each row a date and time",
    ),
    ("arrival_s,think_s,prompt_tokens,output_tokens\n0,,1,1\n,-1,1,1\n", "line 3: think_s must be a finite number"),
    ("prompt_tokens,output_tokens,block_ids\n1,1,a-b\n", "line 2: block_ids must be a list of block numbers"),
    (
        "prompt_tokens,output_tokens,block_ids,block_tokens\n1,1,0,16\n1,1,0,8\n",
        "line 3: block_tokens must be an integer of at least 1, the same in each row",
    ),
    ('{"input_length": 5, "output_length": 3}\n{"input_length": 5}\n', "line 2: output_length must be an integer"),
    ('{"input_length": 5, "output_length": 3}\n\n{"input_length": true, "output_length": 1}\n', "line 3: input_length"),
    ('{"input_length": 5, "output_length": 3}\n{"input_len\n', "line 2: not JSON"),
    ('{"input_length": 5, "output_length": 3}\n7\n', "line 2: not a JSON object: 7"),
    (
        '{"input_length": 5, "output_length": 3, "hash_ids": [1, null]}\n',
        "line 1: hash_ids must be a list of block numbers",
    ),
    (
        "TIMESTAMP,ContextTokens,GeneratedTokens\n9999-05-10,1,2\n",
        "line 2: TIMESTAMP must be a number of at least 0, or in each row a date and time, got '9999-05-10'",
    ),
    (
        "TIMESTAMP,ContextTokens,GeneratedTokens\n2024-05-10 00:00:00,1,2\n12.5,1,2\n",
        "line 3: TIMESTAMP must be a date and time, as in the rows before, got '12.5'",
    ),
    ('{"a": 1}\n', "has no column of prompt lengths that is known; it has: a;"),
    (
        '{"timestamp": 0, "input_length": 5}\n',
        "has prompt lengths (input_length) but no column of output lengths that is known; it has: timestamp, "
        "input_length; trace.output_tokens=N gives each request N output tokens",
    ),
    (
        '{"input_length": 20, "output_length": 8, "hash_ids": [0, 1]}\n',
        "line 1: hash_ids must not have more blocks of 512 tokens than the request has tokens for, got [0, 1]",
    ),
    (
        '{"input_length": 600, "output_length": 8, "hash_ids": [18446744073709551616]}\n',
        "line 1: hash_ids must be a list of block numbers",
    ),
    (
        '{"input_toks": 3, "output_toks": 1, "input_tok_ids": [1, 2]}\n',
        "line 1: input_tok_ids must be empty or a list of as many tokens as the request has, got [1, 2]",
    ),
    (
        "arrival_s,think_s,prompt_tokens,output_tokens,session\n5,,1,1,a\n,1,9,1,a\n3,,9,1,a\n",
        "session a has turns that wait, so its rows must be in order of arrival",
    ),
    ('{"conversation": 5}\n', "has no column of prompt lengths that is known; it has: conversation"),
    ('{"a":\n1}\n', "is a JSON object but not a result of vllm bench serve"),
    ('{"request_throughput": 1}', "has no request lengths: vllm bench serve writes them with --save-detailed"),
    (
        '{"request_throughput": 1, "input_lens": [5, 5], "output_lens": [3, 0], "errors": ["", "gone"]}',
        "request 2: output_tokens must be an integer of at least 1",
    ),
]


@pytest.mark.parametrize(("text", "complaint"), MALFORMED, ids=[complaint for _, complaint in MALFORMED])
def test_a_malformed_file_is_named_with_its_line(tmp_path: Path, text: str, complaint: str) -> None:
    path = write(tmp_path / "trace.file", text)
    with pytest.raises(ValueError, match=r"trace\.file") as error:
        load(path)
    assert complaint in str(error.value)
    assert "\n" not in str(error.value)


def test_skipped_malformed_rows_are_counted(tmp_path: Path) -> None:
    text = HEADER + "5,3,2,a\n5,3,-1,b\n7,x,3,c\n\n5,3\n8,4,3,a\n9,1,4,d\n0,1,5,e\n"
    trace = load(write(tmp_path / "trace.csv", text), on_error="skip")
    assert trace.prompt_tokens.tolist() == [5, 9]
    assert trace.num_skipped == 5
    (note,) = [note.text for note in trace.notes]
    assert note.startswith("5 malformed rows were skipped, the first: ")
    assert "line 3: arrival_s must be a number of at least 0, or in each row a date and time, got '-1'" in note


def test_skipped_rows_are_reported_with_the_run(tmp_path: Path) -> None:
    from simulator import simulate

    path = write(tmp_path / "trace.csv", "arrival_s,prompt_tokens,output_tokens\n0,5,3\n1,5,0\n")
    with pytest.raises(ValueError, match=r"trace\.path: .* line 3: .*on_error=skip leaves such rows out"):
        load_config("trace=file", f"trace.path={path}", "arrival=trace")
    loaded = load_config("trace=file", f"trace.path={path}", "arrival=trace", "trace.on_error=skip")
    summary = simulate(**loaded).summary
    assert (summary["num_requests"], summary["num_skipped_rows"]) == (1, 1)
    assert any("1 malformed row was skipped" in warning for warning in summary["warnings"])


CELLS = st.sampled_from(["1", "7", " 12", "3.0", "0", "-1", "x", "", "nan", "1e3", "2147483648", '"5"'])
TIMES = st.sampled_from(["0", "1", "2.5", "2.5", "1e1", "-1", "soon", "", "inf"])


@given(
    st.lists(st.one_of(st.tuples(CELLS, CELLS, TIMES), st.just(()), st.just(("1", "2"))), max_size=12),
    st.sampled_from([tables.PART_BYTES, 64]),
)
@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_the_reader_agrees_with_a_slow_reader(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch, rows: list[tuple], part_bytes: int
) -> None:
    """The file is also read in parts of only a few rows."""
    monkeypatch.setattr(tables, "PART_BYTES", part_bytes)
    text = "prompt_tokens,output_tokens,arrival_s\n" + "".join(",".join(row) + "\n" for row in rows)
    expected, skipped = read_slowly(text)
    path = write(tmp_path_factory.mktemp("rows") / "trace.csv", text)
    if not expected:
        with pytest.raises(ValueError, match=r"no request"):
            load(path, on_error="skip")
        return
    trace = load(path, on_error="skip")
    assert trace.arrival_s is not None
    columns = trace.prompt_tokens.tolist(), trace.output_tokens.tolist(), trace.arrival_s.tolist()
    assert (list(zip(*columns, strict=True)), trace.num_skipped) == (expected, skipped)
    if skipped:
        with pytest.raises(ValueError, match=r"line \d+"):
            load(path)


def read_slowly(text: str) -> tuple[list[tuple[int, int, float]], int]:
    """Return the good rows in order of arrival and the number of malformed rows."""
    good: list[tuple[int, int, float]] = []
    skipped = 0
    for row in list(csv.reader(io.StringIO(text)))[1:]:
        if not any(row):
            continue
        try:
            prompt, output, arrival_s = map(float, row)
            whole = prompt.is_integer() and output.is_integer() and min(prompt, output) >= 1
            if not (whole and max(prompt, output) < 2**31 and math.isfinite(arrival_s) and arrival_s >= 0):
                raise ValueError
        except ValueError:
            skipped += 1
        else:
            good.append((int(prompt), int(output), arrival_s))
    good.sort(key=lambda row: row[2])
    return good, skipped


def test_only_selected_rows_are_read(tmp_path: Path) -> None:
    rows = "".join(f"{n},{10 * n},1\n" for n in range(10))
    path = write(tmp_path / "trace.csv", "arrival_s,prompt_tokens,output_tokens\n" + rows.replace("0,0,1", "0,5,1"))
    assert load(path, num_requests=3).prompt_tokens.tolist() == [5, 10, 20]
    assert len(load(path, num_requests=100)) == 10
    short = load(path, max_total_tokens=31)
    assert short.prompt_tokens.tolist() == [5, 10, 20, 30]
    assert short.notes == (Warning("requests_left_out", "6 requests longer than max_total_tokens=31 were left out"),)
    window = load(path, start_s=3, duration_s=4)
    assert (window.prompt_tokens.tolist(), lists(window)["arrival_s"]) == ([30, 40, 50, 60], [0.0, 1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="no request is left"):
        load(path, start_s=100)


@pytest.mark.parametrize(
    "times",
    [
        ["2025-03-01T10:00:00.25+01:00", "2025-03-01T10:00:01+01:00", "2025-03-01T10:00:03+01:00"],
        ["2025-03-01T09:00:00.25Z", "2025-03-01T09:00:01Z", "2025-03-01T09:00:03Z"],
        ["2025-03-01 09:00:00.250", "2025-03-01 09:00:01.000", "2025-03-01 09:00:03.000"],
        ["2025-03-01T10:00:00.25+01:00", "2025-03-01T09:00:01Z", "2025-03-01T04:00:03-05:00"],
        *([1740819600.25 * unit, 1740819601 * unit, 1740819603 * unit] for unit in (1, 1000, 10**6, 10**9)),
        [100.25, 101, 103],
    ],
    ids=["zone", "UTC", "no zone", "several zones", "s", "ms", "us", "ns", "any origin"],
)
@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_times_may_be_dates_or_since_1970_in_any_unit(tmp_path: Path, times: list[Any], kind: str) -> None:
    whole = [int(time) if isinstance(time, float) and time > 1e12 else time for time in times]
    rows = [{"started": time, "prompt_tokens": 5, "output_tokens": 2} for time in whole]
    text = "started,prompt_tokens,output_tokens\n" + "".join(f"{time},5,2\n" for time in whole)
    path = write(tmp_path / "log", text if kind == "csv" else "".join(json.dumps(row) + "\n" for row in rows))
    assert load(path).arrival_s is None
    assert load(path, columns={"arrival_s": "started"}).arrival_s == pytest.approx([0.0, 0.75, 2.75], abs=1e-6)


@pytest.mark.parametrize(
    ("times", "expected"),
    [
        ([59.5, 61.0], [59.5, 61.0]),
        ([60.0, 61.5], [0.0, 1.5]),
        ([1e6 + 2, 1e6, 1e6 + 3], [0.0, 2.0, 3.0]),
        ([3.0, 1.0, 70.0], [1.0, 3.0, 70.0]),
    ],
)
def test_times_that_begin_late_are_shifted_to_0(tmp_path: Path, times: list[float], expected: list[float]) -> None:
    text = "arrival_s,prompt_tokens,output_tokens\n" + "".join(f"{time},5,2\n" for time in times)
    trace = load(write(tmp_path / "log", text))
    assert lists(trace)["arrival_s"] == expected
    notes = [note.text for note in trace.notes if note.kind == "times_shifted"]
    assert [note.split()[3] for note in notes] == [f"{times[0]:,.12g}"] * (times[0] >= 60)


def test_a_window_after_shifted_times_says_by_how_much_they_were_shifted(tmp_path: Path) -> None:
    path = write(tmp_path / "log", "arrival_s,prompt_tokens,output_tokens\n3600,5,2\n3605,5,2\n")
    with pytest.raises(ValueError, match=r"no request is left of 2 rows; times were shifted: 3,600 s in the file"):
        load(path, start_s=3600)
    assert lists(load(path, start_s=5))["arrival_s"] == [0.0]


@pytest.mark.parametrize(
    ("options", "is_noted"),
    [
        (["arrival=poisson"], True),
        (["arrival=closed_loop"], True),
        (["arrival=trace"], False),
        (["trace.columns={arrival_s: null}"], False),
    ],
)
def test_recorded_times_that_are_not_used_are_noted(tmp_path: Path, options: list[str], is_noted: bool) -> None:
    path = write(tmp_path / "log.csv", "arrival_s,prompt_tokens,output_tokens\n1,5,2\n2,5,2\n")
    notes = load_config("trace=file", f"trace.path={path}", *options)["trace"].notes
    assert ("times_unused" in {note.kind for note in notes}) == is_noted


def test_the_user_names_columns(tmp_path: Path) -> None:
    path = write(tmp_path / "log.csv", "t,in,out,who,timestamp\n1,472,18,a,7\n3,1087,230,b,1\n")
    names = {"prompt_tokens": "in", "output_tokens": "out", "arrival_s": "t", "client": "who"}
    expected = LENGTHS | {"arrival_s": [1.0, 3.0], "client": ["a", "b"]}
    assert lists(load(path, columns=names)) == expected
    assert lists(load(path, columns=names | {"arrival_s": None})) == LENGTHS | {"client": ["a", "b"]}
    with pytest.raises(ValueError, match=r"has no column when, named by columns\.arrival_s; it has: t, in, out, who"):
        load(path, columns=names | {"arrival_s": "when"})
    deep = '{"a": {"n": 472}, "b": {"c": {"n": 18}}}\n{"a": {"n": 1087}, "b": {"c": {"n": 230}}}\n'
    path = write(tmp_path / "log.jsonl", deep)
    assert lists(load(path, columns={"prompt_tokens": "a.n", "output_tokens": "b.c.n"})) == LENGTHS


def test_a_file_read_in_milliseconds_is_read_in_seconds_if_the_user_names_its_times(tmp_path: Path) -> None:
    text = "".join(f'{{"timestamp": {time}, "input_length": 5, "output_length": 2}}\n' for time in (0, 2))
    path = write(tmp_path / "trace", text)
    assert lists(load(path))["arrival_s"] == [0.0, 0.002]
    assert lists(load(path, columns={"arrival_s": "timestamp"}))["arrival_s"] == [0.0, 2.0]


def test_rows_are_sorted_by_arrival(tmp_path: Path) -> None:
    text = "arrival_s,prompt_tokens,output_tokens,request_id,block_ids,block_tokens\n"
    text += "2.5,40,20,x,1;2,16\n0.5,40,10,y,3,16\n1,40,30,z,1;4,16\n0.5,40,40,w,,16\n"
    trace = load(write(tmp_path / "log.csv", text))
    assert lists(trace) == {
        "request_id": ["y", "w", "z", "x"],
        "prompt_tokens": [40] * 4,
        "output_tokens": [10, 40, 30, 20],
        "arrival_s": [0.5, 0.5, 1.0, 2.5],
    }
    assert trace.prefix is not None
    assert [trace.prefix.of(request).tolist() for request in range(4)] == [[3], [], [1, 4], [1, 2]]
    assert trace.notes == (Warning("rows_sorted", "rows were not in order of arrival and were sorted"),)
    with pytest.raises(ValueError, match="start_s and duration_s need rows in order of arrival; sort the file first"):
        load(tmp_path / "log.csv", start_s=1)


def test_turns_that_wait_stay_behind_their_sessions_first_turns(tmp_path: Path) -> None:
    """Files are often written session by session."""
    text = "session,arrival_s,think_s,prompt_tokens,output_tokens\na,9,,10,1\na,,2,20,1\nb,4,,30,1\nb,,3,40,1\n"
    trace = load(write(tmp_path / "log.csv", text))
    assert lists(trace) == {
        "prompt_tokens": [30, 10, 20, 40],
        "output_tokens": [1] * 4,
        "arrival_s": [4.0, 9.0, None, None],
        "think_s": [None, None, 2.0, 3.0],
        "session": [0, 1, 1, 0],
    }


def test_output_lengths_may_have_a_default(tmp_path: Path) -> None:
    text = '{"timestamp": 0, "input_length": 5}\n{"timestamp": 1000, "input_length": 6}\n'
    trace = load(write(tmp_path / "none", text), output_tokens=30)
    assert (trace.output_tokens.tolist(), lists(trace)["arrival_s"]) == ([30, 30], [0.0, 1.0])
    assert trace.notes == (
        Warning("default_outputs", "2 requests have no output length of their own but trace.output_tokens=30"),
    )
    text = "prompt_tokens,output_tokens\n5,\n6,4\n7,0\n8,\n"
    trace = load(write(tmp_path / "some", text), output_tokens=30, on_error="skip", max_total_tokens=37)
    assert trace.output_tokens.tolist() == [30, 4]
    assert "1 requests have no output length of their own but trace.output_tokens=30" in [
        note.text for note in trace.notes
    ]
    assert load(write(tmp_path / "all", "prompt_tokens,output_tokens\n5,1\n"), output_tokens=30).notes == ()


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_a_note_says_that_the_file_has_more_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    rows = [{"prompt_tokens": 5, "output_tokens": number} for number in range(1, 7)]
    text = "prompt_tokens,output_tokens\n" + "".join(f"5,{number}\n" for number in range(1, 7))
    path = write(tmp_path / "log", text if kind == "csv" else "".join(json.dumps(row) + "\n" for row in rows))
    assert load(path, num_requests=6).notes == load(path).notes == ()
    assert load(path, num_requests=4).notes == (
        Warning("rows_left_out", "first 4 of 6 rows; trace.num_requests=null takes all"),
    )
    monkeypatch.setattr(tables, "PART_BYTES", 8 if kind == "csv" else 80)
    (note,) = [note.text for note in load(path, num_requests=2).notes]
    assert re.fullmatch(r"first 2 of more than [2345] rows; trace.num_requests=null takes all", note)


@pytest.mark.parametrize("kind", ["lists", "text", "parquet"])
def test_block_hashes_may_have_64_bits(tmp_path: Path, kind: str) -> None:
    high = [2**63 + 11, 2**64 - 3]
    if kind == "parquet":
        columns = {"prompt_tokens": [32, 32], "output_tokens": [1, 1], "block_ids": [high, high[:1]]}
        types = {"block_ids": pa.list_(pa.uint64())}
        table = pa.table({name: pa.array(values, types.get(name)) for name, values in columns.items()})
        pa.parquet.write_table(table, tmp_path / "file")
    elif kind == "text":
        text = f"prompt_tokens,output_tokens,block_ids\n32,1,{high[0]};{high[1]}\n32,1,{high[0]}\n"
        write(tmp_path / "file", text)
    else:
        rows = [{"input_length": 1024, "output_length": 1, "hash_ids": ids} for ids in (high, high[:1])]
        write(tmp_path / "file", "".join(json.dumps(row) + "\n" for row in rows))
    blocks = load(tmp_path / "file").prefix
    assert blocks is not None
    assert len(set(blocks.ids.tolist())) == 2
    assert blocks.of(0)[0] == blocks.of(1)[0]
    write_back = tmp_path / "back.jsonl"
    save(load(tmp_path / "file"), write_back)
    assert np.array_equal(np.asarray(load(write_back).prefix.ids), blocks.ids)  # type: ignore[union-attr]


def test_equal_tokens_become_shared_blocks(tmp_path: Path) -> None:
    shared = list(range(32))
    rows = [
        {"input_toks": 40, "output_toks": 8, "input_tok_ids": shared + [7] * 8, "output_tok_ids": [9] * 8},
        {"input_toks": 33, "output_toks": 1, "input_tok_ids": [*shared, 8], "output_tok_ids": []},
        {"input_toks": 33, "output_toks": 1, "input_tok_ids": [1, *shared], "output_tok_ids": []},
        {
            "input_toks": 50,
            "output_toks": 1,
            "input_tok_ids": shared + [7] * 8 + [9] * 8 + [1, 1],
            "output_tok_ids": [2],
        },
        {"input_toks": 33, "output_toks": 1, "input_tok_ids": [], "output_tok_ids": [2]},
    ]
    blocks = load(write(tmp_path / "trace", "".join(json.dumps(row) + "\n" for row in rows))).prefix
    assert blocks is not None
    assert blocks.block_tokens == 16
    assert [blocks.of(request).tolist() for request in range(5)] == [[0, 1, 2], [0, 1], [3, 4], [0, 1, 2], []]


@pytest.mark.parametrize("name", ["conversation", "messages", "conversations"])
def test_chats_may_be_json_lines(tmp_path: Path, tokenizer_path: str, name: str) -> None:
    chats = [
        {"model": "m", name: [{"role": "user", "content": "a b"}, {"role": "assistant", "content": "c"}]},
        {"model": "m", name: [{"role": "user", "content": "a b c"}]},
    ]
    text = json.dumps(chats[0]) + "\n\n" + json.dumps(chats[1]) + "\n"
    path = write(tmp_path / "chats.jsonl", text)
    assert lists(load(path, tokenizer=tokenizer_path)) == {"prompt_tokens": [2], "output_tokens": [1], "session": [0]}
    with_default = load(path, tokenizer=tokenizer_path, output_tokens=9)
    assert (with_default.prompt_tokens.tolist(), with_default.output_tokens.tolist()) == ([2, 3], [1, 9])
    with pytest.raises(ValueError, match="tokenizer: this file contains text"):
        load(path)
    bad = write(tmp_path / "bad", text + '{"x": 1}\n{"mess\n')
    with pytest.raises(ValueError, match="line 4: must be an object with a list"):
        load(bad, tokenizer=tokenizer_path)
    assert load(bad, tokenizer=tokenizer_path, on_error="skip").num_skipped == 2


def test_a_log_with_messages_and_their_lengths_needs_no_tokenizer(tmp_path: Path) -> None:
    rows = '{"messages": [{"role": "user", "content": "a"}], "prompt_tokens": 472, "output_tokens": 18}\n'
    rows += '{"messages": [], "prompt_tokens": 1087, "output_tokens": 230}\n'
    assert lists(load(write(tmp_path / "log", rows))) == LENGTHS


@pytest.mark.parametrize("options", [{"num_requests": 2}, {"duration_s": 2.0}], ids=str)
@pytest.mark.parametrize("on_error", ["error", "skip"])
@pytest.mark.parametrize("later", ["9,1", "9,1,x", "2,0,1", ""])
def test_rows_after_the_selected_ones_are_ignored(
    tmp_path: Path, options: dict[str, Any], on_error: str, later: str
) -> None:
    rows = f"arrival_s,prompt_tokens,output_tokens\n0,5,1\n1,6,1\n2,7,1\n{later}\n"
    trace = load(write(tmp_path / "trace.csv", rows), on_error=on_error, **options)
    assert (trace.prompt_tokens.tolist(), trace.num_skipped) == ([5, 6], 0)


def test_the_first_malformed_line_is_named_for_every_kind_of_error(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv"
    lines = ["arrival_s,prompt_tokens,output_tokens", "1,5,1", "-1,6,1", "2,0,1", "3,7", "4,8,1"]
    for first, reason in (
        (3, "arrival_s must be a number of at least 0"),
        (4, "prompt_tokens must be"),
        (5, "2 fields"),
    ):
        kept = [line for number, line in enumerate(lines, 1) if not 3 <= number < first]
        write(path, "\n".join([*kept[:2], *[""] * (first - 3), *kept[2:]]) + "\n")
        with pytest.raises(ValueError, match=rf"line {first}: {reason}"):
            load(path)


@pytest.mark.parametrize("kind", ["csv", "jsonl"])
def test_rows_are_counted_and_numbered_across_the_parts_of_a_large_file(tmp_path: Path, kind: str) -> None:
    """Parts have 8 MB, so the malformed rows are in later parts too."""
    num_rows, bad = 600_000, {3, 250_001, 250_002, 599_998}
    if kind == "csv":
        lines = [f"{row},{row % 50 + 1},{row % 7 + 1},abcdefghijklmnopqrst" for row in range(num_rows)]
        for row in bad:
            lines[row] = f"{row},0,1,x" if row % 2 else f"{row},1"
        text = "arrival_s,prompt_tokens,output_tokens,text\n" + "\n".join(lines) + "\n"
    else:
        lines = [
            f'{{"arrival_s": {row}, "prompt_tokens": {row % 50 + 1}, "output_tokens": 3}}' for row in range(num_rows)
        ]
        for row in bad:
            lines[row] = f'{{"arrival_s": {row}, "prompt_tokens": 0, "output_tokens": 3}}' if row % 2 else "{"
        text = "\n".join(lines)
    assert len(text) > 2 * 2**23
    path = write(tmp_path / "trace", text)
    trace = load(path, on_error="skip")
    good = np.array([row for row in range(num_rows) if row not in bad])
    assert trace.num_skipped == len(bad)
    assert np.array_equal(np.asarray(trace.arrival_s), good)
    assert np.array_equal(trace.prompt_tokens, good % 50 + 1)
    first = 1 if kind == "jsonl" else 2
    late = "\n".join(
        line if row not in bad or row == 599_998 else "" for row, line in enumerate(text.split("\n"), -first + 1)
    )
    with pytest.raises(ValueError, match=rf"line {599_998 + first}: "):
        load(write(tmp_path / "late", late))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"num_requests": 0}, "num_requests must be an integer of at least 1 or null, got 0"),
        ({"max_total_tokens": 1}, "max_total_tokens must be an integer of at least 2 or null, got 1"),
        ({"on_error": "ignore"}, "on_error must be one of error, skip; got 'ignore'"),
        ({"start_s": -1}, "start_s must be a finite number of at least 0, got -1"),
        ({"duration_s": 0}, "duration_s must be a finite number above 0 or null, got 0"),
        ({"find_sessions": 1}, "find_sessions must be true or false, got 1"),
        ({"output_tokens": 0}, "output_tokens must be an integer of at least 1 or null, got 0"),
        ({"columns": ["a"]}, "columns must be {NAME: COLUMN, ...} or null, got ['a']"),
        ({"columns": {"session": 3}}, "columns.session must be the name of a column of the file or null, got 3"),
        ({"tokenizer": 1}, "tokenizer must be the path of a tokenizer.json or null, got 1"),
    ],
)
def test_options_out_of_range_are_named(options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        TraceFile("trace.csv", **options)
    assert str(error.value) == complaint


def test_a_truncated_archive_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "trace.csv.gz"
    path.write_bytes(gzip.compress((HEADER + "5,3,0,a\n" * 1000).encode())[:60])
    with pytest.raises(ValueError, match=r"cannot read .*trace\.csv\.gz"):
        load(path)


@pytest.mark.parametrize(
    "content", [b"PAR1 and no more", b"\xff\xfe\x00binary,\x00", b"prompt_tokens,output_tokens\n1,\xff\n"]
)
def test_a_file_of_no_known_format_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    with pytest.raises(ValueError, match=r"trace\.file") as error:
        load(write(tmp_path / "trace.file", content))
    assert "\n" not in str(error.value)


ROUND_TRIPS = {
    "lengths": Trace(np.array([5, 7]), np.array([1, 2])),
    "everything": Trace(
        np.array([5, 70, 9]),
        np.array([1, 2, 3]),
        arrival_s=np.array([0.1, np.nan, 1 / 3]),
        think_s=np.array([np.nan, 0.7, np.nan]),
        request_id=np.array(["a,b", 'say "x"', "ü"]),
        session=np.array([0, 0, -1]),
        priority=np.array([-3, 0, 2**53]),
    ),
}


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_a_saved_trace_is_read_back(tmp_path: Path, name: str, suffix: str) -> None:
    trace, path = ROUND_TRIPS[name], tmp_path / f"trace{suffix}"
    save(trace, path)
    assert lists(load(path)) == lists(trace)
    first = path.read_bytes()
    save(trace, path)
    assert path.read_bytes() == first
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_columns_that_only_late_rows_fill_are_saved(tmp_path: Path, suffix: str) -> None:
    count = 1500
    late = np.arange(count) >= count - 2
    trace = Trace(
        np.full(count, 5),
        np.full(count, 2),
        arrival_s=np.where(late, np.nan, 1.0),
        think_s=np.where(late, 3.0, np.nan),
        session=np.where(late, 0, -1),
    )
    save(trace, tmp_path / f"trace{suffix}")
    assert lists(load(tmp_path / f"trace{suffix}")) == lists(trace)


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_clients_and_prefix_blocks_are_saved(tmp_path: Path, suffix: str) -> None:
    trace = load(write(tmp_path / "bailian", FORMATS["bailian"][0]))
    save(trace, tmp_path / f"trace{suffix}")
    loaded = load(tmp_path / f"trace{suffix}")
    assert lists(loaded) == lists(trace)
    assert loaded.prefix is not None
    assert (loaded.prefix.block_tokens, loaded.prefix.ids.tolist()) == (16, [1089, 1089, 1090])


def test_only_regular_files_are_replaced(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    for path in (tmp_path / "folder.csv", Path("/dev/null")):
        with pytest.raises(OSError, match="exists and is not a file") as error:
            write_atomic(path, b"")
        assert error.value.filename == str(path)
    with pytest.raises(FileNotFoundError) as missing:
        write_atomic(tmp_path / "no" / "file.csv", b"")
    assert missing.value.filename == str(tmp_path / "no" / "file.csv")


def bailian(rows: list[tuple[Any, Any]]) -> str:
    return "".join(
        json.dumps(
            {"chat_id": chat, "parent_chat_id": parent, "timestamp": index, "input_length": 9, "output_length": 2}
        )
        + "\n"
        for index, (chat, parent) in enumerate(rows)
    )


@pytest.mark.parametrize(
    ("rows", "sessions"),
    [
        ([(1, -1), (2, 1), (3, -1), (4, 2)], [0, 0, 1, 0]),
        ([(1, -1), (1, -1), (2, -1), (3, 2)], [0, 1, 1]),
        ([(1, -1), (2, 1), (1, -1), (4, 2), (5, 1)], [0, 0, 0, 1]),
        ([(1, -1), (None, 1), (3, 1)], [0, 0]),
        ([(8, 7), (9, 8)], [0, 0]),
    ],
    ids=["chains", "a repeated identifier", "two turns with one parent", "no identifier", "a missing parent"],
)
def test_turns_are_chained_by_their_parents(tmp_path: Path, rows: list[tuple[Any, Any]], sessions: list[int]) -> None:
    trace = load(write(tmp_path / "trace.jsonl", bailian(rows)), on_error="skip")
    assert trace.session is not None
    assert trace.session.tolist() == sessions
    assert trace.num_skipped == len(rows) - len(sessions)


@pytest.mark.parametrize("options", [{"on_error": "skip"}, {"max_total_tokens": 80}], ids=str)
def test_turns_after_a_turn_that_is_left_out_are_left_out_too(tmp_path: Path, options: dict[str, Any]) -> None:
    first = 0 if "on_error" in options else 900
    text = f"arrival_s,think_s,prompt_tokens,output_tokens,session\n0,,10,5,a\n1,,{first},5,b\n,3,30,5,b\n,4,60,5,a\n"
    trace = load(write(tmp_path / "trace.csv", text), **options)
    assert trace.prompt_tokens.tolist() == [10, 60]
    assert "1 turns were left out because an earlier turn of their session was" in [note.text for note in trace.notes]


def test_think_times_need_no_arrival_times(tmp_path: Path) -> None:
    text = '{"session_id": "a", "input_length": 9, "output_length": 2}\n'
    text += '{"session_id": "a", "delay": 500, "input_length": 30, "output_length": 2}\n'
    trace = Sessions(qps=1, think_s=None).assign(load(write(tmp_path / "trace", text)), RNG)
    assert trace.think_s is not None
    assert trace.think_s[1] == 0.5


def test_blocks_keep_their_numbers_and_their_size(tmp_path: Path) -> None:
    text = '{"input_length": 600, "output_length": 2, "hash_ids": [-4294967295, 1]}\n'
    trace = load(write(tmp_path / "a", text))
    for suffix in SUFFIXES:
        save(trace, tmp_path / f"saved{suffix}")
        for loaded in (trace, load(tmp_path / f"saved{suffix}")):
            assert loaded.prefix is not None
            assert loaded.prefix.ids.tolist() == [-4294967295, 1]
    text = "prompt_tokens,output_tokens,block_ids,block_tokens\n9,1,0,x\n" + "9,1,0,16\n" * 3
    skipped = load(write(tmp_path / "b", text), on_error="skip")
    assert (len(skipped), skipped.num_skipped) == (3, 1)
    assert skipped.prefix is not None
    assert skipped.prefix.block_tokens == 16


def test_find_sessions_is_refused_for_a_file_with_sessions(tmp_path: Path) -> None:
    path = write(tmp_path / "trace", FORMATS["mooncake with delays"][0])
    with pytest.raises(ValueError, match="find_sessions=true is for files without sessions"):
        load(path, find_sessions=True)


def test_a_time_window_with_too_many_requests_is_reported(tmp_path: Path) -> None:
    path = write(
        tmp_path / "trace.csv", "arrival_s,prompt_tokens,output_tokens\n" + "".join(f"{n},9,1\n" for n in range(9))
    )
    assert load(path, start_s=2, duration_s=4, num_requests=4).notes == ()
    assert load(path, start_s=2, duration_s=4, num_requests=3).notes == (
        Warning("window_full", "the time window has more than num_requests=3 requests"),
    )


def test_padding_and_truncation_do_not_change_token_counts(tmp_path: Path, tokenizer_path: str) -> None:
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(tokenizer_path)
    tokenizer.enable_padding(length=10)
    tokenizer.enable_truncation(max_length=2)
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    chats = [
        *CHATS,
        {"id": "d", "conversations": [{"from": "user", "value": "\ud800 half"}, {"from": "gpt", "value": "?"}]},
    ]
    path = write(tmp_path / "chats.json", json.dumps(chats))
    plain, padded = load(path, tokenizer=tokenizer_path), load(path, tokenizer=str(tmp_path / "tokenizer.json"))
    assert lists(plain) == lists(padded)
    assert plain.prompt_tokens.tolist() == [5, 8, 1, 2]


def test_an_answer_without_tokens_is_malformed(tmp_path: Path, tokenizer_path: str) -> None:
    chats = [{"conversations": [{"from": "human", "value": "one"}, {"from": "gpt", "value": ""}]}, CHATS[2]]
    path = write(tmp_path / "chats.json", json.dumps(chats))
    with pytest.raises(ValueError, match="conversation 1: output_tokens must be"):
        load(path, tokenizer=tokenizer_path)
    assert load(path, tokenizer=tokenizer_path, on_error="skip").num_skipped == 1


def test_parquet_of_other_encodings_is_read(tmp_path: Path) -> None:
    columns = {
        "prompt_tokens": pa.array(["5", "7"]).dictionary_encode(),
        "output_tokens": pa.array(["1", "2"], pa.string_view()),
        "session": pa.array([1.0, np.nan]),
    }
    pa.parquet.write_table(pa.table(columns), tmp_path / "a.parquet")
    assert lists(load(tmp_path / "a.parquet")) == {"prompt_tokens": [5, 7], "output_tokens": [1, 2], "session": [0, -1]}
    twice = pa.table([pa.array([1]), pa.array([2])], names=["prompt_tokens", "prompt_tokens"])
    pa.parquet.write_table(twice, tmp_path / "b.parquet")
    with pytest.raises(ValueError, match="has more than one column prompt_tokens"):
        load(tmp_path / "b.parquet")


def test_a_part_without_any_good_row_is_skipped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "PART_BYTES", 64)
    text = "prompt_tokens,output_tokens\n1,1\n" + "1\n" * 500 + "2,2\n"
    trace = load(write(tmp_path / "trace.csv", text), on_error="skip")
    assert (trace.prompt_tokens.tolist(), trace.num_skipped) == ([1, 2], 500)
    with pytest.raises(ValueError, match="line 3: 1 field, but the header has 2"):
        load(tmp_path / "trace.csv")


PUBLISHED = [
    ("sharegpt_8k.csv.gz", 30731, None),
    ("arxiv_4k.csv.gz", 28257, None),
    ("AzureLLMInferenceTrace_conv.csv.gz", 19366, 3501.721937),
    ("AzureLLMInferenceTrace_code.csv.gz", 8819, 3435.948056),
    ("mooncake_conversation.jsonl.gz", 12031, 3536.999),
]


@needs_shared
@pytest.mark.parametrize(("name", "num_requests", "last_s"), PUBLISHED)
def test_published_traces_are_read_completely(name: str, num_requests: int, last_s: float | None) -> None:
    trace = load(SHARED / "data" / "traces" / name)
    assert len(trace) == num_requests
    assert (None if trace.arrival_s is None else trace.arrival_s[-1]) == pytest.approx(last_s)


@needs_shared
def test_mooncake_sessions_share_their_prefixes() -> None:
    trace = load(SHARED / "data" / "traces" / "mooncake_conversation.jsonl.gz", find_sessions=True)
    assert trace.prefix is not None
    assert len(trace.prefix.ids) == 288500
    session, turn = trace.turns()
    order = np.lexsort((turn, session))
    later = turn[order] > 0
    assert np.count_nonzero(later) > 2000
    before = np.concatenate([[0], (trace.prompt_tokens + trace.output_tokens)[order][:-1]])
    assert np.all(trace.prompt_tokens[order][later] >= before[later])
    for row in np.flatnonzero(later)[:300]:
        current, previous = order[row], order[row - 1]
        whole = trace.prompt_tokens[previous] // 512
        assert trace.prefix.of(int(current))[:whole].tolist() == trace.prefix.of(int(previous))[:whole].tolist()
