"use strict";
// Charts are drawn by Bokeh, each in the element of its number. The library is compressed to a third.
async function draw() {
  const packed = Uint8Array.from(atob(document.getElementById("library").textContent), (byte) => byte.charCodeAt(0));
  const script = document.createElement("script");
  script.textContent = await new Response(new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"))).text();
  document.head.append(script);
  const json = JSON.parse(document.getElementById("drawings").textContent);
  const ids = json.roots.map((root) => root.id);
  const roots = Object.fromEntries(ids.map((id, number) => [id, `drawing-${number}`]));
  await Bokeh.embed.embed_items({ page: json }, [{ docid: "page", roots, root_ids: ids }]);
  prepare();
}

const undrawn = document.getElementById("undrawn");
if (undrawn) {
  undrawn.hidden = true;
  draw().catch((error) => {
    undrawn.hidden = false;
    console.error(error);
  });
}

// Ticks of a logarithmic axis: 1, 2 and 5 times powers of ten, and even steps where these are too far apart.
function ticks(low, high) {
  const nice = (size) => [1, 2, 5, 10].find((digit) => digit * 10 ** Math.floor(Math.log10(size)) >= size);
  const found = [];
  if (high / low > 8) {
    for (let power = Math.floor(Math.log10(low)); 10 ** power <= high; power++) found.push(...[1, 2, 5].map((digit) => digit * 10 ** power));
  } else {
    const size = (high - low) / 6;
    const step = nice(size) * 10 ** Math.floor(Math.log10(size));
    for (let count = Math.ceil(low / step); count * step <= high; count++) found.push(count * step);
  }
  return found;
}

function prepare() {
  const models = [...Bokeh.documents[0].all_models];
  // A finger scrolls the page; it zooms with the tools of the chart.
  if (matchMedia("(pointer: coarse)").matches) {
    for (const model of models) if (model.type === "Toolbar") Object.assign(model, { active_drag: null, autohide: false });
  }
  for (const { below, left, x_range, y_range } of Bokeh.documents[0].roots()) {
    for (const [axis, range] of [[below[0], x_range], [left[0], y_range]]) {
      if (axis.type !== "LogAxis") continue;
      const update = () => {
        axis.ticker.ticks = ticks(range.start, range.end);
        axis.change.emit();
      };
      range.change.connect(update);
      update();
    }
  }
  // A click on a name turns its series on and off in every chart.
  const buttons = [...document.querySelectorAll("button[data-series]")];
  for (const button of buttons) {
    button.addEventListener("click", () => {
      const series = button.dataset.series;
      const shown = button.getAttribute("aria-pressed") !== "true";
      for (const other of buttons) if (other.dataset.series === series) other.setAttribute("aria-pressed", shown);
      for (const model of models) if (model.tags?.includes(`series-${series}`)) model.visible = shown;
    });
  }
  document.documentElement.dataset.drawn = "true";
}

// A click on a column head sorts the table: ascending first, then descending; cells without a value stay last.
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => head.firstElementChild.addEventListener("click", () => {
    const descending = head.getAttribute("aria-sort") === "ascending";
    for (const item of heads) item.setAttribute("aria-sort", "none");
    head.setAttribute("aria-sort", descending ? "descending" : "ascending");
    const key = (row) => row.cells[column].dataset.key;
    const rows = [...table.tBodies[0].rows];
    const numbers = rows.every((row) => key(row) === "" || !Number.isNaN(Number(key(row))));
    const compare = (a, b) => (numbers ? Number(a) - Number(b) : a.localeCompare(b, "en", { numeric: true }));
    rows.sort((first, second) => {
      const [a, b] = [key(first), key(second)];
      if (a === "" || b === "") return (a === "") - (b === "");
      return descending ? compare(b, a) : compare(a, b);
    });
    table.tBodies[0].append(...rows);
  }));
}
