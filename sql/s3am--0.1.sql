\echo Use "CREATE EXTENSION s3am" to load this file. \quit

-- ---------------------------------------------------------------- the access method

CREATE FUNCTION s3am_handler(internal) RETURNS table_am_handler
    LANGUAGE C AS 'MODULE_PATHNAME';
CREATE ACCESS METHOD s3am TYPE TABLE HANDLER s3am_handler;
COMMENT ON ACCESS METHOD s3am IS 'tables in the repository of this database';

CREATE FUNCTION s3btree_handler(internal) RETURNS index_am_handler
    LANGUAGE C AS 'MODULE_PATHNAME';
CREATE ACCESS METHOD s3btree TYPE INDEX HANDLER s3btree_handler;
COMMENT ON ACCESS METHOD s3btree IS 'B-tree indexes of tables in the repository: what btree means there';

CREATE FUNCTION s3hash_handler(internal) RETURNS index_am_handler
    LANGUAGE C AS 'MODULE_PATHNAME';
CREATE ACCESS METHOD s3hash TYPE INDEX HANDLER s3hash_handler;
COMMENT ON ACCESS METHOD s3hash IS 'hash indexes of tables in the repository: what hash means there';

-- ---------------------------------------------------------------- local tables

CREATE TABLE storage (
    relfilenode oid PRIMARY KEY,
    storage int8 NOT NULL,
    table_id int8 NOT NULL,
    index_id oid
) USING heap;
CREATE INDEX storage_index ON storage (index_id);
CREATE INDEX storage_storage ON storage (storage);
COMMENT ON TABLE storage IS 'which storage in the repository a local file node stands for';

CREATE TABLE applied (
    epoch int8,
    seq int8,
    PRIMARY KEY (epoch, seq)
) USING heap;
COMMENT ON TABLE applied IS 'commits whose schema changes the local catalogs already have';

CREATE TABLE enum_label (
    label oid PRIMARY KEY,
    type oid NOT NULL,
    number int4 NOT NULL
) USING heap;
COMMENT ON TABLE enum_label IS 'numbers by which rows hold the labels of enum types that got labels after their creation';
CREATE TABLE sequences (
    seqrelid oid PRIMARY KEY,
    id int8 NOT NULL UNIQUE,
    epoch int8 NOT NULL,
    last_value int8 NOT NULL,
    is_called bool NOT NULL,
    generation int8 NOT NULL,
    descending bool NOT NULL,
    version int8 NOT NULL
) USING heap;
COMMENT ON TABLE sequences IS 'sequences in the repository: their id, the epoch that draws, how far it may have drawn, and since which version';

CREATE TABLE earlier (
    class_id oid,
    object_id oid,
    PRIMARY KEY (class_id, object_id)
) USING heap;
COMMENT ON TABLE earlier IS 'objects that were there before the extension: no other server has been told of them';

-- ---------------------------------------------------------------- functions

CREATE FUNCTION bind() RETURNS text
    LANGUAGE C STRICT AS 'MODULE_PATHNAME', 's3am_bind';
COMMENT ON FUNCTION bind() IS 'binds this database to the repository that s3am.repository names; returns its address';

CREATE FUNCTION node(OUT repository text, OUT phase text, OUT epoch int8, OUT version int8, OUT head int8,
                     OUT commits int8, OUT conflicts int8, OUT error text, OUT applied int8, OUT frozen int8,
                     OUT queued int8, OUT taken int8, OUT undelivered int8, OUT versions int8, OUT probes int8) RETURNS record
    LANGUAGE C AS 'MODULE_PATHNAME', 's3am_node';
COMMENT ON FUNCTION node() IS 'how far this server is: version is visible here, head is known to exist; what it has done since it started';

CREATE FUNCTION processes(OUT process text, OUT pid int4, OUT waits_for text, OUT commit_seq int8, OUT doomed bool) RETURNS SETOF record
    LANGUAGE C AS 'MODULE_PATHNAME', 's3am_processes';
