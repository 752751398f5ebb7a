// A panel a dimension: its largest rows, each a button that narrows everything to it.

import { make } from "./dom.js";
import { amount, named, shown } from "./format.js";
import { DIMENSIONS, METRICS, goesWith } from "./metrics.js";

export const FEW = 8;
export const MANY = 100;

// Made once; `show` fills it with an answer, `refuse` with the reason why there is none.
export function panel({ title, tabs }, { onFilter, onTab, onMore }) {
  const names = Object.keys(tabs);
  let dimension = names[0];
  const id = `panel-${names[0]}`;
  const body = make("div", { class: "body" });
  const choices = names.map((name) => make("button", {
    class: "tab", "aria-pressed": String(name === dimension), onclick: () => {
      dimension = name;
      for (const [n, choice] of choices.entries()) choice.setAttribute("aria-pressed", String(names[n] === name));
      onTab();
    },
  }, DIMENSIONS[name]));
  const element = make("section", { class: "panel", "aria-labelledby": id },
    make("div", { class: "row" }, make("h2", { id }, title),
      names.length > 1 ? make("div", { class: "tabs", role: "group", "aria-label": `${title} by` }, ...choices) : null),
    body);
  const more = { wanted: false };
  return {
    element,
    question(filters) {
      const dimensions = [dimension, ...filters.map(([name]) => name)];
      const together = (metric) => goesWith(metric, dimensions);
      const wanted = tabs[dimension].filter(together);
      const metrics = wanted.length ? wanted : ["visitors"].filter(together);
      return { dimension, metrics, limit: more.wanted ? MANY : FEW };
    },
    waiting() {
      if (!body.childElementCount) body.replaceChildren(...Array.from({ length: 5 }, () => make("div", { class: "line waiting" })));
    },
    refuse(sentence) {
      body.replaceChildren(make("p", { class: "empty" }, sentence));
    },
    show(metrics, answer, currency) {
      const rows = answer.rows.filter((row) => metrics.some((metric) => amount(row[metric])));
      if (!rows.length) {
        body.replaceChildren(make("p", { class: "empty" }, "Nothing in this period."));
        return;
      }
      const again = () => {
        more.wanted = !more.wanted;
        onMore();
      };
      body.replaceChildren(
        table(title, dimension, metrics, rows, currency, onFilter),
        answer.next_cursor || more.wanted
          ? make("button", { class: "quiet more", onclick: again }, more.wanted ? "Show fewer" : "Show more") : "",
      );
    },
  };
}

function table(title, dimension, metrics, rows, currency, onFilter) {
  const top = Math.max(...rows.map((row) => amount(row[metrics[0]]) ?? 0)) || 1;
  return make("div", { class: "scroll" }, make("table", {},
    make("caption", { class: "unseen" }, `${title}: press one to filter by it`),
    make("thead", {}, make("tr", {}, make("th", { scope: "col" }, DIMENSIONS[dimension]),
      ...metrics.map((metric) => make("th", { scope: "col" }, METRICS[metric].label)))),
    make("tbody", {}, ...rows.map((row) => {
      const value = row[dimension];
      const bar = make("span", { class: "bar", "aria-hidden": "true" });
      bar.style.width = `${Math.max(0, (100 * (amount(row[metrics[0]]) ?? 0)) / top)}%`;
      const whole = value === "(other)";
      return make("tr", {},
        make("th", { scope: "row" }, bar, whole ? make("span", { class: "value" }, "All others")
          : make("button", { class: "value", title: value, onclick: () => onFilter(dimension, value) }, named(dimension, value))),
        ...metrics.map((metric) => make("td", {}, shown(metric, row[metric], currency, { short: true }))));
    }))));
}
