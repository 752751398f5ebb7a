-- A retry is looked for by merchant, time and event id: many events may have one merchant and time,
-- and a hash takes a quarter of the room of the id itself.
CREATE INDEX events_merchant_ts_id ON events (merchant_id, ts, hashtextextended(event_id, 0));
DROP INDEX events_merchant_ts;