COMMENT ON FUNCTION processes() IS 'workers of this database, and sessions that wait for something of s3am';

CREATE FUNCTION store_stats(OUT process text, OUT gets int8, OUT puts int8, OUT lists int8, OUT deletes int8, OUT retries int8,
                            OUT bytes_in int8, OUT bytes_out int8) RETURNS SETOF record
    LANGUAGE C AS 'MODULE_PATHNAME', 's3am_store_stats';
COMMENT ON FUNCTION store_stats() IS 'requests to the store and bytes moved since this server started';

CREATE FUNCTION cache_stats(OUT kind text, OUT frame int4, OUT pages int8, OUT pinned int8, OUT bytes int8, OUT room int8, OUT hits int8,
                            OUT misses int8, OUT evictions int8) RETURNS SETOF record
    LANGUAGE C AS 'MODULE_PATHNAME', 's3am_cache_stats';
COMMENT ON FUNCTION cache_stats() IS 'pages in shared memory by kind and size of frame, and how often they were found, since this server started';

CREATE FUNCTION store_request_stats(OUT process text, OUT request text, OUT requests int8, OUT errors int8, OUT bytes int8, OUT mean_ms float8,
                                    OUT p50_ms float8, OUT p99_ms float8, OUT latencies int8[], OUT since timestamptz) RETURNS SETOF record
    LANGUAGE C AS 'MODULE_PATHNAME', 's3am_store_request_stats';
COMMENT ON FUNCTION store_request_stats() IS
    'requests sent to the store, each try by itself, by kind of process and request; latencies counts answers by powers of two, from below 64 us';

CREATE FUNCTION store_reset() RETURNS void
    LANGUAGE C AS 'MODULE_PATHNAME', 's3am_store_reset';
COMMENT ON FUNCTION store_reset() IS 'lets the counters of requests to the store begin with 0 again';

CREATE FUNCTION read_manifests(newest int8 DEFAULT NULL, number int4 DEFAULT 50, OUT version int8, OUT author int8,
                               OUT "time" timestamptz, OUT steps int8, OUT transactions int8, OUT storages int8[], OUT rows_added int8,
                               OUT rows_removed int8, OUT ddl int8, OUT inline_bytes int8, OUT segments int8,
                               OUT abort_marks int8, OUT epochs int8, OUT bytes int8) RETURNS SETOF record
    LANGUAGE C AS 'MODULE_PATHNAME', 's3am_read_manifests';
COMMENT ON FUNCTION read_manifests(int8, int4) IS 'what manifests hold, newest first; reads them from the repository';

CREATE FUNCTION table_states(OUT storage int8, OUT table_id int8, OUT rows int8, OUT dead int8, OUT inline_rows int8,
                             OUT segments int8, OUT bytes int8, OUT dropped bool) RETURNS SETOF record
    LANGUAGE C AS 'MODULE_PATHNAME', 's3am_table_states';
COMMENT ON FUNCTION table_states() IS 'rows (dead ones included), segments and stored bytes of every storage';

CREATE FUNCTION batches(OUT storage int8, OUT table_id int8, OUT first_row int8, OUT rows int8, OUT version int8,
                        OUT object text, OUT bytes int8) RETURNS SETOF record
    LANGUAGE C AS 'MODULE_PATHNAME', 's3am_batches';
COMMENT ON FUNCTION batches() IS 'segments (object is set) and rows that travelled in a manifest';

CREATE FUNCTION commit_id() RETURNS text
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 's3am_commit_id';
COMMENT ON FUNCTION commit_id() IS 'id under which the current transaction will commit, for s3am.commit_status';

CREATE FUNCTION commit_status(id text, resolve bool DEFAULT false, OUT status text, OUT version int8) RETURNS record
    LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 's3am_commit_status';
COMMENT ON FUNCTION commit_status(text, bool) IS
    'what became of a transaction: committed (in version), aborted, undecided, too old; resolve makes sure of an answer by aborting what is undecided';
