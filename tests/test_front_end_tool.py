"""`python -m profiling front-end`: everything but vLLM itself."""

import asyncio
import os
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

import pytest

from profiling.__main__ import main
from profiling.front_end.client import HOST, Answer, Client, FrontEndError, Load
from profiling.front_end.cpu_time import CpuTime
from profiling.front_end.fit import Constants, fit
from profiling.front_end.processes import Cores
from profiling.front_end.streams import Record, Stream, Streams
from profiling.front_end.summary import Latency, RunSummary, Window, summarize

KNOWN = Constants(request_s=0.0022, step_s=0.0007, token_s=0.00004, latency_s=0.0036)


def run_at(rate: float, output_tokens: int, constants: Constants = KNOWN, loop_s: float | None = None) -> RunSummary:
    """Build a run of 10 s with 50 steps/s whose event loop costs what the constants say."""
    num_requests = round(10 * rate)
    num_tokens = num_requests * output_tokens
    num_steps = min(500, num_tokens)
    cost_s = num_requests * constants.request_s + num_steps * constants.step_s + num_tokens * constants.token_s
    cpu = CpuTime(cost_s if loop_s is None else loop_s, 0.0, 0.0)
    before = Latency(0.1, constants.request_s + constants.latency_s)
    return RunSummary(
        rate, output_tokens, 10.0, num_requests, num_steps, num_tokens, 575.0, cpu, before, Latency(0.001, 0.001), 0
    )


def test_the_fit_recovers_the_constants_of_the_runs() -> None:
    fitted = fit([run_at(8, 246), run_at(16, 246), run_at(24, 246), run_at(48, 1)])
    for name in ("request_s", "step_s", "token_s", "latency_s"):
        assert getattr(fitted.constants, name) == pytest.approx(getattr(KNOWN, name))
    assert fitted.residuals == pytest.approx([0, 0, 0, 0])


def test_the_fit_leaves_saturated_runs_out_and_says_so() -> None:
    fitted = fit([run_at(8, 246), run_at(16, 246), run_at(60, 246, loop_s=9.9), run_at(48, 1)])
    assert fitted.constants.token_s == pytest.approx(KNOWN.token_s)
    assert fitted.residuals[2] is None


def test_residuals_are_fitted_over_measured_minus_one() -> None:
    runs = [run_at(rate, 246) for rate in (4, 8, 12, 16)] + [run_at(32, 1)]
    runs[1] = replace(runs[1], cpu=CpuTime(1.1 * runs[1].cpu.loop_s, 0.0, 0.0))
    residuals = fit(runs).residuals
    assert residuals[1] is not None
    assert -0.1 < residuals[1] < -0.01


def test_the_fit_needs_enough_runs_that_are_not_saturated() -> None:
    saturated = run_at(60, 246, loop_s=9.9)
    with pytest.raises(FrontEndError, match="lower --rates"):
        fit([run_at(8, 246), saturated, saturated, run_at(48, 1)])
    with pytest.raises(FrontEndError, match="lower --rates"):
        fit([run_at(8, 246), run_at(16, 246), run_at(24, 246)])


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


def answers_of(handler: Handler, load: Load) -> list[Answer]:
    """Return what the client sees of a local server."""

    async def seen() -> list[Answer]:
        server = await asyncio.start_server(handler, HOST, 0)
        port = server.sockets[0].getsockname()[1]
        client = Client(port, "model", ["a prompt", "another"])
        try:
            return await client.run(load, lambda: edges.append(port))
        finally:
            client.close()
            server.close()
            await asyncio.sleep(0.02)  # connections end

    edges: list[int] = []
    answers = asyncio.run(seen())
    assert len(edges) == 2
    return answers


def chunk(text: bytes) -> bytes:
    return f"{len(text):x}\r\n".encode() + text + b"\r\n"


# Three tokens, of which the second looks like an event, and the usage.
EVENTS = (b'{"text":"a"}', b'{"text":"\\ndata: {0\\r\\n"}', b'{"text":"data: {"}', b'{"usage":{}}')
ANSWER = (
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    + b"".join(chunk(b"data: " + event + b"\n\n") for event in EVENTS)
    + chunk(b"data: [DONE]\n\n")
    + b"0\r\n\r\n"
)


async def request_body(reader: asyncio.StreamReader) -> bytes:
    header = await reader.readuntil(b"\r\n\r\n")
    length = int(header.lower().partition(b"content-length:")[2].split()[0])
    return await reader.readexactly(length)


