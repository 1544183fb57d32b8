-- A schema with all that a dump has to do with keys and indexes, and rows for it.
CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy');
CREATE DOMAIN cents AS numeric(12, 2) CHECK (VALUE >= 0);
CREATE TYPE pair AS (a int, b text);
CREATE COLLATION digits (provider = icu, locale = 'en-u-kn-true');
CREATE SEQUENCE numbers START 1000 INCREMENT 5;

CREATE TABLE customer (
	id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
	mail text UNIQUE NOT NULL,
	number int UNIQUE DEFERRABLE INITIALLY DEFERRED DEFAULT nextval('numbers'),
	mood mood NOT NULL DEFAULT 'ok',
	parent bigint REFERENCES customer DEFERRABLE,
	dropped int,
	data jsonb,
	place text,
	UNIQUE NULLS NOT DISTINCT (place, mood, id)
);
ALTER TABLE customer DROP COLUMN dropped;
ALTER TABLE customer ADD COLUMN since date NOT NULL DEFAULT '2020-02-02';
COMMENT ON CONSTRAINT customer_mail_key ON customer IS 'who it is';
CREATE INDEX customer_lower ON customer (lower(mail) text_pattern_ops, mood DESC NULLS LAST) INCLUDE (number) WHERE mood > 'sad';
CREATE UNIQUE INDEX customer_place ON customer (place COLLATE "C", (data ->> 'n')) WHERE place IS NOT NULL;
CREATE INDEX customer_digits ON customer (place COLLATE digits) WITH (fillfactor = 80);
COMMENT ON INDEX customer_lower IS 'by mail';
ALTER INDEX customer_lower ALTER COLUMN 1 SET STATISTICS 500;
CREATE STATISTICS customer_both ON mood, place FROM customer;
CREATE INDEX customer_pair ON customer ((ROW(number, mail)::pair));
CREATE TABLE purchase (
	customer bigint NOT NULL REFERENCES customer ON DELETE CASCADE,
	n int,
	price cents NOT NULL,
	gross numeric GENERATED ALWAYS AS (price * 1.19) STORED,
	at timestamptz,
	PRIMARY KEY (customer, n) INCLUDE (price),
	CHECK (n > 0)
);
CREATE TABLE part (
	customer bigint,
	n int,
	part int,
	what text,
	id serial,
	PRIMARY KEY (part, id),
	FOREIGN KEY (customer, n) REFERENCES purchase ON UPDATE CASCADE ON DELETE SET NULL (n)
);
ALTER TABLE purchase CLUSTER ON purchase_pkey;
ALTER TABLE part REPLICA IDENTITY USING INDEX part_pkey;
CREATE UNIQUE INDEX part_what ON part (what, part) NULLS NOT DISTINCT;
ALTER TABLE part ADD CONSTRAINT part_what_key UNIQUE USING INDEX part_what DEFERRABLE;

-- partitions, of which one was attached with an index of its own, below them others, and references to and from them
CREATE TABLE event (id bigint, day date NOT NULL, kind mood NOT NULL, customer bigint REFERENCES customer, body text,
	PRIMARY KEY (day, kind, id)) PARTITION BY RANGE (day);
CREATE TABLE event_1 PARTITION OF event FOR VALUES FROM ('2020-01-01') TO ('2020-02-01');
CREATE TABLE event_2 PARTITION OF event FOR VALUES FROM ('2020-02-01') TO ('2020-03-01') PARTITION BY LIST (kind);
CREATE TABLE event_2_sad PARTITION OF event_2 FOR VALUES IN ('sad');
CREATE TABLE event_2_rest PARTITION OF event_2 DEFAULT PARTITION BY HASH (id);
CREATE TABLE event_2_rest_0 PARTITION OF event_2_rest FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE event_2_rest_1 PARTITION OF event_2_rest FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE event_3 (body text, customer bigint, kind mood NOT NULL, id bigint NOT NULL, day date NOT NULL, PRIMARY KEY (day, kind, id));
CREATE INDEX event_3_own ON event_3 (body);
ALTER TABLE event ATTACH PARTITION event_3 FOR VALUES FROM ('2020-03-01') TO ('2020-04-01');
CREATE TABLE event_rest PARTITION OF event DEFAULT;
CREATE INDEX event_body ON event (body, day DESC);
CREATE INDEX event_only ON ONLY event (customer);
CREATE INDEX event_1_only ON event_1 (customer);
ALTER INDEX event_only ATTACH PARTITION event_1_only;
CREATE TABLE note (day date, kind mood, event bigint, body text, FOREIGN KEY (day, kind, event) REFERENCES event ON DELETE CASCADE);
CREATE TABLE base (i int PRIMARY KEY, t text);
CREATE TABLE derived (d int UNIQUE) INHERITS (base);
CREATE INDEX derived_t ON derived (t);

CREATE MATERIALIZED VIEW sales AS SELECT customer, count(*) AS n, sum(price) AS price FROM purchase GROUP BY 1;
CREATE UNIQUE INDEX sales_customer ON sales (customer);
CREATE INDEX sales_price ON sales (price DESC);
CREATE MATERIALIZED VIEW empty AS SELECT * FROM sales WITH NO DATA;
CREATE INDEX empty_n ON empty (n);
CREATE VIEW by_mail AS SELECT id, mail FROM customer GROUP BY id;
CREATE FUNCTION noted() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN new.body := coalesce(new.body, '') || '!'; RETURN new; END$$;
CREATE TRIGGER noted BEFORE INSERT ON note FOR EACH ROW EXECUTE FUNCTION noted();
CREATE POLICY own ON customer USING (mail = current_user);

INSERT INTO customer (mail, mood, parent, data, place)
	SELECT 'name' || g || '@example.org', (enum_range(NULL::mood))[1 + g % 3], nullif(g / 10, 0), jsonb_build_object('n', g, 'x', repeat('y', g)),
		CASE WHEN g % 4 > 0 THEN 'place ' || g % 50 || E'\t\\N\n"' END FROM generate_series(1, 2000) g;
INSERT INTO purchase (customer, n, price, at) SELECT c, n, c * n / 7.0, '2020-01-01'::timestamptz + c * interval '1 hour' FROM generate_series(1, 2000) c, generate_series(1, 3) n WHERE c % 5 > 0;
INSERT INTO part (customer, n, part, what) SELECT customer, n, p, CASE WHEN p = 2 THEN 'what ' || customer || ' ' || n END FROM purchase, generate_series(1, 2) p WHERE customer % 3 = 0 AND p = 2;
INSERT INTO event SELECT g, '2020-01-01'::date + g % 110, (enum_range(NULL::mood))[1 + g % 3], nullif(g % 100, 0), md5(g::text) FROM generate_series(1, 3000) g;
INSERT INTO note SELECT day, kind, id, 'note ' || id FROM event WHERE id % 7 = 0;
INSERT INTO base SELECT g, 'base ' || g FROM generate_series(1, 100) g;
INSERT INTO derived SELECT g, 'derived ' || g, -g FROM generate_series(1, 100) g;
DELETE FROM customer WHERE id % 400 = 399 AND id NOT IN (SELECT parent FROM customer WHERE parent IS NOT NULL) AND id NOT IN (SELECT customer FROM event WHERE customer IS NOT NULL);
UPDATE purchase SET n = n + 10 WHERE customer % 50 = 1;
REFRESH MATERIALIZED VIEW sales;
ALTER TABLE note ADD CONSTRAINT note_late FOREIGN KEY (event) REFERENCES base NOT VALID;
ALTER TABLE part ADD CONSTRAINT part_positive CHECK (part > 0) NOT VALID;