CREATE FUNCTION attach_status(OUT phase text, OUT version int8, OUT failed_version int8, OUT object text,
                              OUT reason text, OUT since timestamptz) RETURNS record
    LANGUAGE C AS 'MODULE_PATHNAME', 's3am_attach_status';
COMMENT ON FUNCTION attach_status() IS 'whether this server has all versions; if not, which it cannot apply, and why';

CREATE FUNCTION compaction_status(OUT phase text, OUT storage int8, OUT job_rows int8, OUT job_rows_done int8, OUT jobs int8,
                                  OUT batches_read int8, OUT batches_written int8, OUT rows_dropped int8, OUT bytes_read int8,
                                  OUT bytes_written int8, OUT lost_races int8, OUT unmerged_bytes int8, OUT failures int8,
                                  OUT failed_storage int8, OUT failed_at timestamptz, OUT error text) RETURNS record
    LANGUAGE C AS 'MODULE_PATHNAME', 's3am_compaction_status';
COMMENT ON FUNCTION compaction_status() IS 'what the compactor of this database does, has done since the server started, and could not do';

CREATE FUNCTION check_store(writers int4 DEFAULT 32, rounds int4 DEFAULT 5,
                            OUT create_if_absent bool, OUT compare_and_set bool, OUT read_after_write bool,
                            OUT list_after_write bool, OUT ranged_get bool, OUT detail text) RETURNS record
    LANGUAGE C AS 'MODULE_PATHNAME', 's3am_check_store';
COMMENT ON FUNCTION check_store(int4, int4) IS 'races concurrent writers for one key: may several servers share this store?';

CREATE FUNCTION collect(dry_run bool DEFAULT true, OUT object text, OUT reason text, OUT bytes int8) RETURNS SETOF record
    LANGUAGE C STRICT AS 'MODULE_PATHNAME', 's3am_collect';
COMMENT ON FUNCTION collect(bool) IS
    'objects of the repository that nobody needs any more; deletes them unless dry_run';

CREATE FUNCTION inspect(object text, page int8 DEFAULT NULL, OUT path text, OUT value text) RETURNS SETOF record
    LANGUAGE C AS 'MODULE_PATHNAME', 's3am_inspect';
COMMENT ON FUNCTION inspect(text, int8) IS 'what an object of the repository holds, as it is stored; with page, the rows of that page of a segment or manifest';

CREATE FUNCTION verify(OUT object text, OUT what text, OUT problem text, OUT objects int8, OUT bytes int8) RETURNS SETOF record
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 's3am_verify';
COMMENT ON FUNCTION verify() IS
    'reads the whole repository and checks every checksum and reference: a row for each problem, then one for each kind of object with its number and bytes';

CREATE FUNCTION recovery_scan(dry_run bool DEFAULT true, OUT object text, OUT bytes int8, OUT reason text, OUT removed bool) RETURNS SETOF record
    LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 's3am_recovery_scan';
COMMENT ON FUNCTION recovery_scan(bool) IS
    'objects that nothing refers to and whose makers are fenced, which crashed loads leave behind; removes them if dry_run is false';

CREATE FUNCTION check_index(index regclass, heapallindexed bool DEFAULT false) RETURNS void
    LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 's3am_check_index';
COMMENT ON FUNCTION check_index(regclass, bool) IS
    'fails if something is wrong with an index of an s3am table: the order of its runs, their inner pages, keys that are there twice, entries that are not what the rows say; heapallindexed: rows without an entry, too';

CREATE FUNCTION index_problems(index regclass, heapallindexed bool DEFAULT false, most int4 DEFAULT 100,
                               OUT object text, OUT problem text) RETURNS SETOF record
    LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 's3am_index_problems';
COMMENT ON FUNCTION index_problems(regclass, bool, int4) IS
    'what s3am.check_index() would fail with, a row for each problem, up to so many; none: the index is sound';

CREATE FUNCTION index_unusable(index regclass) RETURNS text
    LANGUAGE C VOLATILE STRICT AS 'MODULE_PATHNAME', 's3am_index_unusable';
