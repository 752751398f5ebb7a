// A card a metric: its total, the change, and its course as a small line. Pressed, the chart shows it.

import { make, svg, unseen } from "./dom.js";
import { amount, change, percent, shown } from "./format.js";
import { CARDS, METRICS } from "./metrics.js";

// `view` holds what was asked and answered; metrics that the filters rule out have no numbers.
export function cards(view, chosen, choose) {
  return CARDS.map((metric) => {
    const { label } = METRICS[metric];
    const there = view.metrics.includes(metric);
    const now = view.totals?.[metric];
    return make(
      "button",
      {
        class: "card", "aria-pressed": String(metric === chosen), disabled: !there,
        "data-metric": metric, onclick: () => choose(metric),
        title: there ? null : "Cannot be counted with these filters",
      },
      make("span", { class: "label" }, label),
      make("span", { class: "number" }, there ? shown(metric, now, view.currency, { short: true }) : "–"),
      there ? compared(change(now, view.before?.[metric])) : make("span", { class: "change note" }, "not by this filter"),
      there ? spark(view.rows.slice(0, view.whole).map((row) => amount(row[metric]) ?? 0)) : null,
    );
  });
}

export const waiting = () =>
  CARDS.map((metric) => make("div", { class: "card waiting" },
    make("span", { class: "label" }, METRICS[metric].label), make("span", { class: "number" }, " ")));

function compared(percentage) {
  if (percentage == null) return make("span", { class: "change note" }, "nothing before");
  const way = Math.abs(percentage) < 0.05 ? "same" : percentage > 0 ? "up" : "down";
  const arrow = { up: "↑ ", down: "↓ ", same: "= " }[way];
  return make("span", { class: `change ${way}` },
    make("span", { "aria-hidden": "true" }, arrow), unseen(`${way} `), percent(percentage), unseen(" on the period before"));
}

function spark(values) {
  if (!values.some(Boolean)) return "";
  const [width, height] = [120, 28];
  const top = Math.max(...values, 0) || 1;
  const step = width / Math.max(values.length - 1, 1);
  const points = values.map((value, n) => `${(n * step).toFixed(1)},${(height - 1.5 - (value / top) * (height - 4)).toFixed(1)}`);
  return svg("svg", { class: "spark", viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" },
    svg("polygon", { points: `0,${height} ${points.join(" ")} ${width},${height}` }),
    svg("polyline", { points: points.join(" ") }));
}
