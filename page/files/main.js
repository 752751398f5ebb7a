// The page: asks for what is looked at and shows it. One state in the address, one way to draw it.

import { key, query } from "./api.js";
import { cards, waiting } from "./cards.js";
import * as chart from "./chart.js";
import { byId, make } from "./dom.js";
import { ago, day, named } from "./format.js";
import { CARDS, DIMENSIONS, PANELS, goesWith } from "./metrics.js";
import { NAMED, lastDay, plus, resolve, today } from "./period.js";
import { watch } from "./realtime.js";
import { read, write } from "./state.js";
import { panel } from "./tables.js";

const AGAIN_MS = 60_000;
let shop = null; // { merchant, timezone, currency }
let state = read();
let view = null; // the last answer for the overview
let panels = [];
let now = null;
let asking = null;
let timer = null;

// ---- the door -------------------------------------------------------------

async function enter(text) {
  key.keep(text);
  const { query: asked } = await query({ metrics: ["events"], date_range: "today" });
  shop = { merchant: asked.merchant_id, timezone: asked.timezone, currency: asked.currency };
  byId("door").hidden = true;
  byId("shop").hidden = false;
  byId("whose").textContent = `Shop ${shop.merchant}`;
  document.title = `Shop ${shop.merchant} · Footfall`;
  const on = { onFilter: filter, onTab: load, onMore: load };
  panels = PANELS.map((each) => panel(each, on));
  now = watch(shop.merchant, shop.timezone);
  byId("panels").replaceChildren(...panels.map((each) => each.element), now.element);
  load();
}

function leave(why = "") {
  key.forget();
  asking?.abort();
  clearTimeout(timer);
  now?.end();
  chart.clear(byId("chart"));
  shop = view = now = null;
  byId("panels").replaceChildren();
  byId("cards").replaceChildren();
  document.title = "Footfall";
  byId("shop").hidden = true;
  byId("door").hidden = false;
  const error = byId("key-error");
  error.textContent = why;
  error.hidden = !why;
  byId("key").value = "";
  byId("key").focus();
}

const WHY = {
  no_merchant: "This is an operator's key. Use a read key of one shop.",
  missing_scope: "This key may not read numbers: it lacks the scope stats:read.",
};

byId("login").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = byId("key").value.trim();
  if (/[^\x21-\x7e]/.test(text)) leave("A key holds no spaces or accents: copy it again.");
  else enter(text).catch((error) => leave(WHY[error.code] ?? error.message));
});
byId("leave").addEventListener("click", () => leave());

// ---- asking ---------------------------------------------------------------

async function load() {
  asking?.abort();
  clearTimeout(timer);
  asking = new AbortController();
  const { signal } = asking;
  const period = resolve(state.range, shop.timezone);
  const filters = state.filters.map(([dimension, value]) => ["is", dimension, [value]]);
  controls(period);
  if (!view) byId("cards").replaceChildren(...waiting());
  byId("shop").setAttribute("aria-busy", "true");
  const failed = (error) => {
    if (error.name !== "AbortError") trouble(error);
  };
  await Promise.all([
    overview(period, filters, signal).then(() => trouble(null)).catch(failed),
    ...panels.map((each) => breakdown(each, period, filters, signal).catch((error) => {
      if (error.name !== "AbortError") each.refuse(error.status >= 500 || !error.status ? "No answer." : error.message);
    })),
  ]);
  if (signal.aborted) return;
  byId("shop").setAttribute("aria-busy", "false");
  if (period.open && byId("trouble").hidden) timer = setTimeout(refresh, AGAIN_MS);
}

// Nobody looks at a hidden page: it is asked for again when it is seen again.
function refresh() {
  if (document.visibilityState === "visible") load();
  else document.addEventListener("visibilitychange", refresh, { once: true });
}

