-- What a merchant lets public keys send, which stand in its pages for everybody to use.
ALTER TABLE merchant ADD COLUMN public_orders BOOLEAN DEFAULT true NOT NULL;
ALTER TABLE merchant ADD COLUMN public_value_limit BIGINT DEFAULT 10000000 NOT NULL
    CONSTRAINT merchant_public_value_limit CHECK (public_value_limit BETWEEN 0 AND 1000000000);
