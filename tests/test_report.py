"""The report page in a real browser, and the limits of a run that it names."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from simulator import Result, simulate
from simulator.config import load_config
from simulator.report.__main__ import main
from simulator.results import bottlenecks, duration, utilisation
from simulator.schedulers import VLLM, FasterTransformer, Sarathi
from tests.helpers import run_main, serve, write_run
from tests.test_plot_command import command

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")
EVIL = "a<b>\"&'$x$"


@pytest.fixture(scope="module")
def reports(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with pages of one run, of a cluster with client classes, and of three runs."""
    folder = tmp_path_factory.mktemp("reports")
    few = ("trace=sharegpt", "trace.num_requests=60", "arrival.qps=3")
    write_run(folder / "one", "scheduler=vllm", *few)
    write_run(folder / "two", "parallel.pp=2", *few)
    classes = ("trace=mix", "trace.num_requests=20", "trace.clients.chat.slo.tbt_p99=0.2")
    write_run(folder / "mix", "cluster.replicas=2", *classes)
    wanted = (["one"], ["mix", "output=pages/mix.html"], ["one", f"{EVIL}=two", "mix", "output=pages/three.html"])
    (folder / "pages").mkdir()
    with pytest.MonkeyPatch.context() as monkeypatch:
        for arguments in wanted:
            assert run_main(main, arguments, folder, monkeypatch) == 0
    (folder / "sweep").mkdir()
    (folder / "sweep" / "sweep.csv").write_text("job\n")
    return folder


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield chromium
        chromium.close()


PAGES = ("one/report.html", "pages/mix.html", "pages/three.html")


def open_page(browser: "Browser", path: Path, width: int) -> tuple["Page", list[str]]:
    """Open a page; also return its problems: console messages, errors and URLs that it tried to load."""
    page = browser.new_page(viewport={"width": width, "height": 844})
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text))
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "request", lambda request: None if request.url.startswith(("file:", "data:")) else problems.append(request.url)
    )
    page.goto(path.as_uri())
    return page, problems


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [1280, 390])
def test_a_page_renders_without_errors_at_any_width(reports: Path, browser: "Browser", name: str, width: int) -> None:
    page, problems = open_page(browser, reports / name, width)
    assert page.evaluate("document.documentElement.scrollWidth") == width
    assert page.locator("figure svg").count() >= 8
    for box in page.locator("figure svg").all():
        shape = box.bounding_box()
        assert shape is not None
        assert shape["width"] > 200
        assert shape["height"] > 60
    smallest = page.evaluate(
        "Math.min(...[...document.querySelectorAll('p, li, td, th, dd, dt, small')]"
        ".map(element => parseFloat(getComputedStyle(element).fontSize)))"
    )
    assert smallest >= 12
    smallest_text = page.evaluate(
        "Math.min(...[...document.querySelectorAll('figure svg text')]"
        ".map(text => text.getBoundingClientRect().height))"
    )
    assert smallest_text > 5
    assert page.locator(".limits li").count() >= 4
    page.close()
    assert problems == []


@pytest.mark.slow
@needs_browser
@pytest.mark.parametrize("name", PAGES)
def test_every_table_can_be_sorted_by_every_column(reports: Path, browser: "Browser", name: str) -> None:
    page, problems = open_page(browser, reports / name, 1280)
    page.locator("details").evaluate("details => details.open = true")
    tables = page.locator("table.sortable")
    assert tables.count() >= 3
    for table in tables.all():
        for column in range(table.locator("th").count()):
            head = table.locator("th").nth(column)
            for order in ("ascending", "descending"):
                head.locator("button").click()
                assert head.get_attribute("aria-sort") == order
                assert table.locator("th[aria-sort=none]").count() == table.locator("th").count() - 1
                keys = table.locator("tbody tr").evaluate_all(
                    f"rows => rows.map(row => row.cells[{column}].dataset.key)"
                )
                known = [key for key in keys if key != ""]
                assert keys[: len(known)] == known  # rows without a value come last
                if all(re.fullmatch(r"-?[\d.]+(e[-+]?\d+)?", key) for key in known):
                    numbers = [float(key) for key in known]
                    assert numbers == sorted(numbers, reverse=order == "descending")
    page.close()
    assert problems == []


@pytest.mark.slow
@needs_browser
def test_table_headers_can_be_pressed_with_the_keyboard(reports: Path, browser: "Browser") -> None:
    page, _ = open_page(browser, reports / PAGES[0], 390)
    button = page.locator("th button").first
    button.focus()
    page.keyboard.press("Enter")
    assert page.locator("th").first.get_attribute("aria-sort") == "ascending"
    page.close()


@pytest.mark.slow
@needs_browser
def test_names_cannot_inject_anything(reports: Path, browser: "Browser") -> None:
    page, problems = open_page(browser, reports / "pages/three.html", 1280)
    assert page.locator("h1").inner_text() == "3 runs"
    assert page.locator("h2", has_text=EVIL).first.inner_text() == EVIL
    assert page.locator("b").count() == 0
    assert page.locator("figure svg text", has_text=EVIL).count() >= 1
    page.close()
    assert problems == []