async function overview(period, filters, signal) {
  const dimensions = state.filters.map(([name]) => name);
  const metrics = CARDS.filter((metric) => goesWith(metric, dimensions));
  if (!metrics.length) throw new Error("These filters leave nothing to count.");
  const body = { metrics, filters, dimensions: [`time:${period.interval}`], include: { totals: true }, limit: 1000 };
  const [answer, before, compared] = await Promise.all([
    query({ ...body, date_range: period.range }, signal),
    query({ ...body, date_range: period.before }, signal),
    period.open ? query({ metrics, filters, date_range: period.compared, include: { totals: true } }, signal) : null,
  ]);
  const present = Date.now();
  view = {
    ...shop, metrics, interval: period.interval,
    rows: answer.rows.map((row) => Date.parse(row.time) <= present ? row : { time: row.time }),
    whole: whole(answer.rows, period.open, present), beforeRows: before.rows, totals: answer.totals, before: (compared ?? before).totals, meta: answer.meta,
  };
  drawOverview();
  byId("period").textContent = told(period);
  byId("told").textContent = `Numbers of ${told(period)} are shown.`;
  freshness(view.meta);
}

// How many points are over: the last one that has begun may still go on.
function whole(rows, open, present) {
  const begun = rows.filter((row) => Date.parse(row.time) <= present).length;
  return open && begun > 1 ? begun - 1 : begun;
}

async function breakdown(shown, period, filters, signal) {
  const { dimension, metrics, limit } = shown.question(state.filters);
  if (!metrics.length) {
    const product = state.filters.some(([name]) => name === "product");
    const names = state.filters.map(([name]) => DIMENSIONS[name].toLowerCase()).join(" and ");
    shown.refuse(product ? "Cannot be counted for one product." : `Products cannot be counted by ${names}.`);
    return;
  }
  shown.waiting();
  const ask = (wanted) => query({
    metrics: wanted, filters, dimensions: [dimension], date_range: period.range, order_by: [[wanted[0], "desc"]], limit,
  }, signal);
  const cheaper = metrics.filter((metric) => metric !== "visitors");
  try {
    shown.show(metrics, await ask(metrics), shop.currency);
  } catch (error) {
    if (error.status !== 422 || !cheaper.length || cheaper.length === metrics.length) throw error;
    shown.show(cheaper, await ask(cheaper), shop.currency); // a shop with very many events
  }
}

// ---- showing --------------------------------------------------------------

function drawOverview() {
  const chosen = view.metrics.includes(state.metric) ? state.metric : view.metrics[0];
  const held = document.activeElement?.dataset?.metric;
  byId("cards").replaceChildren(...cards(view, chosen, (metric) => go({ metric }, drawOverview)));
  if (held) byId("cards").querySelector(`[data-metric=${held}]`)?.focus();
  const empty = view.rows.every((row) => view.metrics.every((metric) => !Number(row[metric]?.amount ?? row[metric] ?? 0)));
  byId("empty").hidden = !empty;
  byId("chart").hidden = empty;
  if (empty) {
    chart.clear(byId("chart"));
    byId("empty").replaceChildren(...nothing());
  } else chart.draw(byId("chart"), view, chosen);
}

function nothing() {
  if (state.filters.length) return [make("p", {}, "Nothing in this period fits these filters.")];
  const tag = `<script defer src="${location.origin}/footfall.js" data-key="…"></script>`;
  return [
    make("p", {}, "No events in this period."),
    make("p", { class: "note" }, "If your shop does not send any yet, put this into its pages, with a key for browsers:"),
    make("pre", { tabindex: "0" }, tag),
  ];
}

function told({ range, compared, open }) {
  const span = (from, to) => (from === to ? day(from) : `${day(from)} – ${day(to)}`);
  const then = open ? `${span(compared[0], compared[1].slice(0, 10))}, as far as it had come` : span(compared[0], lastDay(compared));
  return `${span(range[0], lastDay(range))}, against ${then}`;
}

function freshness(meta) {
  const parts = [];
  if (meta.fresh_as_of) parts.push(`Holds every event up to ${ago(meta.fresh_as_of)}.`);
  if (meta.approximate?.visitors) parts.push(`Visitors are within ±${(100 * meta.approximate.visitors.relative_error).toFixed(1)} %.`);
  parts.push(`Days are those of ${shop.timezone}.`, ...meta.warnings.map((each) => each.message ?? String(each)));
  byId("fresh").textContent = parts.join(" ");
}

