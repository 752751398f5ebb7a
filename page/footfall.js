/* Footfall in a shop's page:

     <script defer src="https://footfall.example/footfall.js" data-key="ff_…"></script>

   It sends a page_view for every page and every change of address within one, and what the page
   reports by footfall("add_to_cart", {product_id: "teapot"}). With data-respect-dnt it is silent
   where the browser asks not to be tracked. Each event gets its id and time once, so that it counts
   once however often it has to be sent. */
(() => {
  const win = window, doc = document, nav = navigator, script = doc.currentScript;
  const { key, respectDnt } = script.dataset;
  const address = new URL("/v1/events?key=" + key, script.src);
  const MINUTE = 6e4, MOST = 20; // a browser lets 64 kB outlive a page

  // Private windows may refuse to store: then ids last as long as the page.
  const load = (place) => { try { return JSON.parse(win[place].footfall) } catch { } };
  const save = (place, value) => { try { win[place].footfall = JSON.stringify(value) } catch { } };
  const SHARED = "localStorage", OF_TAB = "sessionStorage";
  const id = () => [...crypto.getRandomValues(new Uint8Array(16))].map((n) => n.toString(16).padStart(2, 0)).join("");

  // What the server has not acknowledged outlives the page in its tab. After a while the server may
  // have forgotten an id that it has seen: older events are let go rather than counted twice.
  let queue = load(OF_TAB) || [];
  const keep = (events) => {
    queue = events.filter((event) => Date.now() - event.timestamp < 10 * MINUTE).slice(-100);
    save(OF_TAB, queue);
  };
  let visit = {}, failures = 0, alone = 0, sending, timer, seen, referrer = doc.referrer;

  const track = (event, fields = {}) => {
    const now = Date.now();
    visit = load(SHARED) || visit; // another tab may have gone on with it
    visit = {
      visitor: visit.visitor || id(),
      session: now - visit.last < 30 * MINUTE ? visit.session : id(),
      last: now,
    };
    save(SHARED, visit);
    const made = {
      event, event_id: id(), timestamp: now, visitor_id: visit.visitor, session_id: visit.session,
      url: location.href.slice(0, 2048), referrer: referrer.slice(0, 2048), user_agent: nav.userAgent,
    };
    for (const name in fields) {
      if (/^(value|currency|order_id|product_id|quantity|items|properties)$/.test(name)) made[name] = fields[name];
      else made.properties = { ...made.properties, [name]: fields[name] };
    }
    keep([...queue, made]);
    failures || send();
  };

  // Half of a surrogate pair, where a text was cut within an emoji, is no JSON for a server: it is left out.
  const json = (events) => JSON.stringify(events, (_, text) => text?.big ? text.replace(/\p{Cs}/gu, "") : text);
  const post = (events) => fetch(address, {
    method: "POST", body: json(events), headers: { "Content-Type": "text/plain" },
    credentials: "omit", keepalive: true,
  });
  const send = async () => {
    keep(queue);
    if (sending || !queue.length) return;
    clearTimeout(timer);
    sending = queue.slice(0, alone ? 1 : MOST);
    let wait = 0;
    try {
      const answer = await post(sending);
      wait = answer.headers.get("Retry-After");
      if (answer.status == 429 || answer.status > 499) throw 0;
      const said = await answer.json();
      if (!answer.ok || said.rejected.length) console.warn("footfall", said);
      failures = 0;
      // A batch that is refused as a whole is sent again one by one: one event costs no other.
      if (!answer.ok && sending[1]) alone = MOST;
      else {
        alone && alone--;
        keep(queue.filter((event) => !sending.includes(event)));
      }
    } catch {
      wait = Math.max(wait * 1e3, Math.min(MINUTE, 500 * 2 ** ++failures));
    }
    sending = 0;
    if (queue.length) timer = setTimeout(send, failures && wait);
  };
  // The page may go for good. A beacon outlives it, but nobody hears what became of it.
  const leave = () => {
    const last = queue.slice(-MOST);
    if (doc.visibilityState == "hidden" && last.length)
      nav.sendBeacon?.(address, json(last)) || post(last).catch(() => { });
  };

  const view = () => {
    const here = location.href.split("#")[0];
    if (here == seen) return;
    referrer = seen || referrer;
    seen = here;
    track("page_view");
  };

  const waiting = win.footfall?.q || [];
  if (respectDnt != null && (nav.doNotTrack == 1 || nav.globalPrivacyControl)) return win.footfall = () => { };
  win.footfall = track;
  const { pushState } = history;
  history.pushState = (...given) => { pushState.apply(history, given); view() };
  win.addEventListener("popstate", view);
  win.addEventListener("pageshow", (event) => { if (event.persisted) { seen = 0; view() } });
  doc.addEventListener("visibilitychange", leave);
  win.addEventListener("online", send);
  view();
  waiting.forEach((given) => track(...given));
})();
