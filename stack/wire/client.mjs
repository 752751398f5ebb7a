// One client's connection: startup, then its messages in order, each in its turn.

import { CopyIn, copyData, copyOf, copyOutResponse } from "./copy.mjs";
import * as wire from "./protocol.mjs";

const SESSION_SETTING = /^\s*(?:SET\s+(?!LOCAL\b|TRANSACTION\b|CONSTRAINTS\b)|RESET\s+)/i;
const FORGETS_SETTINGS = /\b(?:RESET|DISCARD)\s+ALL\b/i;
const DEALLOCATE = /^\s*DEALLOCATE\s+(?:PREPARE\s+)?("?)([^\s;"]+)\1\s*;?\s*$/i;
const DISCARD = /^\s*DISCARD\s+ALL\s*;?\s*$/i;
const quoted = (value) => "'" + value.replaceAll("'", "''") + "'";

let lastId = 0;

export class Client {
  id = ++lastId;
  statements = new Set();
  settings = [];
  #socket;
  #session;
  #reader = new wire.MessageReader();
  #startSettings = [];
  #status = "I";
  #skipToSync = false; // an extended-protocol error voids what follows, up to Sync
  #inExchange = false; // between the first extended-protocol message and its Sync
  #bound = false; // whether a portal lives in this exchange
  #copy = undefined;
  #working = false;
  #gone = false;

  constructor(socket, session) {
    this.#socket = socket;
    this.#session = session;
    socket.setNoDelay(true);
    socket.on("data", (chunk) => {
      this.#reader.push(chunk);
      this.#work();
    });
    socket.on("error", () => socket.destroy());
    socket.on("close", () => this.#leave());
  }

  /** Send a last message and hang up. */
  end(message) {
    this.#socket.end(message);
    this.#socket.destroySoon();
  }

  get #open() {
    return this.#status !== "I" || this.#inExchange || this.#copy !== undefined;
  }

  #leave() {
    this.#gone = true;
    if (!this.#working) this.#session.leave(this, this.#open);
  }

  async #work() {
    if (this.#working) return;
    this.#working = true;
    try {
      for (let message; !this.#gone && (message = this.#reader.next()); ) {
        const answer = await this.#answer(message);
        // A client that vanished while it waited for its turn has nobody to drain its answer.
        if (answer?.length && !this.#gone && !this.#socket.write(answer)) await this.#drained();
      }
    } catch (error) {
      console.error(`connection ${this.id}: ${error.stack ?? error}`);
      this.end(wire.errorResponse("XX000", String(error.message ?? error), "FATAL"));
    } finally {
      this.#working = false;
      if (this.#gone) this.#session.leave(this, this.#open);
    }
  }

  /** Reading stops while the client does not read, so that answers cannot pile up. */
  #drained() {
    return new Promise((resolve) => {
      if (this.#socket.destroyed) resolve();
      this.#socket.once("drain", resolve);
      this.#socket.once("close", resolve);
    });
  }

  async #answer({ kind, bytes }) {
    switch (kind) {
      case "encryption":
        return Buffer.from("N");
      case "cancel": // a running statement is one WebAssembly call: nothing can interrupt it
        this.#socket.end();
        return undefined;
      case "startup":
        return this.#start(bytes);
      case "X":
        this.#socket.end();
        return undefined;
      case "Q":
        return this.#query(bytes);
      case "d":
      case "c":
      case "f":
        return this.#copyMessage(kind, bytes);
      case "F":
        return wire.errorResponse("0A000", "the function-call protocol is not supported");
      default:
        return this.#extended(kind, bytes);
    }
  }

  async #start(bytes) {
    const known = new Set(["user", "database", "options", "replication", "client_encoding"]);
    for (const [name, value] of wire.startupParameters(bytes)) {
      if (!known.has(name)) this.#startSettings.push(`SET "${name}" TO ${quoted(value)}`);
      if (name === "options") {
        for (const [, setting, given] of value.matchAll(/-c\s*([\w.]+)=((?:\\.|\S)*)/g)) {
          this.#startSettings.push(`SET ${setting} TO ${quoted(given.replace(/\\(.)/g, "$1"))}`);
        }
      }
    }
    this.settings = [...this.#startSettings];
    const told = {
      server_version: "17.5",
      server_encoding: "UTF8",
      client_encoding: "UTF8",
      DateStyle: "ISO, MDY",
      TimeZone: "UTC",
      integer_datetimes: "on",
      standard_conforming_strings: "on",
      is_superuser: "on",
    };
    return Buffer.concat([
      wire.authenticationOk(),
      ...Object.entries(told).map(([name, value]) => wire.parameterStatus(name, value)),
      wire.backendKeyData(this.id),
      wire.readyForQuery("I"),
    ]);
  }

  async #query(bytes) {
    const sql = wire.text(bytes.subarray(5, bytes.length - 1));
    await this.#session.acquire(this);
    const copy = copyOf(sql);
    if (copy?.into) {
      this.#copy = new CopyIn(copy);
      return copy.response;
    }
    if (copy) return this.#copyOut(copy);
    return this.#settled(this.#plainQuery(sql));
  }