function trouble(error) {
  byId("overview").classList.toggle("stale", Boolean(error && view));
  byId("trouble").hidden = !error;
  if (!error) return;
  if (error.status === 401) {
    leave(error.message);
    return;
  }
  const box = byId("trouble");
  const again = error.retryAfter ? ` Trying again in ${error.retryAfter} s.` : "";
  box.replaceChildren(make("span", {}, error.message + again), make("button", { class: "quiet", onclick: load }, "Try again"));
  if (!view) byId("cards").replaceChildren();
  if (error.retryAfter) timer = setTimeout(load, error.retryAfter * 1000);
}

// ---- the period and the filters -------------------------------------------

function go(change, then = load) {
  state = { ...state, ...change };
  write(state);
  then();
}

function filter(dimension, value) {
  const others = state.filters.filter(([name]) => name !== dimension);
  go({ filters: [...others, [dimension, value]] });
  byId("overview").focus({ preventScroll: true });
}

function unfilter(dimension) {
  go({ filters: state.filters.filter(([name]) => name !== dimension) });
  byId("overview").focus({ preventScroll: true });
}

function controls({ range }) {
  byId("ranges").replaceChildren(...Object.entries(NAMED).map(([name, label]) =>
    make("button", { "aria-pressed": String(name === state.range), onclick: () => go({ range: name }) }, label)));
  const custom = Array.isArray(state.range);
  const summary = byId("custom").querySelector("summary");
  summary.textContent = custom ? `${day(range[0])} – ${day(lastDay(range))}` : "Range";
  summary.classList.toggle("chosen", custom);
  byId("from").value = range[0];
  byId("to").value = lastDay(range);
  byId("to").max = today(shop.timezone);
  byId("chips").hidden = !state.filters.length;
  byId("chips").replaceChildren(...state.filters.map(([dimension, value]) =>
    make("button", { class: "chip", "aria-label": `Remove the filter ${DIMENSIONS[dimension]} is ${named(dimension, value)}`, onclick: () => unfilter(dimension) },
      make("span", { class: "note" }, `${DIMENSIONS[dimension]} is`), make("strong", {}, named(dimension, value)), make("span", { "aria-hidden": "true" }, "×"))));
}

byId("custom-form").addEventListener("submit", (event) => {
  event.preventDefault();
  const [from, to] = [byId("from").value, byId("to").value];
  const error = byId("custom-error");
  error.hidden = from <= to && to < plus(from, 400);
  error.textContent = from <= to ? "At most 400 days." : "The last day is before the first.";
  if (!error.hidden) return;
  byId("custom").open = false;
  go({ range: [from, to] });
});
addEventListener("keydown", (event) => {
  if (event.key === "Escape") byId("custom").open = false;
});
addEventListener("click", (event) => {
  if (!byId("custom").contains(event.target)) byId("custom").open = false;
});
addEventListener("popstate", () => {
  state = read();
  if (shop) load();
});

// ---- light and dark -------------------------------------------------------

const THEMES = ["", "light", "dark"];
const theme = byId("theme");

function showTheme() {
  const chosen = document.documentElement.dataset.theme ?? "";
  theme.textContent = { "": "◐ Auto", light: "☀ Light", dark: "☾ Dark" }[chosen];
  theme.setAttribute("aria-label", `Colours: ${chosen || "as the system has them"}. Change.`);
  if (view) drawOverview();
}

theme.addEventListener("click", () => {
  const next = THEMES[(THEMES.indexOf(document.documentElement.dataset.theme ?? "") + 1) % 3];
  if (next) document.documentElement.dataset.theme = next;
  else delete document.documentElement.dataset.theme;
  try {
    localStorage.setItem("theme", next);
  } catch { /* not kept, then */ }
  showTheme();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", showTheme);

showTheme();
if (key.get()) enter(key.get()).catch((error) => leave(error.status === 401 ? "" : error.message));
else leave();
