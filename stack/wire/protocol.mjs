// The PostgreSQL wire protocol, version 3: reading messages out of a stream of bytes and making
// the few that we send ourselves. Everything else comes ready from the database.

const SSL_REQUEST = 80877103;
const GSS_REQUEST = 80877104;
const CANCEL_REQUEST = 80877102;

export const text = (bytes) => Buffer.from(bytes).toString("utf8");

/** Cuts a stream of chunks into whole messages, without copying a chunk more than once. */
export class MessageReader {
  #chunks = [];
  #length = 0;
  #startup = true;

  push(chunk) {
    this.#chunks.push(chunk);
    this.#length += chunk.length;
  }

  /** The next whole message as {kind, bytes}, or undefined until more has arrived. */
  next() {
    const prefix = this.#startup ? 0 : 1;
    if (this.#length < prefix + 4) return undefined;
    if (this.#chunks[0].length < prefix + 4) this.#join();
    const size = prefix + this.#chunks[0].readUInt32BE(prefix);
    if (this.#length < size) return undefined;
    if (this.#chunks[0].length < size) this.#join();
    const first = this.#chunks[0];
    const bytes = first.subarray(0, size);
    if (first.length === size) this.#chunks.shift();
    else this.#chunks[0] = first.subarray(size);
    this.#length -= size;
    return this.#startup ? this.#startupMessage(bytes) : { kind: String.fromCharCode(bytes[0]), bytes };
  }

  #startupMessage(bytes) {
    const code = bytes.readUInt32BE(4);
    if (code === SSL_REQUEST || code === GSS_REQUEST) return { kind: "encryption", bytes };
    if (code === CANCEL_REQUEST) return { kind: "cancel", bytes };
    this.#startup = false;
    return { kind: "startup", bytes };
  }

  #join() {
    this.#chunks = [Buffer.concat(this.#chunks)];
  }
}

/** A message of one kind byte and a body. */
export function message(kind, body = Buffer.alloc(0)) {
  const bytes = Buffer.allocUnsafe(5 + body.length);
  bytes[0] = kind.charCodeAt(0);
  bytes.writeUInt32BE(4 + body.length, 1);
  body.copy(bytes, 5);
  return bytes;
}

const zeroed = (...strings) => Buffer.from(strings.map((s) => s + "\0").join(""), "utf8");

export const query = (sql) => message("Q", zeroed(sql));
export const closeStatement = (name) => message("C", zeroed("S" + name));
export const sync = () => message("S");
export const commandComplete = (tag) => message("C", zeroed(tag));
export const readyForQuery = (status) => message("Z", Buffer.from(status));
export const parameterStatus = (name, value) => message("S", zeroed(name, value));
export const authenticationOk = () => message("R", Buffer.from([0, 0, 0, 0]));

export function backendKeyData(id) {
  const body = Buffer.alloc(8);
  body.writeUInt32BE(id, 0);
  return message("K", body);
}

export function errorResponse(code, sentence, severity = "ERROR") {
  return message("E", zeroed("S" + severity, "V" + severity, "C" + code, "M" + sentence, ""));
}

/** CopyInResponse ('G') or CopyOutResponse ('H'); a column count of 0 says no more than we know. */
export function copyResponse(kind, binary, columns) {
  const body = Buffer.alloc(3 + 2 * columns);
  body[0] = binary ? 1 : 0;
  body.writeUInt16BE(columns, 1);
  for (let i = 0; i < columns; i++) body.writeUInt16BE(binary ? 1 : 0, 3 + 2 * i);
  return message(kind, body);
}

export function startupParameters(bytes) {
  const words = text(bytes.subarray(8)).split("\0");
  const parameters = new Map();
  for (let i = 0; i + 1 < words.length && words[i]; i += 2) parameters.set(words[i], words[i + 1]);
  return parameters;
}

/** The messages within a run of bytes from the database: [kind, bytes] each. */
export function* messagesIn(bytes) {
  for (let at = 0; at < bytes.length; ) {
    const size = 1 + bytes.readUInt32BE(at + 1);
    yield [String.fromCharCode(bytes[at]), bytes.subarray(at, at + size)];
    at += size;
  }
}

/** Replace the zero-terminated string that starts at `at` in a message's bytes. */
export function replaceString(bytes, at, change) {
  const end = bytes.indexOf(0, at);
  const replaced = Buffer.from(change(text(bytes.subarray(at, end))), "utf8");
  return message(
    String.fromCharCode(bytes[0]),
    Buffer.concat([bytes.subarray(5, at), replaced, bytes.subarray(end)]),
  );
}
