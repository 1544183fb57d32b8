#!/bin/bash
# Definitions of indexes and keys travel as written; on every server the indexes are s3btree's and s3hash's, and all say btree and hash.
. "$(dirname "$0")/../lib/tap.sh"

node one "autovacuum = off" "default_table_access_method = s3am"
sql -c 'CREATE EXTENSION s3am' || exit 1
node two "autovacuum = off"
sql -c 'CREATE EXTENSION s3am' || exit 1

defined() {
	sql -c "SELECT c.relname, a.amname, pg_get_indexdef(c.oid), indisvalid, indisprimary, indisunique, indimmediate, indisclustered,
				indisreplident, obj_description(c.oid), array(SELECT attstattarget FROM pg_attribute WHERE attrelid = c.oid ORDER BY attnum)
			FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
			WHERE c.relnamespace = 'public'::regnamespace AND indrelid <> ALL (array(SELECT oid FROM pg_class WHERE relname = 'plain'))
			ORDER BY 1" \
		-c "SELECT conrelid::regclass, conname, pg_get_constraintdef(oid), obj_description(oid) FROM pg_constraint
			WHERE connamespace = 'public'::regnamespace AND conrelid::regclass::text <> 'plain' ORDER BY 1, 2" \
		-c "SELECT inhrelid::regclass, inhparent::regclass FROM pg_inherits ORDER BY inhrelid::regclass::text"
}
same() {
	on one
	local wanted
	wanted=$(defined)
	follow one two 20
	is "$(defined)" "$wanted" "$1" || diag "$(sql -c 'SELECT object, reason FROM s3am.attach_status')"
}

on one
sql <<'SQL'
CREATE TABLE t (a int PRIMARY KEY, b text UNIQUE DEFERRABLE INITIALLY DEFERRED, c int, d text);
CREATE INDEX ON t (c DESC NULLS LAST, lower(b) text_pattern_ops) INCLUDE (d) WHERE c > 0;
CREATE INDEX t_own ON t USING s3btree (d COLLATE "C");
CREATE INDEX t_hash ON t USING hash (lower(d)) WHERE c > 0;
ALTER TABLE t ADD CONSTRAINT t_excl EXCLUDE USING hash (c WITH =) WHERE (c > 10) DEFERRABLE, ADD EXCLUDE (c WITH =, d WITH =);
CREATE UNIQUE INDEX CONCURRENTLY t_conc ON t (c, a) NULLS NOT DISTINCT;
COMMENT ON INDEX t_own IS 'by its own name';
COMMENT ON CONSTRAINT t_pkey ON t IS 'a key';
CREATE TABLE child (a int REFERENCES t);
CREATE TABLE alike (LIKE t INCLUDING ALL);
CREATE MATERIALIZED VIEW mv AS SELECT a, b FROM t;
CREATE UNIQUE INDEX mv_a ON mv (a);
SQL
same "keys, indexes, LIKE, a materialized view"
is "$(sql -c "SELECT string_agg(DISTINCT amname, ' ') FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
	WHERE i.indrelid IN ('t'::regclass, 'alike'::regclass, 'mv'::regclass)")" "s3btree s3hash" "s3am's on the other server, too"
on one
sql <<'SQL'
CREATE TABLE p (a int NOT NULL, b text) PARTITION BY RANGE (a);
CREATE TABLE p1 PARTITION OF p FOR VALUES FROM (0) TO (10);
CREATE TABLE p2 (a int PRIMARY KEY, b text);
CREATE INDEX p1_b ON p1 (b);
CREATE INDEX p1_hash ON p1 USING hash (b);
CREATE INDEX p_hash ON p USING hash (b);
CREATE INDEX p_b ON p (b);
ALTER TABLE p ATTACH PARTITION p2 FOR VALUES FROM (10) TO (20);
ALTER TABLE p ADD PRIMARY KEY (a);
CREATE TABLE p3 PARTITION OF p FOR VALUES FROM (20) TO (30);
CREATE INDEX p_ab ON ONLY p (a, b);
CREATE INDEX p1_ab ON p1 (a, b);
ALTER INDEX p_ab ATTACH PARTITION p1_ab;
SQL
same "partitions take the indexes that they have"
on one
sql <<'SQL'
ALTER TABLE alike ALTER b TYPE varchar(20), ALTER a TYPE bigint;
ALTER TABLE alike DROP CONSTRAINT alike_pkey;
CREATE UNIQUE INDEX alike_new ON alike (a);
ALTER TABLE alike ADD CONSTRAINT alike_key PRIMARY KEY USING INDEX alike_new, ALTER a TYPE numeric;
ALTER INDEX t_own RENAME TO t_renamed;
ALTER INDEX t_renamed SET (fillfactor = 50);
ALTER TABLE t REPLICA IDENTITY USING INDEX t_pkey;
DROP INDEX CONCURRENTLY t_conc;
BEGIN;
CREATE INDEX t_gone ON t (b);
SAVEPOINT s;
CREATE INDEX t_gone_too ON t (b);
ROLLBACK TO s;
CREATE INDEX t_kept ON t (b);
DROP INDEX t_gone;
COMMIT;
SQL
same "changes of types, keys from indexes, names, options, what was rolled back"
on one
sql <<'SQL'
CREATE TABLE comes (a int, b text, c int, CONSTRAINT "Its Key" PRIMARY KEY (a) WITH (fillfactor = 60), UNIQUE (b) DEFERRABLE) USING heap;
CREATE INDEX comes_b ON comes (b, (a + c)) WITH (fillfactor = 70);
CREATE INDEX comes_some ON comes (b) WHERE a > 0;
CREATE INDEX comes_hash ON comes USING hash (b);
ALTER TABLE comes ADD CONSTRAINT comes_excl EXCLUDE USING hash (b WITH =) DEFERRABLE;
ALTER INDEX comes_b ALTER COLUMN 2 SET STATISTICS 700;
ALTER TABLE comes CLUSTER ON comes_b;
ALTER TABLE comes ADD CONSTRAINT comes_self FOREIGN KEY (c) REFERENCES comes (a) ON DELETE SET NULL;
ALTER TABLE comes REPLICA IDENTITY USING INDEX "Its Key";
COMMENT ON CONSTRAINT "Its Key" ON comes IS 'a key';
COMMENT ON INDEX comes_b IS 'an index';
ALTER TABLE comes SET ACCESS METHOD s3am;
CREATE TABLE plain (a int PRIMARY KEY, b int) USING heap;
CREATE INDEX plain_b ON plain (b);
CREATE TABLE likes (LIKE plain INCLUDING ALL) USING s3am;
CREATE TABLE child_of_p (a int NOT NULL, b text, CONSTRAINT own_name PRIMARY KEY (a)) USING heap;
CREATE INDEX own_index ON child_of_p (b);
ALTER TABLE child_of_p SET ACCESS METHOD s3am;
ALTER TABLE p ATTACH PARTITION child_of_p FOR VALUES FROM (30) TO (40);
SQL
same "tables that come from heap, or are made like one"
on one
before=$(defined)
node three "autovacuum = off"
sql -c 'CREATE EXTENSION s3am' || exit 1
follow one three 20
is "$(defined)" "$before" "a server that comes later has all of it"
done_testing