  #plainQuery(sql) {
    const deallocate = DEALLOCATE.exec(sql);
    if (deallocate || DISCARD.test(sql)) {
      const all = !deallocate || deallocate[2].toUpperCase() === "ALL";
      this.#forgetStatements(all ? [...this.statements] : [this.#own(deallocate[2])]);
      if (deallocate) return Buffer.concat([wire.commandComplete(all ? "DEALLOCATE ALL" : "DEALLOCATE"), wire.readyForQuery(this.#status)]);
      sql = "CLOSE ALL; RESET ALL";
    }
    const answer = this.#session.exec(wire.query(sql));
    this.#noteSettings(sql, answer);
    return answer;
  }

  #noteSettings(sql, answer) {
    if (FORGETS_SETTINGS.test(sql)) {
      this.settings = [...this.#startSettings];
      this.#session.forgetSettings();
    } else if (SESSION_SETTING.test(sql) && ![...wire.messagesIn(answer)].some(([kind]) => kind === "E")) {
      this.settings.push(sql.trim().replace(/;$/, ""));
    }
  }

  async #copyMessage(kind, bytes) {
    if (this.#copy === undefined) return undefined; // what is left of a COPY that already failed
    if (kind === "d") {
      this.#copy.add(bytes);
      return undefined;
    }
    const copy = this.#copy;
    this.#copy = undefined;
    if (kind === "f") return this.#failed("57014", `COPY from stdin failed: ${wire.text(bytes.subarray(5, -1))}`);
    if (copy.tooLarge) return this.#failed("54000", "this COPY is larger than the embedded database takes at once: send less, or use a real server");
    return this.#settled(await this.#session.copyIn(copy.statement, copy.blob()));
  }

  /** An error of our own: the transaction, if one is open, must fail as well. */
  #failed(code, sentence) {
    if (this.#status === "T") {
      this.#session.run("SELECT 1/0");
      this.#status = "E";
    }
    return this.#settled(Buffer.concat([wire.errorResponse(code, sentence), wire.readyForQuery(this.#status)]));
  }

  async #copyOut(copy) {
    const { answer, bytes } = await this.#session.copyOut(copy.statement);
    const failed = [...wire.messagesIn(answer)].some(([kind]) => kind === "E");
    const rows = failed ? [] : [copyOutResponse(copy, bytes), copyData(bytes, copy.binary)];
    return this.#settled(Buffer.concat([...rows, answer]));
  }

  async #extended(kind, bytes) {
    if (kind === "S") {
      if (!this.#inExchange) await this.#session.acquire(this);
      this.#inExchange = false;
      this.#bound = false;
      this.#skipToSync = false;
      return this.#settled(this.#session.exec(bytes));
    }
    if (this.#skipToSync) return undefined;
    if (kind === "H") return this.#flushed();
    await this.#session.acquire(this);
    this.#inExchange = true;
    if (kind === "B") this.#bound = true;
    const answer = this.#session.exec(this.#renamed(kind, bytes));
    const kept = [];
    for (const [answered, part] of wire.messagesIn(answer)) {
      if (answered === "E") this.#skipToSync = true;
      if (answered === "Z") this.#status = String.fromCharCode(part[5]);
      else kept.push(part); // the only ReadyForQuery a client may see is the answer to its Sync
    }
    return Buffer.concat(kept);
  }

  /** Answers are sent at once, so there is nothing to flush. A client that only prepared a statement
   *  may take its time to use it (asyncpg does): the session is not kept for it. */
  #flushed() {
    if (this.#inExchange && !this.#bound && this.#status === "I") {
      this.#session.exec(wire.sync());
      this.#inExchange = false;
      this.#session.settle(this, false);
    }
    return undefined;
  }

  /** Statements live in the one session: each connection's names get its number. */
  #own(name) {
    return `c${this.id}_${name}`;
  }

  #renamed(kind, bytes) {
    if (kind === "P") {
      const name = this.#own(wire.text(bytes.subarray(5, bytes.indexOf(0, 5))));
      // The unnamed statement may be parsed again; under its new name it must be closed first.
      if (name === this.#own("") && this.statements.has(name)) this.#session.exec(wire.closeStatement(name));
      this.statements.add(name);
      const sql = wire.text(bytes.subarray(bytes.indexOf(0, 5) + 1, bytes.indexOf(0, bytes.indexOf(0, 5) + 1)));
      if (SESSION_SETTING.test(sql)) this.settings.push(sql.trim().replace(/;$/, ""));
      return wire.replaceString(bytes, 5, () => name);
    }
    if (kind === "B") return wire.replaceString(bytes, bytes.indexOf(0, 5) + 1, (name) => this.#own(name));
    if ((kind === "D" || kind === "C") && bytes[5] === "S".charCodeAt(0)) {
      if (kind === "C") this.statements.delete(this.#own(wire.text(bytes.subarray(6, -1))));
      return wire.replaceString(bytes, 6, (name) => this.#own(name));
    }
    return bytes;
  }

  #forgetStatements(names) {
    for (const name of names) {
      this.#session.exec(wire.closeStatement(name));
      this.statements.delete(name);
    }
    this.#session.exec(wire.sync());
  }

  /** Note the transaction's state from an answer, and pass the session on when it is idle. */
  #settled(answer) {
    for (const [kind, part] of wire.messagesIn(answer)) {
      if (kind === "Z") this.#status = String.fromCharCode(part[5]);
    }
    this.#session.settle(this, this.#open);
    return answer;
  }
}
