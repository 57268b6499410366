"""Tables that the terminal and the pages of a report both show."""

import io
import re
from dataclasses import replace
from typing import Any

import pytest
from rich.console import Console

from simulator import load_config, simulate
from simulator.cli import print_summary, terminal_table
from simulator.report.page import Fact, Page, render
from simulator.results import (
    Cell,
    Column,
    PricedPoint,
    Table,
    client_figures,
    deployments_table,
    figures_table,
    flat,
    jobs_table,
    latencies_table,
    parts_tables,
    share,
    side_by_side,
    table_of,
    trials_table,
)
from traces.shared.terminal import show

TRIAL = {"goodput": None, "num_finished": 9, "met": True, "missed": [], "values": {"tbt_p99": 0.05}}


def printed(table: Table, width: int = 80, *, titled: bool = False) -> str:
    """Return a table as the terminal shows it."""
    file = io.StringIO()
    terminal = Console(file=file, width=width, force_terminal=True, color_system="standard")
    show(terminal, terminal_table(table, titled=titled))
    return file.getvalue()


def plain(text: str) -> str:
    """Return a text without the codes of its colours."""
    return re.sub(r"\x1b\[[\d;]*m", "", text)


def page(table: Table) -> str:
    """Return the HTML of a table."""
    text = render(Page("a", "Run", [Fact("b", "c")], [], tables=[table]))
    return text[text.index('<table class="sortable') : text.index("</table>")]


@pytest.fixture(scope="module")
def summary() -> dict[str, Any]:
    result = simulate(
        **load_config(
            *("trace=mix", "trace.num_requests=24", "iteration_time=affine", "cluster.replicas=2", "parallel.pp=2")
        )
    )
    return result.summary | {"clients": client_figures(result), "slo": None, "warnings": []}


def test_every_cell_of_a_run_is_the_same_on_the_terminal_and_on_its_page(summary: dict[str, Any]) -> None:
    tables = [latencies_table({"": summary}), *parts_tables(summary)]
    titles = [table.title for table in tables]
    assert titles == ["Latencies", "Client classes", "SLO", "Replicas", "Pipeline stages"]
    for table in tables:
        terminal, html = plain(printed(table, width=200, titled=True)), page(table)
        assert table.title in terminal
        for row in table.rows:
            for head, cell in zip(table.head, row, strict=True):
                escaped = cell.text.replace("<", "&lt;").replace(">", "&gt;")
                assert f">{escaped}</td>" in html
                assert head in table.details or cell.text in terminal


def test_details_are_on_pages_alone() -> None:
    columns = (Column("a", "name", str), Column("b", "wide", is_detail=True), Column("c", "narrow"))
    table = table_of("T", columns, [{"a": "x", "b": 4321, "c": 7}, {"a": "y"}])
    assert [line.split() for line in plain(printed(table)).splitlines()][0::2] == [["name", "narrow"], ["x", "7"]]
    assert "4321" in page(table)
    assert page(table).count(">-</td>") == 2  # what is unknown


def test_marks_have_a_colour_on_the_terminal_and_a_class_on_pages() -> None:
    missed = {**TRIAL, "qps": 2.0, "seed": 0, "met": False, "missed": ["tbt_p99"], "values": {"tbt_p99": 0.3}}
    table = trials_table([missed, {**TRIAL, "qps": 1.0, "seed": 0}], ["tbt_p99"])
    assert [row[0].text for row in table.rows] == ["1", "2"]
    assert [row[-1].text for row in table.rows] == ["met", "missed: TBT p99"]
    assert re.findall(r"\x1b\[31m *([\w ]+)\x1b", printed(table)) == ["300 ms"]
    assert re.findall(r'class="number (\w+)"[^>]*>([^<]+)<', page(table)) == [("missed", "300 ms")]


def test_trials_of_several_seeds_name_their_seed() -> None:
    trials = [{**TRIAL, "qps": 1.0, "seed": seed} for seed in (1, 0)]
    assert list(trials_table(trials, ["tbt_p99"]).head) == ["requests/s", "seed", "TBT p99", "finished", "SLO"]
    assert [row[1].text for row in trials_table(trials, ["tbt_p99"]).rows] == ["0", "1"]


def test_no_digit_is_cut_off_on_a_narrow_terminal() -> None:
    columns = [Column(f"v{number}", f"quantity {number}, requests/s", "{:,.1f}".format) for number in range(14)]
    table = table_of("T", [Column("a", "name", str), *columns], [{"a": "x", **{f"v{n}": 1234.5 for n in range(14)}}])
    text = plain(printed(table, width=80))
    assert "…" not in text
    assert sum(character in "12345" for line in text.splitlines()[-4:] for character in line) >= 14 * 5
    assert max(map(len, text.splitlines())) <= 80


def test_heads_of_numbers_are_about_as_wide_as_the_numbers() -> None:
    table = table_of("T", (Column("a", "name", str), Column("b", "TTFT p90, ms")), [{"a": "x", "b": 1.0}])
    assert [line.split() for line in plain(printed(table)).splitlines()[:2]] == [["TTFT", "p90,"], ["name", "ms"]]


