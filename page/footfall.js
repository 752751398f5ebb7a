/* Footfall in a shop's page:

     <script defer src="https://footfall.example/footfall.js" data-key="ff_…"></script>

   Sends a page_view for every page and every change of address, and whatever the page reports by
   footfall("add_to_cart", {product_id: "teapot"}). data-respect-dnt keeps it silent where the browser asks
   not to be tracked. Every event gets its id and time once: whoever sends it again, however often,
   it counts once. */
(() => {
  const win = window, doc = document, nav = navigator, script = doc.currentScript, data = script.dataset;
  const MINUTE = 6e4, url = new URL("/v1/events?key=" + data.key, script.src);
  const silent = "respectDnt" in data && (nav.doNotTrack == 1 || nav.globalPrivacyControl);

  // Private windows may refuse to store: then ids last as long as the page.
  const load = (place, name) => { try { return JSON.parse(win[place][name]) } catch { } };
  const save = (place, name, value) => { try { win[place][name] = JSON.stringify(value) } catch { } };
  const id = () => Array.from(crypto.getRandomValues(new Uint8Array(16)), (n) => n.toString(16).padStart(2, 0)).join("");

  // What the server has not acknowledged outlives the page. After ten minutes the server might no
  // longer know an id that it has seen, so older events are let go rather than counted twice.
  const LOCAL = "localStorage", TAB = "sessionStorage", NAME = "footfall";
  let queue = (load(TAB, NAME) || []).filter((event) => Date.now() - event.timestamp < 10 * MINUTE);
  let who = {}, tries = 0, busy, timer, seen, referrer = doc.referrer;

  const track = (event, fields = {}) => {
    const now = Date.now();
    who = load(LOCAL, NAME) || who; // another tab may have gone on with the session
    if (!(now - who.t < 30 * MINUTE)) who.s = id();
    who = { v: who.v || id(), s: who.s, t: now };
    save(LOCAL, NAME, who);
    const made = {
      event, event_id: id(), timestamp: now, visitor_id: who.v, session_id: who.s,
      url: location.href.slice(0, 2048), referrer: referrer.slice(0, 2048), user_agent: nav.userAgent,
    };
    for (const name in fields) {
      if (/^(value|currency|order_id|product_id|quantity|items)$/.test(name)) made[name] = fields[name];
      else if (name == "properties") made[name] = { ...made[name], ...fields[name] };
      else (made.properties ||= {})[name] = fields[name];
    }
    queue = [...queue, made].slice(-100);
    keep();
    tries || send();
  };
  const keep = () => save(TAB, NAME, queue);

  const post = (events) => fetch(url, {
    method: "POST", body: JSON.stringify(events), headers: { "Content-Type": "text/plain" },
    credentials: "omit", keepalive: true,
  });
  const send = async () => {
    if (busy || !queue.length) return;
    busy = 1;
    clearTimeout(timer);
    const batch = queue.slice(0, 20);
    let wait = 0;
    try {
      const answer = await post(batch);
      if (answer.status == 429 || answer.status > 499) throw wait = +answer.headers.get("Retry-After");
      const said = await answer.json();
      if (said.rejected?.length || !answer.ok) console.warn("footfall", said);
      queue = queue.filter((event) => !batch.includes(event));
      keep();
      tries = 0;
    } catch { tries++ }
    busy = 0;
    if (queue.length && tries < 9) timer = setTimeout(send, tries && Math.max(wait * 1e3, 500 * 2 ** tries));
  };
  // The page may go for good: a beacon outlives it, though nobody hears what became of it.
  const leave = () => {
    if (doc.visibilityState == "hidden" && queue.length) {
      const last = queue.slice(-20);
      nav.sendBeacon?.(url, JSON.stringify(last)) || post(last).catch(() => { });
    }
  };

  const view = () => {
    const here = location.pathname + location.search;
    if (here == seen) return;
    if (seen) referrer = new URL(seen, location.href).href;
    seen = here;
    track("page_view");
  };

  const waiting = win.footfall?.q || [];
  win.footfall = silent ? () => { } : track;
  if (silent) return;
  const push = history.pushState;
  history.pushState = function (...given) { push.apply(this, given); view() };
  win.addEventListener("popstate", view);
  win.addEventListener("pageshow", (event) => { if (event.persisted) { seen = 0; view() } });
  doc.addEventListener("visibilitychange", leave);
  win.addEventListener("online", send);
  view();
  for (const given of waiting) track(...given);
})();