def served_in_pieces(size: int) -> Handler:
    """Return a server that answers every request of a connection in pieces of `size` bytes."""

    async def handler(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                assert b'"max_tokens": 3' in await request_body(reader)
                for start in range(0, len(ANSWER), size):
                    writer.write(ANSWER[start : start + size])
                    await writer.drain()
                    await asyncio.sleep(0)
        except asyncio.IncompleteReadError:
            writer.close()

    return handler


@pytest.mark.parametrize("size", [1, 7, 10_000])
def test_the_client_counts_events_however_the_answer_is_cut(size: int) -> None:
    answers = answers_of(served_in_pieces(size), Load(rate=40, output_tokens=3, warm_up_s=0.05, seconds=0.1))
    assert [answer.name for answer in answers] == [f"1.{index}" for index in range(6)]
    for answer in answers:
        assert answer.is_complete
        assert len(answer.chunk_s) == len(EVENTS)
        assert answer.sent_s < answer.chunk_s[0] <= answer.chunk_s[-1]


def test_a_refusal_of_the_server_is_an_error() -> None:
    async def refuse(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await request_body(reader)
        writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 8\r\n\r\nno model")
        await writer.drain()
        writer.close()

    with pytest.raises(FrontEndError, match="404 Not Found"):
        answers_of(refuse, Load(rate=20, output_tokens=3, warm_up_s=0.05, seconds=0.05))


def test_requests_emit_one_token_per_step_from_the_step_after_the_next() -> None:
    streams = Streams()
    streams.add("a", Stream("1.0", 0.0, 10, 2))
    emitted = []
    for step in range(4):
        emitted.append([request_id for request_id, _ in streams.step()])
        streams.sent(float(step), len(emitted[-1]))
        if step == 0:
            streams.add("b", Stream("1.1", 0.5, 10, 9))
    assert emitted == [[], ["a"], ["a", "b"], ["b"]]
    streams.abort("b")
    assert streams.step() == []
    assert [stream.first_step for stream in streams.record.streams] == [1, 2]


def test_a_summary_counts_what_happened_in_the_window(tmp_path: Path) -> None:
    early = Stream("1.0", 0.51, 500, 2, first_step=0, num_emitted=2)
    within = Stream("1.1", 1.02, 700, 2, first_step=1, num_emitted=2)
    merged = Stream("1.2", 1.14, 600, 2, first_step=2, num_emitted=2)
    record = Record([0.9, 1.1, 1.2, 2.1], [1, 2, 2, 1], [early, within, merged])
    record.write(tmp_path / "record.json")
    answers = [
        Answer("1.0", 0.5, [0.95, 1.15, 1.15], is_complete=True),
        Answer("1.1", 1.0, [1.103, 1.205, 1.205], is_complete=True),
        Answer("1.2", 1.1, [2.2, 2.2], is_complete=True),
    ]
    window = Window(1.0, 2.0, CpuTime(0.3, 0.4, 0.0))
    summary = summarize(Load(2, 2, 1.0, 1.0), answers, window, Record.read(tmp_path / "record.json"))
    assert (summary.num_requests, summary.num_steps, summary.num_tokens, summary.num_merged) == (2, 2, 4, 1)
    assert summary.streams == 2
    assert summary.prompt_tokens == 650
    assert summary.loop_share == pytest.approx(0.3)
    assert summary.before_engine.mean_s == pytest.approx(0.03)
    assert summary.delivery.mean_s == pytest.approx(0.004)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_the_time_of_the_event_loop_is_that_of_the_main_thread() -> None:
    before = CpuTime.of(os.getpid())
    sum(range(1_000_000))
    spent = CpuTime.of(os.getpid()).since(before)
    assert 0 < spent.loop_s <= spent.process_s


def test_without_vllm_one_line_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "vllm", None)
    with pytest.raises(SystemExit) as stopped:
        main(["front-end", "--output", str(tmp_path / "front_end.json")])
    assert stopped.value.code == 2
    assert capsys.readouterr().err == "error: front-end needs vLLM: pip install vllm\n"
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--cores", "0"], "--cores must be two of the cores"),
        (["--cores", "0,x"], "--cores must be two of the cores"),
        (["--cores", "0,100000"], "--cores must be two of the cores"),
        (["--rates", "8"], "at least two different rates"),
        (["--rates", "8,fast"], "--rates must be numbers, got 'fast'"),
        (["--rates", "8,0"], "--rates must be a number from 1 to 1000"),
        (["--step-ms", "0"], "--step-ms must be"),
        (["--output-tokens", "1"], "--output-tokens must be"),
        (["--prompt-tokens", "0"], "--prompt-tokens must be"),
        (["--seconds", "nan"], "--seconds must be"),
    ],
)
def test_invalid_options_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], message: str
) -> None:
    with pytest.raises(SystemExit) as stopped:
        main(["front-end", "--output", str(tmp_path / "front_end.json"), *arguments])
    assert stopped.value.code == 2
    line = capsys.readouterr().err
    assert message in line
    assert line.count("\n") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="cores are pinned on Linux")
def test_cores_are_two_different_ones_of_this_process() -> None:
    allowed = sorted(os.sched_getaffinity(0))
    assert Cores.of(None) == Cores(-1, -1)
    with pytest.raises(FrontEndError, match="two different cores"):
        Cores.of(f"{allowed[0]},{allowed[0]}")
    if len(allowed) > 1:
        assert Cores.of(f"{allowed[0]},{allowed[1]}") == Cores(allowed[0], allowed[1])
