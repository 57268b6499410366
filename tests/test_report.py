"""Pages of runs, sweeps, capacities and searches: their content, their size, and mistakes."""

import json
import re
from pathlib import Path

import pytest

from simulator.cli.sweep_table import write_table
from simulator.output import load_result, load_summary
from simulator.report.__main__ import main
from simulator.report.page import Page, render
from simulator.report.run_page import run_page
from simulator.report.sweep_page import sweep_page
from simulator.results import duration, share
from tests.helpers import run_main, write_run
from tests.test_plot_command import command

EVIL = "a<b>\"&'$x$@y0{0}</script>"
MAX_BYTES = 2_000_000
FEW = ("trace=sharegpt", "trace.num_requests=60", "arrival.qps=3")


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with runs, and pages of one run, of client classes with faults, and of three runs."""
    folder = tmp_path_factory.mktemp("reports")
    write_run(folder / "one", "scheduler=vllm", *FEW, "slo.tbt_p99=2", "slo.ttft=10")
    write_run(folder / "two", "parallel.pp=2", *FEW)
    classes = ("trace=mix", "trace.num_requests=20", "trace.clients.chat.slo.tbt_p99=0.2")
    faults = "faults.schedule=[{kind: failure, at_s: 5, for_s: 10, replica: 1}]"
    write_run(folder / "mix", "cluster.replicas=2", *classes, faults)
    wanted = (["one"], ["mix", "output=pages/mix.html"], ["one", f"{EVIL}=two", "mix", "output=pages/three.html"])
    (folder / "pages").mkdir()
    with pytest.MonkeyPatch.context() as monkeypatch:
        for arguments in wanted:
            assert run_main(main, arguments, folder, monkeypatch) == 0
    (folder / "empty").mkdir()
    (folder / "damaged").mkdir()
    (folder / "damaged" / "sweep.csv").write_text("job\n")
    return folder


PAGES = ("one/report.html", "pages/mix.html", "pages/three.html")


def page_of(folder: Path, name: str) -> str:
    """Return a page without its library and its charts."""
    return re.sub(r"<script.*?</script>", "", (folder / name).read_text(), flags=re.DOTALL)


def drawings_of(text: str) -> list[dict[str, object]]:
    """Return the charts of a page."""
    found = re.search(r'id="drawings">(.*?)</script>', text, re.DOTALL)
    assert found is not None
    roots = json.loads(found[1])["roots"]
    assert isinstance(roots, list)
    return roots


def verdict_of(text: str) -> str:
    """Return the verdict of a page as text."""
    part = text[text.index("<h2>Verdict</h2>") : text.index("<h2>Pictures</h2>")]
    return " ".join(re.sub(r"<[^>]*>", "", part).split())


def test_the_first_lines_say_what_was_simulated_and_how_it_went(reports: Path) -> None:
    text, summary = page_of(reports, "one/report.html"), load_summary(reports / "one")
    assert text.index("mistral_7b, bf16") < text.index("1 x a100_80gb TP1") < text.index("VLLM, 128 sequences")
    assert text.index("60 requests") < text.index("<h2>Verdict</h2>") < text.index("<h2>Pictures</h2>")
    assert text.index("<h2>Pictures</h2>") < text.index("<h2>Bottlenecks") < text.index("<table")
    found = verdict_of(text)
    assert f"TBT p99 {duration(summary['tbt_s']['p99'])}, TTFT p90 {duration(summary['ttft_s']['p90'])} at" in found
    assert f"KV cache at most {share(summary['kv_use']['max'])}" in found
    assert "SLO met" in found
    assert f"goodput {share(summary['slo']['goodput'])}" in found


def test_a_comparison_lists_the_configuration_differences(reports: Path) -> None:
    text = page_of(reports, "pages/three.html")
    differences = text[text.index("<h2>Configuration differences") :]
    differences = differences[: differences.index("</table>")]
    assert "parallel.pp" in differences
    assert "model.num_layers" not in differences
    assert "output.timeline" not in differences


def test_runs_under_different_loads_are_not_compared_silently(reports: Path) -> None:
    assert verdict_of(page_of(reports, "pages/three.html")).startswith("Verdict The loads differ")


def test_classes_and_faults_are_in_the_verdict_and_in_tables(reports: Path) -> None:
    text = page_of(reports, "pages/mix.html")
    assert "SLO of chat and summarise met" in verdict_of(text)
    assert "1 failure with" in verdict_of(text)
    for title in ("Client classes", "Replicas", "Faults", "SLO"):
        assert f">{title}<" in text
    assert "replica down" in text


def test_a_page_has_all_pictures(reports: Path) -> None:
    titles = {name: re.findall(r"<figcaption>(.*?)(?: <small|</figcaption>)", page_of(reports, name)) for name in PAGES}
    common = ["Time to first token", "Time between tokens", "Time per output token", "End to end"]
    common += ["Output tokens over time", "Around the longest stall", "Prompts computed around it"]
    common += ["KV cache usage over time", "Queue over time", "Prompt tokens per iteration", "Decodes per iteration"]
    assert titles["one/report.html"] == common
    name = "a&lt;b&gt;&#34;&amp;&#39;$x$@y0{0}&lt;/script&gt;"
    pipelines = [f"Time of pipeline stages: {name}", f"Batches in the pipeline: {name}"]
    assert titles["pages/three.html"] == [*common, *pipelines]
    for name in PAGES:
        assert len(drawings_of((reports / name).read_text())) == len(titles[name])


def test_a_prefix_cache_has_its_pictures(tmp_path: Path) -> None:
    write_run(tmp_path, "scheduler=vllm_v1", "trace=shared_prefix", "trace.num_requests=20")
    text = render(run_page({"run": (load_result(tmp_path), load_summary(tmp_path))}))
    assert "Prefix cache hits over time" in text
    assert "Evictions from the prefix cache" in text
    assert "prompt tokens found in the prefix cache" in text


def test_a_run_without_tokens_has_a_page_without_pictures(tmp_path: Path) -> None:
    write_run(tmp_path, "trace=fixed", "trace.prompt_tokens=300000", "trace.num_requests=3")
    text = render(run_page({"run": (load_result(tmp_path), load_summary(tmp_path))}))
    assert "no token was measured" in text
    assert "of 3 requests, 3 ignored" in text
    assert "<h2>Pictures" not in text
    assert "<figure" not in text


def test_pages_need_no_network_and_stay_small(reports: Path) -> None:
    for name in PAGES:
        text = (reports / name).read_text()
        linked = set(re.findall(r"(?:src|href)=\"([^\"#]+)", text)) | set(re.findall(r"url\(([^)#]+)", text))
        assert linked <= {"data:,"}
        assert "default-src 'none'" in text
        assert len(text.encode()) < MAX_BYTES


def test_names_are_escaped_also_in_the_data_of_charts(reports: Path) -> None:
    text = (reports / "pages" / "three.html").read_text()
    assert EVIL not in text
    assert "<b>a&lt;b&gt;" in text
    assert text.count("</script>") == 3  # of the charts, of the library and of the script of the page
    assert "a<b>" in json.dumps(drawings_of(text))


def test_equal_runs_give_equal_pages(reports: Path) -> None:
    first, second = (
        render(run_page({name: (load_result(reports / name), load_summary(reports / name)) for name in ("one", "two")}))
        for _ in range(2)
    )
    assert first == second


def test_a_page_lists_unfinished_requests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    result = write_run(tmp_path / "cut", *FEW, "time_limit_s=12", "parallel.pp=2", "cluster.replicas=2")
    assert run_main(main, ["cut"], tmp_path, monkeypatch) == 0
    text = page_of(tmp_path, "cut/report.html")
    assert "2 x a100_80gb TP1 PP2" in text
    unfinished = result.summary["num_unfinished"]
    assert f"of 60 requests, {unfinished:,} unfinished" in verdict_of(text)
    assert "<h2>Pipeline stages" in text
    rest = text[text.index("<summary>Unfinished requests") :]
    assert rest[: rest.index("</table>")].count("<tr>") == 1 + min(30, unfinished)


@pytest.fixture(scope="module")
def studies(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with small sweeps, a capacity and a search."""
    folder = tmp_path_factory.mktemp("studies")
    few = ("trace=sharegpt", "trace.num_requests=20")
    small = ("search.devices=[a100_80gb]", "search.tp=[1,2]", "search.pp=[1]", "search.schedulers=[vllm]")
    for arguments in (
        ("simulator", "-m", "scheduler=vllm,sarathi", "arrival.qps=1,2", *few, "hydra.sweep.dir=load"),
        ("simulator", "-m", "scheduler=sarathi", "scheduler.token_budget=256,512", *few, "hydra.sweep.dir=budgets"),
        ("simulator.capacity", "slo.tbt_p99=0.2", "slo.ttft=5", *few, "hydra.run.dir=capacity"),
        ("simulator.search", "slo.tbt_p99=0.2", *small, *few, "hydra.run.dir=search"),
    ):
        done = command(folder, *arguments)
        assert done.returncode == 0, done.stderr
    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in STUDIES:
            assert run_main(main, [name], folder, monkeypatch) == 0
    return folder


