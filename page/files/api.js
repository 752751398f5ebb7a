// Questions to the API. The key is held by this tab alone and travels in a header, never in an address.

const PLACE = "footfall.key";

export const key = {
  get: () => sessionStorage.getItem(PLACE),
  keep: (text) => sessionStorage.setItem(PLACE, text),
  forget: () => sessionStorage.removeItem(PLACE),
};

// What went wrong, in the server's own sentence where it gave one.
export class Trouble extends Error {
  constructor(status, code, detail, retryAfter) {
    super(detail);
    Object.assign(this, { status, code, retryAfter });
  }
}

export const query = (body, signal) => ask("/v1/query", signal, {
  method: "POST", body: JSON.stringify(body), headers: { "Content-Type": "application/json" },
});

export const realtime = (merchant, signal) => ask(`/v1/merchants/${merchant}/realtime`, signal);

async function ask(path, signal, { headers, ...how } = {}) {
  let answer;
  try {
    answer = await fetch(path, {
      ...how, signal, headers: { ...headers, Authorization: `Bearer ${key.get()}` },
      credentials: "omit", cache: "no-store",
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Trouble(0, "unreachable", "The server cannot be reached.", 10);
  }
  const said = await answer.json().catch(() => ({}));
  if (answer.ok) return said;
  const wait = Number(answer.headers.get("Retry-After")) || null;
  throw new Trouble(answer.status, said.code ?? "unknown",
    said.detail ?? `The server answered ${answer.status}.`, wait);
}
