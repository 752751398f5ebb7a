// What is looked at: the period, the filters and the metric. It stands in the address after #, so
// that a view can be bookmarked and "back" goes back. The key never does.

const START = { range: "28d", filters: [], metric: "visitors" };

export function read() {
  const given = new URLSearchParams(location.hash.slice(1));
  const state = { ...START };
  const range = given.get("range") ?? "";
  if (/^(today|7d|28d|90d)$/.test(range)) state.range = range;
  if (/^\d{4}-\d\d-\d\d,\d{4}-\d\d-\d\d$/.test(range)) state.range = range.split(",");
  state.filters = given.getAll("is").map((text) => text.split(/:(.*)/s).slice(0, 2));
  if (given.get("metric")) state.metric = given.get("metric");
  return state;
}

export function write(state) {
  const told = new URLSearchParams();
  if (state.range !== START.range) told.set("range", String(state.range));
  if (state.metric !== START.metric) told.set("metric", state.metric);
  for (const [dimension, value] of state.filters) told.append("is", `${dimension}:${value}`);
  const hash = String(told) ? `#${told}` : location.pathname;
  if (hash !== location.hash) history.pushState(null, "", hash);
}