STUDIES = ("load", "budgets", "capacity", "search")


def test_a_sweep_over_loads_has_its_curves_and_its_table(studies: Path) -> None:
    text = page_of(studies, "load/report.html")
    for policy in ("vllm", "sarathi"):
        assert re.search(rf"{policy}: not overloaded up to [12] requests/s", verdict_of(text))
    assert "TBT p99 against load" in text
    assert text.count("<tr>") == 1 + 4
    assert "varied: arrival.qps" in text
    assert "<dd>sharegpt, 20 requests, seed 0</dd>" in text


def test_another_sweep_names_the_best(studies: Path) -> None:
    text = page_of(studies, "budgets/report.html")
    assert "token_budget=" in verdict_of(text)
    assert "against" in verdict_of(text)
    assert "scheduler.token_budget" in text


def sweep_of(folder: Path, jobs: list[tuple[list[str], dict[str, float | bool]]]) -> Page:
    """Return the page of a sweep with these overrides and figures."""
    rows = []
    for number, (overrides, figures) in enumerate(jobs):
        (folder / str(number)).mkdir(parents=True)
        (folder / str(number) / "job.json").write_text(json.dumps({"overrides": overrides}))
        (folder / str(number) / "capacity.json").write_text(json.dumps(ABOUT))
        rows.append({"job": number, "folder": number, **figures, "error": None})
    write_table(folder / "sweep.csv", rows)
    return sweep_page("sweep", folder)