COMMENT ON FUNCTION index_unusable(regclass) IS
    'why this server does not use an index of an s3am table: it is ordered by another version of a collation; NULL: it does use it';

-- whoever asks core's functions, psql's \dt+ and the view pg_sequences among them, is answered by these (src/stand_ins.c)
CREATE FUNCTION relation_size(relation regclass, fork text) RETURNS int8
    LANGUAGE C VOLATILE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 's3am_relation_size';
COMMENT ON FUNCTION relation_size(regclass, text) IS
    'pg_relation_size() that knows s3am tables and indexes: bytes stored in the repository, in whole blocks; all in the main fork';
CREATE FUNCTION relation_size(relation regclass) RETURNS int8
    LANGUAGE C VOLATILE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 's3am_relation_main_size';
COMMENT ON FUNCTION relation_size(regclass) IS 'the same for the main fork';
CREATE FUNCTION table_size(relation regclass) RETURNS int8
    LANGUAGE C VOLATILE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 's3am_table_size';
COMMENT ON FUNCTION table_size(regclass) IS 'pg_table_size() that knows s3am tables';
CREATE FUNCTION indexes_size(relation regclass) RETURNS int8
    LANGUAGE C VOLATILE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 's3am_indexes_size';
COMMENT ON FUNCTION indexes_size(regclass) IS 'pg_indexes_size() that knows indexes of s3am tables';
CREATE FUNCTION total_relation_size(relation regclass) RETURNS int8
    LANGUAGE C VOLATILE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 's3am_total_relation_size';
COMMENT ON FUNCTION total_relation_size(regclass) IS 'pg_total_relation_size() that knows s3am tables and their indexes';

CREATE FUNCTION sequence_last_value(sequence regclass) RETURNS int8
    LANGUAGE C VOLATILE STRICT PARALLEL SAFE AS 'MODULE_PATHNAME', 's3am_sequence_last_value';
COMMENT ON FUNCTION sequence_last_value(regclass) IS
    'pg_sequence_last_value() that does not count as drawing; of a sequence from which another server draws: how far that one may have drawn';

CREATE FUNCTION progress(OUT pid int4, OUT command text, OUT phase text, OUT objects int8, OUT objects_total int8, OUT bytes int8,
                         OUT bytes_total int8, OUT problems int8, OUT since timestamptz) RETURNS SETOF record
    LANGUAGE C VOLATILE AS 'MODULE_PATHNAME', 's3am_progress';
COMMENT ON FUNCTION progress() IS 'how far s3am.verify(), s3am.recovery_scan() and s3am.check_index() are; the totals are those of all objects when it began';

-- ---------------------------------------------------------------- views

CREATE VIEW tables AS
    SELECT c.oid::regclass AS "table", s.storage, coalesce(t.rows, 0) AS rows, coalesce(t.dead, 0) AS dead,
           coalesce(t.inline_rows, 0) AS inline_rows, coalesce(t.segments, 0) AS segments,
           coalesce(t.bytes, 0) AS bytes, coalesce(round(t.dead::numeric / nullif(t.rows, 0), 4), 0) AS dead_share
    FROM pg_class c
    JOIN storage s ON s.relfilenode = c.relfilenode
    JOIN pg_am a ON a.oid = c.relam AND a.amname = 's3am'
    LEFT JOIN table_states() t ON t.storage = s.storage;
COMMENT ON VIEW tables IS 's3am tables: rows (dead ones included), those still inline, segments, bytes stored, share of dead rows';

CREATE VIEW indexes AS
    SELECT c.oid::regclass AS "index", i.indrelid::regclass AS "table", s.storage, coalesce(t.rows, 0) AS entries,
           coalesce(t.inline_rows, 0) AS inline_entries, coalesce(t.segments, 0) AS segments, coalesce(t.bytes, 0) AS bytes,
           index_unusable(c.oid) AS unusable
    FROM pg_index i
    JOIN pg_class c ON c.oid = i.indexrelid
    JOIN storage s ON s.index_id = c.oid
    LEFT JOIN table_states() t ON t.storage = s.storage;
