"""HTML page of a report: its parts and their rendering."""

import base64
import gzip
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bokeh.core.json_encoder import serialize_json
from bokeh.document import Document
from bokeh.resources import INLINE
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from simulator.config import VERSION
from simulator.report.charts import Chart, Key
from simulator.results import Bottleneck, Table


@dataclass(frozen=True)
class Fact:
    """A line of what was simulated.

    Attributes:
        label: What it is about.
        text: What all runs have in common; empty: they differ.
        texts: Key and text of each run, if they differ.
    """

    label: str
    text: str = ""
    texts: Sequence[tuple[Key, str]] = ()


@dataclass(frozen=True)
class Limits:
    """What limits a run.

    Attributes:
        name: Name of the run; empty: there is no other.
        utilisation: How busy the stages were.
        bottlenecks: Bottlenecks, the strongest first.
    """

    name: str
    utilisation: str
    bottlenecks: Sequence[Bottleneck]


@dataclass(frozen=True)
class Page:
    """Content of a page.

    Attributes:
        title: Title.
        kind: What it is about, such as "run".
        facts: What was simulated.
        verdict: Sentences, each with the names that it is about, which may be empty.
        warnings: Warnings.
        launch: Lines of a command.
        limits: Bottlenecks of each run.
        charts: Charts.
        tables: Tables.
        details: Tables that are folded up.
        zooms_together: Whether charts over time zoom together.
    """

    title: str
    kind: str
    facts: Sequence[Fact]
    verdict: Sequence[tuple[str, str]]
    warnings: Sequence[str] = ()
    launch: Sequence[str] = ()
    limits: Sequence[Limits] = ()
    charts: Sequence[Chart] = ()
    tables: Sequence[Table] = ()
    details: Sequence[Table] = ()
    zooms_together: bool = False

    @property
    def has_series(self) -> bool:
        """Whether there is a legend whose entries can be clicked."""
        return any(key.series is not None for chart in self.charts for key in chart.keys)


def render(page: Page) -> str:
    """Return the HTML of a page. Equal pages give equal bytes."""
    environment = Environment(loader=PackageLoader("simulator.report"), autoescape=True, undefined=StrictUndefined)
    environment.trim_blocks = environment.lstrip_blocks = True
    return environment.get_template("page.html").render(
        page=page,
        version=VERSION,
        library=_library() if page.charts else "",
        # A script, not text: JSON in which no tag can end the script.
        drawings=Markup(_as_json([chart.drawing for chart in page.charts])) if page.charts else "",  # nosec B704
    )


def _library() -> str:
    """Return the compressed script of Bokeh as base64."""
    (script,) = INLINE.clone(components=["bokeh"]).js_raw[:1]
    return base64.b64encode(gzip.compress(script.encode(), mtime=0)).decode()


def _as_json(drawings: Sequence[Any]) -> str:
    """Return charts as JSON that is safe inside a script element."""
    document = Document()
    for drawing in drawings:
        document.add_root(drawing)
    plain = json.loads(serialize_json(document.to_json(deferred=False)))
    text = json.dumps(_renumbered(plain, {}), separators=(",", ":"), ensure_ascii=True)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _renumbered(node: Any, numbers: dict[str, str]) -> Any:
    """Number the models from 1; Bokeh counts on from page to page."""
    if isinstance(node, Mapping):
        return {
            key: numbers.setdefault(value, f"m{len(numbers) + 1}")
            if key == "id" and isinstance(value, str)
            else _renumbered(value, numbers)
            for key, value in node.items()
        }
    return [_renumbered(value, numbers) for value in node] if isinstance(node, list) else node