ABOUT = {"slo": {"tbt_p99": 0.2}, "config": {}, "choices": {}, "groups": []}


def test_a_sweep_compares_policies_with_their_own_options(tmp_path: Path) -> None:
    jobs = [
        ["scheduler=sarathi", "scheduler.token_budget=512"],
        ["scheduler=sarathi", "scheduler.token_budget=1024"],
        ["scheduler=vllm_v1"],
    ]
    rates = [{"capacity_qps": rate} for rate in (4.0, 5.0, 8.0)]
    page = sweep_of(tmp_path / "own", list(zip(jobs, rates, strict=True)))
    assert page.verdict == [("", "vllm_v1 8 requests/s against 4 requests/s to 5 requests/s of the other 2.")]
    assert page.tables[0].head[:2] == ["scheduler", "scheduler.token_budget"]
    page = sweep_of(tmp_path / "two", list(zip(jobs[1:], rates[1:], strict=True)))
    assert page.verdict[0][1] == "vllm_v1 8 requests/s against 5 requests/s of sarathi, token_budget 1024."


def test_a_sweep_over_options_of_every_policy_keeps_them_as_groups(tmp_path: Path) -> None:
    jobs = [([f"slo={slo}", f"scheduler={name}"], rate) for slo in ("a", "b") for name, rate in (("x", 4), ("y", 8))]
    page = sweep_of(tmp_path, [(overrides, {"capacity_qps": rate}) for overrides, rate in jobs])
    assert page.verdict == [(slo, "y 8 requests/s against 4 requests/s of x.") for slo in ("a", "b")]


def test_a_sweep_compares_goodput_within_one_slo(tmp_path: Path) -> None:
    figures: list[dict[str, float | bool]] = [{"slo.goodput": 0.5, "slo.met": False}, {"slo.goodput": 0.9}]
    one, other = ([["scheduler=x"], ["scheduler=y"]], [["slo.ttft=1"], ["slo.ttft=2"]])
    page = sweep_of(tmp_path / "policies", list(zip(one, figures, strict=True)))
    assert page.verdict == [("y", "goodput 90.0% against 50.0% of x.")]
    assert [[cell.text for cell in row] for row in page.tables[0].rows] == [
        ["x", "50.0%", "missed"],
        ["y", "90.0%", "-"],
    ]
    assert sweep_of(tmp_path / "bounds", list(zip(other, figures, strict=True))).verdict == []


def test_a_capacity_says_what_binds(studies: Path) -> None:
    text = page_of(studies, "capacity/report.html")
    capacity = json.loads((studies / "capacity" / "capacity.json").read_text())
    for fact in (f"{capacity['capacity_qps']:.4g} requests/s", "bound by", "TBT p99 &lt;= 200 ms", "goodput"):
        assert fact in verdict_of(text)
    assert text.index("1 x a100_80gb TP1") < text.index("<h2>Verdict")
    trials = text[text.index("<h2>Trials") : text.index("</table>")]
    assert trials.count("<tr>") == 1 + len(capacity["trials"])


def test_a_search_names_the_cheapest(studies: Path) -> None:
    text = page_of(studies, "search/report.html")
    best = json.loads((studies / "search" / "search.json").read_text())["cheapest"]
    assert f"Cheapest within the SLO: ${best['cost_per_hour_usd']:,.2f}/h, {best['device']}" in verdict_of(text)
    assert "Cost against TBT p99" in text
    assert "<dd>sharegpt, 20 requests, 0.4 requests/s (poisson), seed 0</dd>" in text
    assert text.index("<h2>Verdict") < text.index("--model_config_model") < text.index("<h2>Pictures")


