// Numbers, money and times as people read them.

import { METRICS } from "./metrics.js";

const locale = navigator.languages?.[0] ?? "en";

export const amount = (value) =>
  value == null ? null : typeof value === "object" ? Number(value.amount) : value;

export function shown(metric, value, currency, { short = false } = {}) {
  const number = amount(value);
  if (number == null) return "–";
  const compact = short && Math.abs(number) >= 10_000
    ? { notation: "compact", maximumFractionDigits: 1 } : {};
  switch (METRICS[metric].unit) {
    case "money": {
      const round = short && (Math.abs(number) >= 1000 || Number.isInteger(number));
      const whole = round ? { maximumFractionDigits: 0 } : {};
      return new Intl.NumberFormat(locale, { style: "currency", currency, ...whole, ...compact }).format(number);
    }
    case "ratio":
      return new Intl.NumberFormat(locale, { style: "percent", minimumFractionDigits: 1, maximumFractionDigits: 1 }).format(number);
    default:
      return new Intl.NumberFormat(locale, compact).format(number);
  }
}

// The change against before, in per cent; null where there was nothing to compare with.
export function change(now, before) {
  const [today, then] = [amount(now), amount(before)];
  return !then || today == null ? null : (100 * (today - then)) / then;
}

export const percent = (value) =>
  new Intl.NumberFormat(locale, { style: "percent", maximumFractionDigits: Math.abs(value) < 10 ? 1 : 0 })
    .format(Math.abs(value) / 100);

const REGIONS = new Intl.DisplayNames([locale], { type: "region" });

export function named(dimension, value) {
  if (value === "(none)") return dimension === "country" ? "Unknown" : "(none)";
  if (dimension === "country" && /^[A-Z]{2}$/.test(value)) return REGIONS.of(value);
  if (dimension === "device") return value[0].toUpperCase() + value.slice(1);
  return value;
}

export const day = (date, options = { day: "numeric", month: "short" }) =>
  new Intl.DateTimeFormat(locale, { timeZone: "UTC", ...options }).format(new Date(`${date}T00:00Z`));

export const at = (seconds, timeZone, options) =>
  new Intl.DateTimeFormat(locale, { timeZone, ...options }).format(new Date(seconds * 1000));

export function ago(instant) {
  const seconds = Math.max(0, Math.round((Date.now() - new Date(instant)) / 1000));
  if (seconds < 90) return `${seconds} s ago`;
  return seconds < 5400 ? `${Math.round(seconds / 60)} min ago` : `${Math.round(seconds / 3600)} h ago`;
}