def test_a_page_needs_no_network(reports: Path) -> None:
    for name in PAGES:
        text = (reports / name).read_text()
        linked = set(re.findall(r"(?:src|href)=\"([^\"#]+)", text)) | set(re.findall(r"url\(([^)#]+)", text))
        assert linked <= {"data:,"}
        assert "default-src 'none'" in text


def test_a_comparison_lists_the_configuration_differences(reports: Path) -> None:
    text = (reports / "pages/three.html").read_text()
    differences = text[text.index("<h2>Configuration differences") : text.index("<h2>one</h2>")]
    assert "parallel.pp" in differences
    assert "model.num_layers" not in differences
    assert "output.timeline" not in differences
    assert text.index("Metrics side by side") < text.index("<h2>one</h2>")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "there is no folder nowhere"),
        (["one", "two", "output=pages"], "output=pages is a folder; it must be a file"),
        (["one", "one"], "two runs are named one"),
        (["one", "output=page.txt"], "output=page.txt must end in .html"),
        (["one", "output=nowhere/page.html"], "output=nowhere/page.html: there is no folder nowhere"),
        (["sweep"], "sweep is not a run: python -m simulator.plot draws sweeps"),
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


def test_report_runs_as_a_command(reports: Path) -> None:
    done = command(reports, "simulator.report", "two")
    assert (done.returncode, done.stdout, done.stderr) == (0, "written to two/report.html\n", "")
    assert "<svg" in (reports / "two" / "report.html").read_text()


def limits_of(result: Result) -> dict[str, tuple[float, str]]:
    """Return the share and the text of each limit by its name."""
    return {limit.name: (limit.share, limit.text) for limit in bottlenecks(result)}


def test_queueing_is_the_share_of_ttft_spent_waiting() -> None:
    # One request at a time: the second request waits until the first one finishes.
    share, text = limits_of(serve([(0.0, 100, 50), (0.0, 100, 50)], FasterTransformer(max_num_seqs=1)))["queueing"]
    result = serve([(0.0, 100, 50), (0.0, 100, 50)], FasterTransformer(max_num_seqs=1))
    waited = result.requests["first_scheduled_s"].sum()
    assert share == pytest.approx(waited / result.requests["first_token_s"].sum())
    assert f"{share:.0%} of the time to first token" in text


def test_the_share_of_time_with_waiting_requests_is_exact() -> None:
    result = simulate(**load_config("scheduler=vllm", "trace=sharegpt", "trace.num_requests=80", "arrival.qps=3"))
    table = result.requests
    marks = np.unique(np.concatenate([table["arrival_s"], table["first_scheduled_s"]]))
    middle = (marks[:-1] + marks[1:]) / 2
    inside = (table["arrival_s"][:, None] < middle) & (middle < table["first_scheduled_s"][:, None])
    share = np.diff(marks)[inside.any(axis=0)].sum() / (result.end_s - table["arrival_s"].min())
    assert f"Requests waited {share:.0%} of the time" in limits_of(result)["KV memory"][1]


def test_a_page_states_the_deployment_and_lists_unfinished_requests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = ("trace=sharegpt", "trace.num_requests=60", "arrival.qps=3", "time_limit_s=12")
    result = write_run(tmp_path / "cut", *cut, "parallel.pp=2", "cluster.replicas=2")
    assert run_main(main, ["cut"], tmp_path, monkeypatch) == 0
    text = (tmp_path / "cut" / "report.html").read_text()
    assert "mistral_7b on 2 x a100_80gb TP1 PP2; Sarathi with a token budget of 512; 60 requests" in text
    assert "Pipeline stages" in text
    ended = text[text.index("<h2>Slowest requests") : text.index("<h2>Unfinished requests")]
    assert ended.count("<tr>") == 1 + result.summary["num_finished"]
    rest = text[text.index("<h2>Unfinished requests") :]
    assert rest[: rest.index("</table>")].count("<tr>") == 1 + result.summary["num_unfinished"]


def test_waits_for_memory_are_distinguished_from_limits_of_the_policy() -> None:
    requests = [(0.0, 320, 100), (0.0, 320, 100)]
    tight = limits_of(serve(requests, VLLM(), num_blocks=30))["KV memory"]
    assert tight[0] > 0.4
    assert "too few blocks were free" in tight[1]
    alone = limits_of(serve(requests, VLLM(max_num_seqs=1), num_blocks=1000))["KV memory"]
    assert alone[0] == 0
    assert ": 0% because too few blocks were free" in alone[1]
    assert "hardly ever waited" in limits_of(serve(requests[:1], VLLM(), num_blocks=1000))["KV memory"][1]


