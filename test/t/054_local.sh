#!/bin/bash
# What stays on a server, and what is refused because it would have to.
. "$(dirname "$0")/../lib/tap.sh"
. "$(dirname "$0")/../ddl/schema.sh"

there() { sql -c "SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'public' AND c.relname IN ($1) AND c.relkind <> 'i'"; }

node one
cluster_psql "$dir" -d postgres -c 'CREATE ROLE somebody' -c 'CREATE DATABASE other'
sql -c 'CREATE EXTENSION s3am' || exit 1
sql <<'SQL' || exit 1
CREATE TABLE travels (a int, b text) USING s3am;
CREATE TABLE heap (id serial PRIMARY KEY, a int) USING heap;
SQL
before=$(version)
sql > /dev/null <<'SQL' || exit 1
CREATE TABLE heap2 (id int GENERATED ALWAYS AS IDENTITY, h int REFERENCES heap) USING heap;
CREATE UNLOGGED TABLE fast (a int);
CREATE INDEX ON heap (a);
CREATE VIEW on_heap AS SELECT a FROM heap;
CREATE VIEW on_view AS SELECT a FROM on_heap;
CREATE VIEW mixed AS SELECT h.a FROM heap h JOIN travels t ON t.a = h.a;
CREATE MATERIALIZED VIEW mat USING heap AS SELECT a FROM travels;
CREATE FUNCTION of_heap(heap) RETURNS int LANGUAGE sql AS 'SELECT 1';
CREATE DOMAIN dom AS heap;
CREATE TYPE comp AS (h heap, i int);
CREATE STATISTICS stats ON id, a FROM heap;
COMMENT ON TABLE heap IS 'here';
COMMENT ON VIEW on_heap IS 'here';
GRANT SELECT ON heap, on_heap TO somebody;
ALTER TABLE heap ADD COLUMN c int;
ALTER TABLE heap RENAME c TO d;
ALTER TABLE heap ALTER d TYPE text;
CREATE TEMP TABLE rewritten (a int);
ALTER TABLE rewritten ALTER a TYPE text;
ALTER TABLE heap ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON heap USING (true);
CREATE RULE r AS ON DELETE TO heap DO ALSO SELECT 1;
REFRESH MATERIALIZED VIEW mat;
TRUNCATE heap CASCADE;
CREATE TABLE IF NOT EXISTS heap (x int);
DROP TABLE IF EXISTS nowhere;
CREATE TEMP TABLE passing (a int);
SELECT nextval('heap_id_seq');
CREATE SUBSCRIPTION sub CONNECTION 'host=nowhere' PUBLICATION p WITH (connect = false);
ALTER SUBSCRIPTION sub SET (slot_name = NONE);
DROP SUBSCRIPTION sub;
SELECT lo_create(4711);
COMMENT ON LARGE OBJECT 4711 IS 'here';
COMMENT ON ROLE somebody IS 'here';
ALTER ROLE somebody SET work_mem = '5MB';
SQL
is "$(version)" "$before" "what is local makes no version"

refused() { fails_like 0A000 "$2" "$1" "refused: $3"; }
refused 'CREATE TABLE bad (h heap) USING s3am' 'which stays on this server' "a column of a heap table's type"
refused 'CREATE TABLE bad (d dom) USING s3am' 'which stays on this server' "a column of a local domain"
refused "CREATE TABLE bad (a int DEFAULT nextval('heap_id_seq')) USING s3am" 'which stays on this server' "a default from a local sequence"
refused 'CREATE MATERIALIZED VIEW bad USING s3am AS SELECT a FROM heap' 'which stays on this server' "a materialized view of a heap table"
refused 'CREATE RULE bad AS ON INSERT TO travels DO ALSO INSERT INTO heap (a) VALUES (new.a)' 'which stays on this server' "a rule that needs a heap table"
refused 'CREATE POLICY bad ON travels USING (EXISTS (SELECT FROM heap))' 'which stays on this server' "a policy that needs a heap table"
refused 'CREATE TABLE bad (a int REFERENCES heap) USING s3am' 'would join an s3am table' "a foreign key to a heap table"
refused 'CREATE TABLE bad () INHERITS (heap) USING s3am' 'must all be s3am tables' "a child of a heap table"
refused 'CREATE TABLE bad () INHERITS (travels) USING heap' 'must all be s3am tables' "a heap table as a child"
sql -c 'CREATE VIEW shared AS SELECT a FROM travels' -c 'CREATE TABLE tree (a int) PARTITION BY LIST (a)' \
	-c 'CREATE TABLE tree1 PARTITION OF tree FOR VALUES IN (1) USING s3am'
