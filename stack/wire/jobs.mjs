// TimescaleDB's background workers do not exist in WebAssembly: due policy jobs are run here, one
// at a time, while no client wants the session.

import { messagesIn, query, text } from "./protocol.mjs";

const LOOK_EVERY_MS = 2_000;
const SCHEDULED = `SELECT job_id, extract(epoch FROM schedule_interval)
  FROM timescaledb_information.jobs WHERE scheduled AND job_id >= 1000 ORDER BY job_id`;

/** Fields of the first data rows in an answer, as text. */
function rowsOf(answer) {
  const rows = [];
  for (const [kind, bytes] of messagesIn(answer)) {
    if (kind !== "D") continue;
    const row = [];
    for (let at = 7; at < bytes.length; ) {
      const size = bytes.readInt32BE(at);
      row.push(size < 0 ? null : text(bytes.subarray(at + 4, at + 4 + size)));
      at += 4 + Math.max(size, 0);
    }
    rows.push(row);
  }
  return rows;
}

export function runJobs(session) {
  const client = { settings: [], statements: new Set() };
  const lastRun = new Map();
  let busy = false;

  async function turn(work) {
    await session.acquire(client);
    try {
      return work();
    } finally {
      session.settle(client, false);
    }
  }

  async function look() {
    if (busy || !session.free) return;
    busy = true;
    try {
      const jobs = await turn(() => rowsOf(session.exec(query(SCHEDULED))));
      for (const [id, seconds] of jobs) {
        const now = Date.now();
        if (!lastRun.has(id)) lastRun.set(id, now); // a new policy's first run is one interval away
        if (!session.free || now - lastRun.get(id) < Number(seconds) * 1000) continue;
        lastRun.set(id, now);
        const error = await turn(() => session.run(`CALL run_job(${Number(id)})`));
        if (error) console.error(`policy job ${id} failed: ${error}`);
      }
    } finally {
      busy = false;
    }
  }
  return setInterval(look, LOOK_EVERY_MS);
}
