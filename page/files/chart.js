// The course of one metric, with the period before as a dashed line; by pointer, by arrow keys, and
// as a table for whoever cannot see it.

import { make } from "./dom.js";
import { amount, at, shown } from "./format.js";
import { METRICS } from "./metrics.js";

const HEIGHT = 260;
let plot = null;
let watcher = null;

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

export function clear(figure) {
  plot?.destroy();
  watcher?.disconnect();
  plot = watcher = null;
  figure.replaceChildren();
}

export function draw(figure, view, metric) {
  const opened = figure.querySelector("details")?.open ?? false;
  clear(figure);
  const points = view.rows.map((row, n) => ({
    x: Date.parse(row.time) / 1000,
    now: amount(row[metric]),
    going: n >= view.whole,
    before: view.beforeRows ? amount(view.beforeRows[n]?.[metric]) : null,
  }));
  const moment = (x) => at(x, view.timezone, view.interval === "hour"
    ? { weekday: "short", hour: "2-digit", minute: "2-digit" }
    : { weekday: "short", day: "numeric", month: "short" });
  const value = (number, options) => shown(metric, number, view.currency, options);
  const label = METRICS[metric].label;
  if (globalThis.uPlot) graph(figure, points, { label, moment, value, view });
  else figure.append(make("p", { class: "note" }, "The chart could not be loaded. The numbers are in the table below."));
  figure.append(table(points, { label, moment, value, opened: opened || !globalThis.uPlot }));
}

function graph(figure, points, { label, moment, value, view }) {
  const tip = make("div", { class: "tip", role: "status", hidden: true });
  const place = make("div", {
    class: "plot", tabindex: "0", role: "img",
    "aria-label": `${label}, ${points.length} points from ${moment(points[0].x)} to ${moment(points.at(-1).x)}. Arrow keys read them one by one.`,
  });
  const legend = make("p", { class: "note legend", "aria-hidden": "true" },
    make("span", {}, label), make("span", { class: "before" }, "Period before"));
  figure.append(legend, place, tip);
  const accent = colour("--accent");
  const axis = { stroke: colour("--muted"), grid: { stroke: colour("--line"), width: 1 }, ticks: { show: false }, font: "12px system-ui, sans-serif" };
  plot = new globalThis.uPlot(
    {
      width: place.clientWidth, height: HEIGHT, legend: { show: false }, padding: [12, 12, 0, 0],
      tzDate: (seconds) => globalThis.uPlot.tzDate(new Date(seconds * 1000), view.timezone),
      cursor: { y: false, drag: { x: false, y: false }, points: { size: 9, fill: accent } },
      scales: { y: { range: (_, __, most) => [0, most > 0 ? most * 1.08 : 1] } },
      axes: [
        { ...axis, grid: { show: false }, space: 64, size: 30, values: (_, splits) => splits.map((x) => tick(x, view)) },
        { ...axis, size: 64, splits: steps, values: (_, splits) => splits.map((y) => value(y, { short: true })) },
      ],
      series: [
        {},
        { stroke: colour("--before"), width: 1.5, dash: [5, 4], points: { show: false } },
        { stroke: accent, width: 2.25, fill: colour("--accent-wash"), points: { show: points.length === 1, size: 8 } },
        { stroke: accent, width: 2.25, dash: [3, 4], points: { show: false } },
      ],
      hooks: { setCursor: [(u) => point(u, points, tip, { moment, value })] },
    },
    [points.map((p) => p.x), points.map((p) => p.before), 
      points.map((p) => (p.going ? null : p.now)),
      points.map((p, n) => (p.going || points[n + 1]?.going ? p.now : null))],
    place,
  );
  watcher = new ResizeObserver(() => plot?.setSize({ width: place.clientWidth, height: HEIGHT }));
  watcher.observe(place);
  place.addEventListener("keydown", (event) => walk(event, points));
  place.addEventListener("blur", () => { tip.hidden = true; });
}

const tick = (x, view) => at(x, view.timezone, view.interval === "hour" ? { hour: "2-digit", minute: "2-digit" } : { day: "numeric", month: "short" });

// Few lines, at round numbers, the smallest a whole one where counts are small.
function steps(u, _, low, high) {
  const rough = (high - low) / 4;
  const size = 10 ** Math.floor(Math.log10(rough || 1));
  const step = [1, 2, 2.5, 5, 10].map((n) => n * size).find((n) => n >= rough);
  return Array.from({ length: Math.floor(high / step) + 1 }, (__, n) => n * step);
}

function point(u, points, tip, { moment, value }) {
  const found = points[u.cursor.idx];
  tip.hidden = !found || u.cursor.left < 0;
  if (tip.hidden) return;
  tip.replaceChildren(
    make("span", { class: "note" }, moment(found.x)),
    make("strong", {}, found.now == null ? "not yet" : value(found.now) + (found.going ? " so far" : "")),
    found.before == null ? "" : make("span", { class: "note" }, `before: ${value(found.before)}`),
  );
  const left = u.over.offsetLeft + u.cursor.left;
  const most = u.root.clientWidth - tip.offsetWidth - 4;
  tip.style.left = `${Math.max(4, Math.min(left - tip.offsetWidth / 2, most))}px`;
}

function walk(event, points) {
  const ways = { ArrowLeft: -1, ArrowRight: 1, Home: -Infinity, End: Infinity };
  if (!(event.key in ways) || !plot) return;
  event.preventDefault();
  const from = plot.cursor.left >= 0 ? plot.cursor.idx ?? 0 : event.key === "ArrowLeft" ? points.length : -1;
  const to = Math.max(0, Math.min(points.length - 1, from + ways[event.key]));
  plot.setCursor({ left: plot.valToPos(points[to].x, "x"), top: 10 });
}

function table(points, { label, moment, value, opened }) {
  const body = make("tbody", {}, ...points.map((p) => make("tr", {},
    make("th", { scope: "row" }, moment(p.x)),
    make("td", {}, p.now == null ? "" : value(p.now)),
    make("td", {}, p.before == null ? "" : value(p.before)))));
  return make("details", { class: "as-table", open: opened },
    make("summary", {}, "Show as a table"),
    make("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": `${label} as a table` },
      make("table", {},
        make("thead", {}, make("tr", {}, ...["Time", label, "Period before"].map((text) => make("th", { scope: "col" }, text)))),
        body)));
}