refused 'CREATE TABLE tree2 PARTITION OF tree FOR VALUES IN (2) USING heap' 'must all be s3am tables' "a heap leaf in a tree with s3am leaves"
refused 'CREATE OR REPLACE VIEW shared AS SELECT a FROM heap' 'would need an object that stays' "a travelling view that would become local"
refused 'ALTER SEQUENCE heap_id_seq OWNED BY NONE' 'stays on this server' "a local sequence that would not be local any more"
refused 'CREATE TEMP TABLE bad (a int) USING s3am' 'cannot be temporary' "a temporary s3am table"
refused 'CREATE INDEX ON travels USING brin (a)' 'cannot have indexes of access method' "an index that is no B-tree"
refused 'CREATE PUBLICATION bad FOR TABLE travels' 'cannot be published' "a publication"
like "$(sql -c 'CREATE PUBLICATION everything FOR ALL TABLES' 2>&1)" 'does not publish s3am tables' "a warning for all tables"
said=$(cluster_psql "$dir" -d other -v VERBOSITY=verbose -c 'CREATE DATABASE copy TEMPLATE test' 2>&1)
like "$said" '0A000: .*cannot be a template' "refused: a bound database as a template"
refused "CREATE RULE \"_RETURN\" AS ON SELECT TO travels DO INSTEAD SELECT 1 AS a" 'cannot become a view' "a rule that makes a view of a table"
fails_like 2BP01 'belongs to extension s3am' 'DROP SCHEMA s3am CASCADE' "refused: the extension's schema"
fails_like 2BP01 'cannot leave the repository' 'ALTER TABLE travels SET ACCESS METHOD heap' "refused: to leave while a view needs it"
# as with any ALTER TABLE, after the lock, lest somebody makes such a view meanwhile
sql -c 'BEGIN' -c 'LOCK TABLE travels IN ACCESS SHARE MODE' -c 'SELECT pg_sleep(60)' > /dev/null 2>&1 &
holder=$!
is_locked() { [ "$(sql -c "SELECT count(*) FROM pg_locks WHERE relation = 'travels'::regclass AND mode = 'AccessShareLock' AND granted AND pid IN (SELECT pid FROM pg_stat_activity WHERE query ~ 'pg_sleep' AND pid <> pg_backend_pid())")" = 1 ]; }
eventually 10 is_locked
fails_like 55P03 'lock timeout' "SET lock_timeout = '300ms'; ALTER TABLE travels SET ACCESS METHOD heap" "it waits for those who use the table first"
sql -c "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query ~ 'pg_sleep' AND pid <> pg_backend_pid()" > /dev/null
wait "$holder"

# mixed statements
sql > /dev/null 2> "$work/errors" <<'SQL'
CREATE TABLE a (i int) USING s3am;
CREATE TABLE b (i int) USING heap;
CREATE TABLE like_heap (LIKE heap INCLUDING ALL EXCLUDING INDEXES EXCLUDING DEFAULTS, more int CHECK (more > 0)) USING s3am;
GRANT SELECT ON a, b TO somebody;
GRANT INSERT ON ALL TABLES IN SCHEMA public TO somebody;
CREATE TABLE from_heap USING s3am AS SELECT id, a FROM heap;
CREATE TABLE a2 (i int) USING s3am;
DROP TABLE b, a2;
-- comes to the repository with all that belongs to it
CREATE TABLE comes (x int, id serial, gone int, n numeric(8,2) DEFAULT 1.5 NOT NULL, k int GENERATED BY DEFAULT AS IDENTITY, g int GENERATED ALWAYS AS (x * 2) STORED,
    CONSTRAINT positive CHECK (x > 0)) USING heap;
ALTER TABLE comes DROP COLUMN gone;
COMMENT ON TABLE comes IS 'it comes';
COMMENT ON COLUMN comes.n IS 'a number';
CREATE FUNCTION trg() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN new; END';
CREATE TRIGGER t BEFORE INSERT ON comes FOR EACH ROW EXECUTE FUNCTION trg();
ALTER TABLE comes DISABLE TRIGGER t;
CREATE POLICY p ON comes TO somebody USING (x > 1) WITH CHECK (x < 100);
ALTER TABLE comes ENABLE ROW LEVEL SECURITY;
CREATE STATISTICS comes_stats ON x, n FROM comes;
GRANT SELECT ON comes TO somebody WITH GRANT OPTION;
GRANT UPDATE (n) ON comes TO PUBLIC;
ALTER TABLE comes ALTER n SET STATISTICS 33, REPLICA IDENTITY FULL;
INSERT INTO comes (x) SELECT generate_series(1, 20);
ALTER TABLE comes SET ACCESS METHOD s3am;
INSERT INTO comes (x) VALUES (21);
-- goes
CREATE TABLE goes (x int, s serial) USING s3am;
INSERT INTO goes VALUES (1);
ALTER TABLE goes SET ACCESS METHOD heap;
-- moves about
CREATE TABLE moves (x int) USING s3am;
INSERT INTO moves VALUES (1);
ALTER TABLE moves SET ACCESS METHOD heap;
INSERT INTO moves VALUES (2);
ALTER TABLE moves SET ACCESS METHOD s3am;
SQL
is "$(cat "$work/errors")" "" "mixed statements"
is "$(sql -c 'SELECT count(*), max(id), max(k) FROM comes' -c 'SELECT count(*) FROM goes' -c 'SELECT count(*) FROM moves' | tr '\n' ' ')" "21|21|21 1 2 " "rows moved with their tables"
schema_data > "$work/one.data"
tables='-t comes -t travels -t shared -t tree -t tree1 -t a -t like_heap -t from_heap -t comes_id_seq -t comes_k_seq'
# shellcheck disable=SC2086
schema_dump $tables > "$work/one.dump"
schema_columns | grep -E '^(comes|travels|tree1|a|like_heap|from_heap|moves|shared) ' > "$work/one.columns"

