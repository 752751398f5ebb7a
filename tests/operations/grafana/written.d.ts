import type { Dashboard } from "@grafana/schema";

/** A type as JSON writes it: an enumeration's member is its value. */
type AsJson<T> = unknown extends T
  ? T
  : T extends string
    ? `${T}`
    : T extends (infer Each)[]
      ? AsJson<Each>[]
      : T extends object
        ? { [Key in keyof T]: AsJson<T[Key]> }
        : T;

export type Written = AsJson<Dashboard>;
