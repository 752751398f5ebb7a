// COPY between a client and PGlite's blob device: the database is one WebAssembly call, it can
// neither wait for a client's next chunk nor hand out rows while it runs.

import { copyResponse, message } from "./protocol.mjs";

const LIMIT_BYTES = 1 << 30;
const CHUNK_BYTES = 1 << 16;
const FROM_STDIN = /^\s*COPY\s[\s\S]*?\sFROM\s+STDIN\b/i;
const TO_STDOUT = /^\s*COPY\s[\s\S]*?\sTO\s+STDOUT\b/i;
const isBinary = (sql) => /\bbinary\b/i.test(sql.replace(/"[^"]*"/g, ""));

/** How many columns the statement lists; 0 when it leaves them to the table. */
function columnsListed(sql) {
  const list = /^\s*COPY\s+(?:"[^"]*"|[\w.])+\s*\(([^)]*)\)/i.exec(sql);
  return list ? list[1].split(",").length : 0;
}

/** What a statement copies: {into: true|false, response, statement}, or undefined. */
export function copyOf(sql) {
  const into = FROM_STDIN.test(sql);
  if (!into && !TO_STDOUT.test(sql)) return undefined;
  const device = into
    ? sql.replace(/(\sFROM\s+)STDIN\b/i, "$1'/dev/blob'")
    : sql.replace(/(\sTO\s+)STDOUT\b/i, "$1'/dev/blob'");
  const response = copyResponse(into ? "G" : "H", isBinary(sql), columnsListed(sql));
  return { into, response, statement: device, binary: isBinary(sql) };
}

/** Gathers a client's CopyData, bounded. */
export class CopyIn {
  #chunks = [];
  #bytes = 0;

  constructor(copy) {
    this.statement = copy.statement;
  }

  get tooLarge() {
    return this.#bytes > LIMIT_BYTES;
  }

  add(bytes) {
    this.#bytes += bytes.length - 5;
    if (this.tooLarge) this.#chunks = [];
    else this.#chunks.push(bytes.subarray(5));
  }

  blob() {
    return new Blob(this.#chunks);
  }
}

/** The answer to COPY TO: clients read rows by its count of columns, which the rows themselves tell. */
export function copyOutResponse(copy, bytes) {
  if (bytes.length === 0) return copy.response;
  if (copy.binary) return copyResponse("H", true, Math.max(0, bytes.readInt16BE(19))); // after the header
  const line = bytes.subarray(0, bytes.indexOf(10));
  const tabs = line.reduce((count, byte) => count + (byte === 9 ? 1 : 0), 0);
  return tabs > 0 ? copyResponse("H", false, tabs + 1) : copy.response;
}

/** The rows as CopyData: a line a message in text and csv, pieces of the stream in binary. */
export function copyData(bytes, binary) {
  const messages = [];
  for (let at = 0; at < bytes.length; ) {
    const line = bytes.indexOf(10, at);
    const end = binary || line < 0 ? Math.min(at + CHUNK_BYTES, bytes.length) : line + 1;
    messages.push(message("d", bytes.subarray(at, end)));
    at = end;
  }
  return Buffer.concat([...messages, message("c")]);
}
