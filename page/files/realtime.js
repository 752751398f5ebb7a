// Who is there now: asked again every few seconds while somebody looks.

import { realtime } from "./api.js";
import { byId, make } from "./dom.js";
import { at } from "./format.js";

const EVERY_MS = 10_000;

export function watch(merchant, timezone) {
  const body = make("div", { class: "body" });
  const element = make("section", { class: "panel", id: "now", "aria-labelledby": "now-title", tabindex: "-1" },
    make("div", { class: "row" }, make("h2", { id: "now-title" }, "Right now"), make("p", { class: "note" }, "last 30 minutes")), body);
  let timer = null;
  let over = false;

  async function look() {
    clearTimeout(timer);
    let wait = EVERY_MS;
    if (document.visibilityState === "visible") {
      try {
        const answer = await realtime(merchant);
        if (over) return;
        show(body, answer, timezone);
        pill(answer.visitors);
      } catch (error) {
        pill(null);
        if (error.status === 404) {
          refuse(body, "This server does not answer realtime questions yet.");
          return; // it will not before it is upgraded
        }
        if (error.status === 401) return; // the numbers beside it say so
        refuse(body, error.message);
        wait = Math.max(wait, (error.retryAfter ?? 0) * 1000);
      }
    }
    if (!over) timer = setTimeout(look, wait);
  }
  const seen = () => document.visibilityState === "visible" && look();
  document.addEventListener("visibilitychange", seen);
  look();
  return {
    element,
    end() {
      over = true;
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", seen);
      pill(null);
    },
  };
}

const refuse = (body, sentence) => body.replaceChildren(make("p", { class: "empty" }, sentence));

function pill(visitors) {
  byId("now-link").hidden = visitors == null;
  if (visitors != null) byId("now-count").textContent = `${visitors} now`;
}

function show(body, answer, timezone) {
  const top = Math.max(...answer.minutes.map((minute) => minute.visitors), 4); // one visitor is no crowd
  const bars = answer.minutes.map((minute) => {
    const bar = make("i", { title: `${at(Date.parse(minute.time) / 1000, timezone, { hour: "2-digit", minute: "2-digit" })}: ${minute.visitors}` });
    bar.style.height = `${(100 * minute.visitors) / top}%`;
    return bar;
  });
  const counts = answer.minutes.map((minute) => minute.visitors).join(", ");
  body.replaceChildren(
    make("p", { class: "present" }, make("strong", {}, String(answer.visitors)),
      ` ${answer.visitors === 1 ? "visitor" : "visitors"} in the last 5 minutes`),
    make("div", { class: "minutes", role: "img", "aria-label": `Visitors by minute, oldest first: ${counts}` }, ...bars),
    make("p", { class: "note between" }, make("span", {}, "30 min ago"), make("span", {}, "now")),
  );
}