def test_runs_side_by_side_have_their_difference_to_the_first() -> None:
    columns = (Column("a", "A"), Column("b", "B", share), Column("c", "C"), Column("d", "D"))
    runs = {"x": {"a": 4, "b": 0.5, "c": None}, "y": {"a": 5, "b": 0.5, "c": 3}, "z": {"a": None, "b": 0.5001, "c": 0}}
    rows = [[cell.text for cell in row] for row in side_by_side("T", "", columns, runs).rows]
    assert rows == [["A", "4", "5 (+25.0%)", "-"], ["B", "50.0%", "50.0%", "50.0%"], ["C", "-", "3", "0"]]


def test_figures_that_are_zero_in_every_run_are_left_out(summary: dict[str, Any]) -> None:
    names = [row[0].text for row in figures_table({"run": summary}).rows]
    assert "finished" in names
    assert not {"stuck", "lost", "replica failures", "replicas up"} & {*names}
    some = [row[0].text for row in figures_table({"run": summary, "other": summary | {"num_stuck": 2}}).rows]
    assert "stuck" in some


def test_stages_of_replicas_come_after_their_means(summary: dict[str, Any]) -> None:
    (stages,) = (table for table in parts_tables(summary) if table.title == "Pipeline stages")
    names = [row[0].text for row in stages.rows]
    assert names == ["stage 0", "stage 1", *(f"replica {number}, stage {stage}" for number in "01" for stage in "01")]
    assert "down" not in stages.head
    busy = [row[1].key for row in stages.rows]
    assert busy[0] == pytest.approx((busy[2] + busy[4]) / 2)  # type: ignore[operator]


def test_a_missed_objective_of_a_class_is_marked(summary: dict[str, Any]) -> None:
    client = summary["clients"][0]
    objective = {"name": "ttft_p90", "bound": 1e-6, "value": 2.0, "met": False}
    slo = {**client["slo"], "objectives": [objective], "met": False}
    tables = parts_tables(summary | {"clients": [client | {"slo": slo}, client | {"slo": None}]})
    classes, objectives = (table for table in tables if table.title in ("Client classes", "SLO"))
    assert [row[-2].text for row in classes.rows] == ["missed", "none"]
    assert objectives.rows[0][2] == Cell("2 s", 2.0, "missed")
    assert [row[0].text for row in objectives.rows] == [client["client"]] * 3
    assert f"{slo['num_judged']} judged" in objectives.rows[1][1].text


def test_a_long_table_is_cut_off_and_says_so(summary: dict[str, Any]) -> None:
    file = io.StringIO()
    replicas = [{**summary["replicas"][0], "replica": number} for number in range(40)]
    print_summary(summary | {"replicas": replicas, "busy_fraction": [0.5], "config": {}}, Console(file=file, width=100))
    text = file.getvalue()
    assert "replica 31 " in text
    assert "replica 32 " not in text
    assert "the first 32 of 40 rows are shown; summary.json has all" in text


def test_jobs_have_the_columns_that_any_job_has() -> None:
    done = {"job": 0, "scheduler": "a", "requests_per_s": 2.0, "overloaded": False, "kv_use.max": 0.5, "error": None}
    failed = {"job": 1, "scheduler": "b", "error": "it failed"}
    table = jobs_table([done, failed], ["job", "scheduler"])
    assert list(table.head) == ["job", "scheduler", "requests/s", "KV used, most", "overloaded"]
    assert [cell.text for cell in table.rows[0]] == ["0", "a", "2", "50.0%", "no"]
    assert [cell.text for cell in table.rows[1]] == ["1", "b", "failed", "failed", "failed"]
    assert "KV used" not in printed(table)
    sizes = jobs_table([{"scheduler.token_budget": size} for size in ("512", "2048", None)], ["scheduler.token_budget"])
    assert [row[0].key for row in sizes.rows] == [512, 2048, None]  # sorted as numbers


def test_the_best_deployment_is_bold() -> None:
    point = PricedPoint("a40", "1 x TP1 PP1, vllm", 1.5, {"tbt_p99": 0.1}, True, ["tbt_p99"], 128, 0.9)
    other = replace(point, label="2 x TP1 PP1, vllm", values={"tbt_p99": None}, met=False, fronts=[])
    table = deployments_table("Pareto front", [point, other], ["tbt_p99"], point.name)
    assert "\x1b[1ma40, 1 x TP1 PP1, vllm" in printed(table)
    assert [cell.text for cell in table.rows[0][1:]] == ["$1.50", "128", "90%", "100 ms", "met", "TBT p99"]
    assert [cell.text for cell in table.rows[1][4:]] == ["-", "missed", "-"]
    assert page(table).count(" best") == 1


def test_parts_are_named_by_dots() -> None:
    assert flat({"a": {"b": 1, "c": {"d": None}}, "e": {}, "f": [1]}) == {"a.b": 1, "a.c.d": None, "e": {}, "f": [1]}