COMMENT ON VIEW indexes IS 'indexes of s3am tables: entries (those of dead rows included), those still inline, segments, bytes stored; why this server does not use it';

CREATE VIEW segments AS
    SELECT c.oid::regclass AS "table", b.first_row, b.rows, b.version, b.object, b.bytes
    FROM batches() b
    JOIN storage s ON s.storage = b.storage
    JOIN pg_class c ON c.relfilenode = s.relfilenode
    WHERE b.object IS NOT NULL;
COMMENT ON VIEW segments IS 'objects that hold rows of s3am tables';

CREATE VIEW manifests AS
    SELECT m.version, m.author, m."time", m.transactions,
           ARRAY(SELECT coalesce(c.oid::regclass::text, 'storage ' || i)
                 FROM unnest(m.storages) i
                 LEFT JOIN storage s ON s.storage = i
                 LEFT JOIN pg_class c ON c.relfilenode = s.relfilenode) AS tables,
           m.rows_added, m.rows_removed, m.ddl, m.inline_bytes, m.segments, m.bytes
    FROM read_manifests() m;
COMMENT ON VIEW manifests IS 'the newest 50 versions, one for each group of commits: what they changed, by which epoch, and their size';

CREATE VIEW activity AS
    SELECT p.process, p.pid, a.usename, p.waits_for, p.commit_seq, p.doomed, a.state, a.xact_start, a.query
    FROM processes() p
    LEFT JOIN pg_stat_activity a ON a.pid = p.pid;
COMMENT ON VIEW activity IS 'what the workers of this database do, and which sessions wait for what';
CREATE VIEW cache AS SELECT * FROM cache_stats();
COMMENT ON VIEW cache IS 'pages of all attached databases in shared memory, by kind and size of frame';
CREATE VIEW store_requests AS
    SELECT process, request, requests, errors, bytes, mean_ms, p50_ms, p99_ms, latencies,
           requests / 1000.0 * CASE request WHEN 'GET' THEN current_setting('s3am.price_get')::float8
                               WHEN 'DELETE' THEN 0 ELSE current_setting('s3am.price_put')::float8 END
           + CASE request WHEN 'GET' THEN bytes / 1e9 * current_setting('s3am.price_transfer')::float8 ELSE 0 END AS cost,
           since
    FROM store_request_stats();
COMMENT ON VIEW store_requests IS 'requests of this server to the store since it started or s3am.store_reset(): number, errors, bytes, latency, cost';

CREATE VIEW cost AS
    WITH r AS (
        SELECT 'requests: ' || request AS item, sum(requests)::float8 AS quantity, sum(cost) AS cost,
               sum(cost) * 2629800 / greatest(extract(epoch FROM now() - min(since)), 1)::float8 AS per_month
        FROM store_requests GROUP BY request
        UNION ALL
        SELECT 'storage: GB of tables', sum(bytes) / 1e9, NULL, sum(bytes) / 1e9 * current_setting('s3am.price_storage')::float8
        FROM table_states() WHERE NOT dropped)
    SELECT item, quantity, cost, per_month FROM r;
COMMENT ON VIEW cost IS 'what this server''s requests cost so far, and a month at this rate would, and storage, at the prices that s3am.price_... say';

CREATE VIEW progress AS SELECT * FROM progress();
COMMENT ON VIEW progress IS 'how far s3am.verify(), s3am.recovery_scan() and s3am.check_index() are';
CREATE VIEW attach_status AS SELECT * FROM attach_status();
COMMENT ON VIEW attach_status IS 'whether this server has all versions; if not, which it cannot apply, and why';
CREATE VIEW compaction AS
    SELECT c.phase, n.relation AS "table", c.job_rows, c.job_rows_done, c.jobs, c.batches_read, c.batches_written,
           c.rows_dropped, c.bytes_read, c.bytes_written, c.lost_races, c.unmerged_bytes, c.failures,
           f.relation AS failed_table, c.failed_at, c.error
    FROM compaction_status() c
    LEFT JOIN (SELECT s.storage, k.oid::regclass AS relation FROM storage s
               JOIN pg_class k ON k.relfilenode = s.relfilenode) n ON n.storage = c.storage
    LEFT JOIN (SELECT s.storage, k.oid::regclass AS relation FROM storage s
               JOIN pg_class k ON k.relfilenode = s.relfilenode) f ON f.storage = c.failed_storage;
