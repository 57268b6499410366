"""Report pages in a real browser."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.test_report import EVIL, PAGES, STUDIES, reports, studies

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

CHROMIUM = shutil.which("chromium")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="there is no chromium")]
__all__ = ["reports", "studies"]  # fixtures


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield chromium
        chromium.close()


def open_page(browser: "Browser", path: Path, width: int) -> tuple["Page", list[str]]:
    """Open a page; also return its problems: console errors, exceptions and URLs that it tried to load."""
    page = browser.new_page(viewport={"width": width, "height": 844})
    problems: list[str] = []
    page.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "request",
        lambda request: None if request.url.startswith(("file:", "data:", "blob:")) else problems.append(request.url),
    )
    page.goto(path.as_uri())
    page.wait_for_selector("html[data-drawn]", state="attached")
    return page, problems


def check_layout(page: "Page", width: int) -> None:
    """Check that nothing is wider than the page, nothing scrolls inside it, and all text is legible."""
    assert page.evaluate("document.documentElement.scrollWidth") == width
    scrolled = page.evaluate(
        "[...document.querySelectorAll('body *')].filter(element =>"
        " element.scrollWidth > element.clientWidth + 1 && element.clientWidth > 0"
        " && !element.closest('svg, .drawing')).map(element => element.outerHTML.slice(0, 80))"
    )
    assert scrolled == []
    smallest = page.evaluate(
        "Math.min(...[...document.querySelectorAll('p, li, td, th, dd, dt, small')]"
        ".map(element => parseFloat(getComputedStyle(element).fontSize)))"
    )
    assert smallest >= 12
    for box in page.locator(".drawing").all():
        shape = box.bounding_box()
        assert shape is not None
        assert shape["width"] > 280
        assert shape["height"] > 100
    assert page.locator("#undrawn").is_hidden()
    assert page.locator(".drawing canvas").count() >= page.locator("figure").count() > 0


@pytest.mark.parametrize("name", PAGES)
@pytest.mark.parametrize("width", [1280, 390])
def test_a_page_of_runs_renders_at_any_width(reports: Path, browser: "Browser", name: str, width: int) -> None:
    page, problems = open_page(browser, reports / name, width)
    page.locator("details").evaluate_all("all => all.forEach(details => { details.open = true; })")
    check_layout(page, width)
    assert page.locator(".limits li").count() >= 4
    page.close()
    assert problems == []


@pytest.mark.parametrize("name", STUDIES)
@pytest.mark.parametrize("width", [1280, 390])
def test_a_page_of_a_study_renders_at_any_width(studies: Path, browser: "Browser", name: str, width: int) -> None:
    page, problems = open_page(browser, studies / name / "report.html", width)
    page.locator("details").evaluate_all("all => all.forEach(details => { details.open = true; })")
    check_layout(page, width)
    page.close()
    assert problems == []


def test_the_pointer_shows_values_and_names(reports: Path, browser: "Browser") -> None:
    page, problems = open_page(browser, reports / "pages/three.html", 1280)
    for number in (0, 4, 7):
        chart = page.locator(f"#drawing-{number}")
        chart.scroll_into_view_if_needed()
        box = chart.bounding_box()
        assert box is not None
        page.mouse.move(box["x"] + box["width"] / 2, box["y"] + box["height"] / 3)
        tooltip = page.locator(".bk-tooltip-content").filter(visible=True).first
        tooltip.wait_for()
        text = tooltip.inner_text()
        assert EVIL in text
        assert re.search(r"mix:\s*[\d,.]+", text)
    assert page.locator(".bk-tooltip-content b").count() == 0
    page.close()
    assert problems == []


def test_a_zoom_into_one_chart_is_a_zoom_into_all_over_time(reports: Path, browser: "Browser") -> None:
    page, problems = open_page(browser, reports / "pages/three.html", 1280)
    ranges = "Bokeh.documents[0].roots().map(chart => [chart.x_range.start, chart.x_range.end])"
    before = page.evaluate(ranges)
    chart = page.locator("#drawing-7")
    chart.scroll_into_view_if_needed()
    box = chart.bounding_box()
    assert box is not None
    page.mouse.move(box["x"] + 0.4 * box["width"], box["y"] + 60)
    page.mouse.down()
    page.mouse.move(box["x"] + 0.5 * box["width"], box["y"] + 64, steps=5)
    page.mouse.up()
    page.wait_for_function(f"JSON.stringify({ranges}) !== '{str(before).replace(' ', '')}'")
    after = page.evaluate(ranges)
    assert after[4] == after[7] == after[8] == after[10]
    assert 0 < after[7][1] - after[7][0] < 0.2 * (before[7][1] - before[7][0])
    assert after[5] == before[5]
    page.close()
    assert problems == []


def test_a_click_on_a_name_turns_the_run_off_and_on(reports: Path, browser: "Browser") -> None:
    page, problems = open_page(browser, reports / "pages/three.html", 1280)
    shown = (
        "[...Bokeh.documents[0].all_models].filter(model => model.type === 'GlyphRenderer'"
        " && model.tags.includes('series-1') && model.visible).length"
    )
    all_shown = page.evaluate(shown)
    assert all_shown >= 11
    buttons = page.locator("button[data-series='1']")
    assert buttons.count() >= 11
    buttons.nth(2).click()
    assert page.evaluate(shown) == 0
    assert set(buttons.evaluate_all("all => all.map(button => button.ariaPressed)")) == {"false"}
    buttons.nth(0).click()
    assert page.evaluate(shown) == all_shown
    page.close()
    assert problems == []


@pytest.mark.parametrize("name", PAGES)
def test_every_table_can_be_sorted_by_every_column(reports: Path, browser: "Browser", name: str) -> None:
    page, problems = open_page(browser, reports / name, 1280)
    page.locator("details").evaluate_all("all => all.forEach(details => { details.open = true; })")
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


def test_table_headers_can_be_pressed_with_the_keyboard(reports: Path, browser: "Browser") -> None:
    page, _ = open_page(browser, reports / PAGES[0], 1280)
    button = page.locator("th button").first
    button.focus()
    page.keyboard.press("Enter")
    assert page.locator("th").first.get_attribute("aria-sort") == "ascending"
    page.close()


def test_names_cannot_inject_anything(reports: Path, browser: "Browser") -> None:
    page, problems = open_page(browser, reports / "pages/three.html", 1280)
    assert page.locator("h1").inner_text() == "3 runs"
    assert page.locator("h2", has_text=EVIL).first.inner_text() == f"Bottlenecks of {EVIL}"
    assert page.locator("b", has_text="a<b>").first.inner_text() == EVIL
    assert page.locator("b b").count() == 0
    page.close()
    assert problems == []


def test_without_scripts_the_tables_remain(reports: Path, browser: "Browser") -> None:
    context = browser.new_context(java_script_enabled=False, viewport={"width": 390, "height": 844})
    page = context.new_page()
    page.goto((reports / PAGES[1]).as_uri())
    assert page.get_by_text("they need JavaScript").is_visible()
    assert page.locator("table").first.is_visible()
    context.close()