node two
cluster_psql "$dir" -d postgres -c 'CREATE ROLE somebody'
sql -c 'CREATE EXTENSION s3am' || exit 1
sql -c 'CREATE TABLE local_here (a int) USING heap' || exit 1
is "$(there "'heap', 'heap2', 'fast', 'on_heap', 'on_view', 'mixed', 'mat', 'comp', 'goes', 'goes_s_seq', 'heap_id_seq', 'b', 'a2'")" 0 "nothing local is there"
is "$(there "'travels', 'shared', 'tree', 'tree1', 'a', 'like_heap', 'from_heap', 'comes', 'comes_id_seq', 'moves'")" 10 "all that travels is"
# shellcheck disable=SC2086
schema_dump $tables > "$work/two.dump"
schema_columns | grep -E '^(comes|travels|tree1|a|like_heap|from_heap|moves|shared) ' > "$work/two.columns"
schema_data > "$work/two.data"
same_file "$work/two.dump" "$work/one.dump" "definitions"
same_file "$work/two.columns" "$work/one.columns" "columns"
same_file "$work/two.data" "$work/one.data" "rows"

# names that core chose where this server has one of its own
sql -c 'CREATE TABLE t2_s_seq (a int) USING heap'
on one
sql -c 'CREATE TABLE t2 (s serial) USING s3am' -c 'GRANT DELETE ON ALL TABLES IN SCHEMA public TO somebody'
on two
stuck() { [ "$(sql -c 'SELECT reason FROM s3am.attach_status')" != '' ]; }
eventually 3 stuck
like "$(sql -c 'SELECT reason FROM s3am.attach_status')" 't2_s_seq' "a name that is taken here: this server says so"
sql -c 'DROP TABLE t2_s_seq' 2> /dev/null
follow one two
ok $? "and goes on once it is free"
is "$(sql -c 'SELECT count(*) FROM s3am.attach_status WHERE reason IS NULL')" 1 "without a reason left"
is "$(sql -c "SELECT has_table_privilege('somebody', 'local_here', 'DELETE'), has_table_privilege('somebody', 'travels', 'DELETE')")" "f|t" \
	"GRANT ON ALL TABLES does not touch what this server has of its own"

# DROP OWNED takes nothing along that one server alone has
sql -c 'ALTER TABLE local_here OWNER TO somebody'
on one
sql -c 'DROP OWNED BY somebody'
follow one two
ok $? "DROP OWNED is followed where the role owns something local"
is "$(sql -c "SELECT relowner::regrole FROM pg_class WHERE relname = 'local_here'")" somebody "which stays"
sql -c 'ALTER TABLE local_here OWNER TO postgres'

# a role that is missing
on one
cluster_psql "$dir" -d postgres -c 'CREATE ROLE unknown'
sql -c 'GRANT SELECT ON travels TO unknown'
on two
eventually 3 stuck
like "$(sql -c 'SELECT reason FROM s3am.attach_status')" 'role "unknown" does not exist' "a role that is missing here"
is "$(sql -c 'SELECT count(*) FROM travels')" 0 "reading goes on"
cluster_psql "$dir" -d postgres -c 'CREATE ROLE unknown'
follow one two
ok $? "it goes on once the role is there"
[ "$(grep -c 'role "unknown" does not exist' "$dir/log")" -le 2 ]
ok $? "the log says it once"

node three
sql -c 'CREATE EXTENSION s3am' || exit 1
says_why() { said=$(sql -v VERBOSITY=verbose -c "SET s3am.attach_timeout = '1s'" -c 'SELECT 1' 2>&1); [[ $said == *somebody* ]]; }
eventually 10 says_why
like "$said" '57P03.*role "somebody" does not exist' "a server that cannot attach says why"
like "$(sql -c 'SELECT phase, reason FROM s3am.attach_status')" 'attaching.*role "somebody"' "in the view, too"
cluster_psql "$dir" -d postgres -c 'CREATE ROLE somebody' -c 'CREATE ROLE unknown'
is "$(sql -c 'SELECT count(*) FROM comes')" 21 "and attaches once that is there"
done_testing