COMMENT ON VIEW compaction IS 'merging of small batches and dropping of deleted rows: what it is doing, totals since the server started, the last failure';

REVOKE ALL ON ALL FUNCTIONS IN SCHEMA s3am FROM PUBLIC;
GRANT EXECUTE ON FUNCTION commit_id(), commit_status(text, bool), relation_size(regclass), relation_size(regclass, text), table_size(regclass),
    indexes_size(regclass), total_relation_size(regclass), sequence_last_value(regclass) TO PUBLIC;
GRANT USAGE ON SCHEMA s3am TO PUBLIC;
GRANT SELECT ON tables, indexes, segments, manifests, activity, cache, attach_status, compaction, progress, sequences, store_requests, cost TO pg_monitor;
GRANT EXECUTE ON FUNCTION node(), attach_status(), compaction_status(), table_states(), batches(), processes(), progress(), store_stats(),
    store_request_stats(), cache_stats(), read_manifests(int8, int4), index_unusable(regclass)
    TO pg_monitor;

-- What extensions brought is known by the extension's name elsewhere; tables are told by their access method.
INSERT INTO earlier
    SELECT class_id, object_id FROM (
        SELECT 'pg_namespace'::regclass::oid, oid FROM pg_namespace WHERE nspname !~ '^pg_(toast_)?temp_'
        UNION ALL SELECT 'pg_type'::regclass, oid FROM pg_type
        UNION ALL SELECT 'pg_proc'::regclass, oid FROM pg_proc
        UNION ALL SELECT 'pg_class'::regclass, oid FROM pg_class WHERE relkind IN ('v', 'c', 'S', 'f', 'p')
        UNION ALL SELECT 'pg_collation'::regclass, oid FROM pg_collation
        UNION ALL SELECT 'pg_conversion'::regclass, oid FROM pg_conversion
        UNION ALL SELECT 'pg_operator'::regclass, oid FROM pg_operator
        UNION ALL SELECT 'pg_opclass'::regclass, oid FROM pg_opclass
        UNION ALL SELECT 'pg_opfamily'::regclass, oid FROM pg_opfamily
        UNION ALL SELECT 'pg_am'::regclass, oid FROM pg_am
        UNION ALL SELECT 'pg_cast'::regclass, oid FROM pg_cast
        UNION ALL SELECT 'pg_transform'::regclass, oid FROM pg_transform
        UNION ALL SELECT 'pg_language'::regclass, oid FROM pg_language
        UNION ALL SELECT 'pg_ts_config'::regclass, oid FROM pg_ts_config
        UNION ALL SELECT 'pg_ts_dict'::regclass, oid FROM pg_ts_dict
        UNION ALL SELECT 'pg_ts_parser'::regclass, oid FROM pg_ts_parser
        UNION ALL SELECT 'pg_ts_template'::regclass, oid FROM pg_ts_template
        UNION ALL SELECT 'pg_foreign_data_wrapper'::regclass, oid FROM pg_foreign_data_wrapper
        UNION ALL SELECT 'pg_foreign_server'::regclass, oid FROM pg_foreign_server
        UNION ALL SELECT 'pg_event_trigger'::regclass, oid FROM pg_event_trigger
        UNION ALL SELECT 'pg_default_acl'::regclass, oid FROM pg_default_acl
    ) all_objects (class_id, object_id)
    WHERE object_id >= 16384 AND NOT EXISTS (
        SELECT FROM pg_depend d WHERE d.classid = class_id AND d.objid = object_id AND d.deptype = 'e');

SELECT bind();