def changed_page(studies: Path, folder: Path, name: str, change: dict[str, object]) -> str:
    """Return the text of the page of a study whose JSON file was changed."""
    folder.mkdir()
    for path in (studies / name).glob("*.csv"):
        (folder / path.name).write_bytes(path.read_bytes())
    content = json.loads((studies / name / f"{name}.json").read_text())
    (folder / f"{name}.json").write_text(json.dumps(content | change))
    with pytest.MonkeyPatch.context() as monkeypatch:
        assert run_main(main, [folder.name], folder.parent, monkeypatch) == 0
    return page_of(folder, "report.html")


def test_a_search_saved_with_a_text_as_its_rate_has_all_requests_at_once(studies: Path, tmp_path: Path) -> None:
    config = json.loads((studies / "search" / "search.json").read_text())["config"]
    config["arrival"]["qps"] = "inf"
    for number, rate in enumerate(("inf", None)):
        text = changed_page(studies, tmp_path / str(number), "search", {"arrivals_per_s": rate, "config": config})
        assert "<dd>sharegpt, 20 requests, all at once (poisson), seed 0</dd>" in text


def test_goodput_is_stated_with_the_bounds_that_define_it(studies: Path, tmp_path: Path) -> None:
    asked = {"slo": {"tbt_p99": 0.2, "goodput": 0.9}, "request_bounds_s": {"ttft": 5}, "launch": ["vllm serve <model>"]}
    for trial in (capacity := json.loads((studies / "capacity" / "capacity.json").read_text()))["trials"]:
        trial["values"]["goodput"] = 1.0
    text = changed_page(studies, tmp_path / "asked", "capacity", asked | {"trials": capacity["trials"]})
    assert "TBT p99 &lt;= 200 ms, goodput &gt;= 90.0% within TTFT &lt;= 5 s" in verdict_of(text)
    assert "vllm serve &lt;model&gt;" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there is no folder nowhere"),
        (["one", "two", "output=pages"], "output=pages is a folder; it must be a file"),
        (["one", "one"], "two runs are named one"),
        (["one", "output=page.txt"], "output=page.txt must end in .html"),
        (["one", "output=nowhere/page.html"], "output=nowhere/page.html: there is no folder nowhere"),
        (["empty"], "empty is not a folder of a run, a sweep, a search or a capacity"),
        (["damaged"], "no job of damaged succeeded"),
        (["one", "damaged"], "damaged has a sweep.csv: a report is of several runs, or of it alone"),
        (["one", "format=pdf"], "format=pdf: there is no run pdf, and format is not an option (output=)"),
        (["--pdf"], "--pdf is not an option"),
    ],
)
def test_mistakes_are_named(
    reports: Path,
    arguments: list[str],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert run_main(main, arguments, reports, monkeypatch) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {message}")
    assert len(printed.splitlines()) == 1


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("capacity", {"trials": [{}]}, "capacity/capacity.json is damaged (KeyError: 'qps')"),
        ("capacity", {"slo": None}, "capacity/capacity.json is damaged (TypeError:"),
        ("capacity", {"groups": [{}]}, "capacity/capacity.json is damaged (KeyError:"),
        ("search", {"cheapest": {}}, "search/search.json is damaged (KeyError:"),
        ("search", {"arrivals_per_s": "fast"}, "search/search.json is damaged (ValueError:"),
    ],
)
def test_damaged_results_are_named(
    studies: Path,
    tmp_path: Path,
    name: str,
    change: dict[str, object],
    message: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (tmp_path / name).mkdir()
    for path in (studies / name).glob("*.csv"):
        (tmp_path / name / path.name).write_bytes(path.read_bytes())
    content = json.loads((studies / name / f"{name}.json").read_text())
    (tmp_path / name / f"{name}.json").write_text(json.dumps(content | change))
    assert run_main(main, [name], tmp_path, monkeypatch) == 2
    printed = capsys.readouterr().err
    assert printed.startswith(f"error: {message}"), printed
    assert not (tmp_path / name / "report.html").exists()


def test_report_runs_as_a_command(reports: Path) -> None:
    done = command(reports, "simulator.report", "two")
    assert (done.returncode, done.stdout, done.stderr) == (0, "written to two/report.html\n", "")


@pytest.mark.slow
def test_pages_of_several_long_runs_stay_small(tmp_path: Path) -> None:
    result = write_run(tmp_path, "trace=sharegpt", "trace.num_requests=3000", "arrival.qps=1")
    assert result.summary["num_iterations"] > 100_000
    summary = load_summary(tmp_path)
    text = render(run_page({f"run {number} with a long name": (result, summary) for number in range(8)}))
    assert len(text.encode()) < MAX_BYTES
