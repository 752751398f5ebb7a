// The one session of the embedded database, and whose turn it is. A client owns it from its first
// message until the database is ready for the next query outside a transaction.

import * as wire from "./protocol.mjs";

const IDLE_IN_TRANSACTION_MS = 60_000;

export class Session {
  #database;
  #owner = undefined;
  #waiting = [];
  #applied = "";
  #idle = undefined;

  constructor(database) {
    this.#database = database;
  }

  get free() {
    return this.#owner === undefined && this.#waiting.length === 0;
  }

  /** Resolves when `client` owns the session, its settings in force. */
  async acquire(client) {
    clearTimeout(this.#idle);
    if (this.#owner === client) return;
    if (this.#owner !== undefined) {
      await new Promise((resolve) => this.#waiting.push({ client, resolve }));
    }
    this.#owner = client;
    this.#applySettings(client);
  }

  /** After a message was answered: keep the session while a transaction is open, else pass it on. */
  settle(client, transactionOpen) {
    if (this.#owner !== client) return;
    if (transactionOpen) {
      this.#idle = setTimeout(() => this.#evict(client), IDLE_IN_TRANSACTION_MS);
      return;
    }
    this.#owner = undefined;
    const next = this.#waiting.shift();
    if (next) {
      this.#owner = next.client;
      next.resolve();
    }
  }

  /** A client has gone: roll back what it left open, forget its statements. */
  leave(client, transactionOpen) {
    this.#waiting = this.#waiting.filter((waiter) => waiter.client !== client);
    if (this.#owner === client) {
      clearTimeout(this.#idle);
      if (transactionOpen) this.run("ROLLBACK");
    }
    for (const name of client.statements) this.exec(wire.closeStatement(name));
    if (client.statements.size > 0) this.exec(wire.sync());
    this.settle(client, false);
  }

  /** One message to the database, its whole answer back. */
  exec(message) {
    return Buffer.from(this.#database.execProtocolRawSync(message));
  }

  /** A statement of our own; its error, if any, as text. */
  run(sql) {
    for (const [kind, bytes] of wire.messagesIn(this.exec(wire.query(sql)))) {
      if (kind === "E") return wire.text(bytes.subarray(5)).split("\0").find((f) => f[0] === "M")?.slice(1);
    }
    return undefined;
  }

  async copyIn(statement, blob) {
    await this.#database._handleBlob(blob);
    try {
      return this.exec(wire.query(statement));
    } finally {
      await this.#database._cleanupBlob();
    }
  }

  async copyOut(statement) {
    const answer = this.exec(wire.query(statement));
    const blob = await this.#database._getWrittenBlob();
    return { answer, bytes: blob ? Buffer.from(await blob.arrayBuffer()) : Buffer.alloc(0) };
  }

  /** Forget whose settings are in force, so that the next owner's are applied afresh. */
  forgetSettings() {
    this.#applied = undefined;
  }

  #applySettings(client) {
    const wanted = client.settings.join(";\n");
    if (wanted === this.#applied) return;
    // RESET ALL takes away the search path that PGlite sets at its start.
    this.run("RESET ALL");
    this.run('SET search_path TO "$user", public');
    for (const statement of client.settings) this.run(statement);
    this.#applied = wanted;
  }

  #evict(client) {
    if (this.#waiting.length === 0) {
      this.#idle = setTimeout(() => this.#evict(client), IDLE_IN_TRANSACTION_MS);
      return;
    }
    client.end(wire.errorResponse("25P03", "terminating connection due to idle-in-transaction timeout: others wait for the one session", "FATAL"));
  }
}
