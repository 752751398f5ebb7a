// Periods in the shop's own days, and the period before that each is compared with.

const DAYS = { today: 1, "7d": 7, "28d": 28, "90d": 90 };
export const NAMED = { today: "Today", "7d": "7 days", "28d": "28 days", "90d": "90 days" };
const [HOUR_MS, DAY_MS] = [3_600_000, 86_400_000];

export const today = (timeZone) =>
  new Intl.DateTimeFormat("en-CA", { timeZone, year: "numeric", month: "2-digit", day: "2-digit" })
    .format(new Date());

const hourOf = (now, timeZone) =>
  Number(new Intl.DateTimeFormat("en-GB", { timeZone, hour: "2-digit", hourCycle: "h23" }).format(now));

export const plus = (date, days) =>
  new Date(Date.parse(`${date}T00:00Z`) + days * DAY_MS).toISOString().slice(0, 10);

const between = (from, to) => Math.round((Date.parse(to) - Date.parse(from)) / DAY_MS);

// From what was chosen, a name or two dates of which the second is the last day shown, to ranges
// [from, to) as the API takes them. A period that still goes on is held against as much of the one
// before as has gone by of it, in whole hours, which are at hand counted: a Monday morning against
// the Monday morning before.
export function resolve(chosen, timeZone, now = new Date()) {
  const tomorrow = plus(today(timeZone), 1);
  const length = DAYS[chosen] ?? between(chosen[0], chosen[1]) + 1;
  const to = DAYS[chosen] ? tomorrow : plus(chosen[1], 1);
  const from = plus(to, -length);
  const open = to >= tomorrow && from < tomorrow;
  const before = [plus(from, -length), from];
  const then = (now.getTime() - length * DAY_MS) / HOUR_MS;
  const first = length === 1 && hourOf(now, timeZone) === 0; // there must be something to compare
  const until = (first ? Math.ceil(then) : Math.floor(then)) * HOUR_MS;
  return {
    range: [from, to],
    before,
    compared: open ? [before[0], new Date(until).toISOString()] : before,
    interval: length <= 2 ? "hour" : length <= 92 ? "day" : "week",
    open,
  };
}

export const lastDay = (range) => plus(range[1], -1);