def test_prefill_interference_is_the_time_that_prompts_add_between_tokens() -> None:
    requests = [(0.0, 16, 200), (1.0, 900, 5)]
    result = serve(requests, VLLM())
    share, text = limits_of(result)["prefill interference"]
    columns, end_s = result.replicas[0].logged.columns, result.replicas[0].logged.end_s
    prompt = int(columns["num_prefill_tokens"].argmax())
    added_s = end_s[prompt] - columns["start_s"][prompt]
    gaps = result.requests["completed_s"] - result.requests["first_token_s"]
    assert share == pytest.approx(added_s / gaps.sum(), rel=0.1)
    assert "of the slowest 1%" in text
    assert limits_of(serve(requests[:1], VLLM()))["prefill interference"][0] == 0


def test_host_overhead_is_a_share_of_the_busy_time() -> None:
    few = ("trace=sharegpt", "trace.num_requests=10", "iteration_time=roofline")
    result = simulate(**load_config(*few))
    without = simulate(**load_config(*few, "engine=none"))
    share, _ = limits_of(result)["host overhead"]
    (replica,) = result.replicas
    assert replica.provenance is not None
    assert replica.provenance.host is not None
    host, columns = replica.provenance.host, replica.logged.columns
    num_seqs = (columns["num_prefills"] + columns["num_decodes"]).sum()
    host_s = host.base_s * len(replica.logged.end_s) + host.per_seq_s * num_seqs
    assert share == pytest.approx(host_s / replica.stages[0].busy_s)
    assert 0.01 < share < 0.5
    assert limits_of(without)["host overhead"][0] == 0
    assert "host overhead" not in limits_of(serve([(0.0, 5, 5)], Sarathi()))  # affine times do not separate it


def test_time_in_which_the_gpu_waits_for_launches_is_reported() -> None:
    few = ("trace=fixed", "trace.prompt_tokens=2000", "trace.output_tokens=100", "trace.num_requests=5")
    result = simulate(**load_config(*few, "iteration_time=roofline", "arrival.qps=0.1"))
    (replica,) = result.replicas
    decodes = replica.logged.columns["num_prefills"] == 0  # one request at a time: launch-bound, as predict says
    length_s = replica.logged.end_s - replica.logged.columns["start_s"]
    share = length_s[decodes].sum() / length_s.sum()
    assert f"In {share:.0%} of it the GPU also waited for its kernels" in limits_of(result)["host overhead"][1]


def test_bubbles_count_pipelines_only() -> None:
    few = ("trace=sharegpt", "trace.num_requests=20", "arrival.qps=1")
    result = simulate(**load_config("model=yi_34b", "parallel.pp=4", "scheduler=vllm", *few))
    bubbles = {name: sum(shares) / 4 for name, shares in result.summary["bubbles"].items()}
    no_work = bubbles.pop("no_work")
    assert limits_of(result)["pipeline bubbles"][0] == pytest.approx(sum(bubbles.values()))
    assert f"had no work {no_work:.0%}" in utilisation(result)
    assert "pipeline bubbles" not in limits_of(simulate(**load_config(*few)))
    mixed = simulate(**load_config("cluster.groups=[{parallel: {pp: 2}}, {device: h100_sxm, replicas: 2}]", *few))
    pipeline = mixed.summary["replicas"][0]["stages"]
    idle = [sum(stage[name] for name in bubbles) for stage in pipeline]
    assert limits_of(mixed)["pipeline bubbles"][0] == pytest.approx(sum(idle) / 2)


def test_a_late_start_of_the_trace_does_not_change_the_limits() -> None:
    requests = [(index * 0.01, 320, 100) for index in range(8)]
    late = [(arrival_s + 100_000, *lengths) for arrival_s, *lengths in requests]
    from_zero, shifted = (limits_of(serve(rows, VLLM(), num_blocks=30))["KV memory"] for rows in (requests, late))
    assert from_zero[0] > 0.5
    assert shifted[0] == pytest.approx(from_zero[0], rel=1e-3)


def test_stuck_requests_count_as_waiting_for_memory() -> None:
    result = serve([(0.0, 64, 4), (0.1, 900, 4), (9.0, 16, 4)], VLLM(), num_blocks=20)
    assert result.summary["num_stuck"] == 2
    texts = limits_of(result)
    assert texts["KV memory"][0] > 0.9
    assert "2 requests wait forever" in texts["queueing"][1]
    assert "Fewer requests arrived" not in utilisation(result)


def test_the_mean_and_p99_wait_match_the_summary() -> None:
    result = serve([(0.0, 64, 4), (0.1, 900, 4), (9.0, 16, 4)], VLLM(), num_blocks=20)
    delay = result.summary["scheduling_delay_s"]
    assert (
        f"waited {duration(delay['mean'])} on average (P99 {duration(delay['p99'])})"
        in limits_of(result)["queueing"][1]
    )


def test_limits_are_sorted_and_have_levels() -> None:
    result = serve([(0.0, 100, 50), (0.0, 100, 50)], FasterTransformer(max_num_seqs=1))
    shares = [limit.share for limit in bottlenecks(result)]
    assert shares == sorted(shares, reverse=True)
    for limit in bottlenecks(result):
        assert limit.level == ("strong" if limit.share >= 0.2 else "some" if limit.share >= 0.05 else "none")
