"""Random statements.  What a statement says depends on the seed and on what was answered before, never on the side.

Rows have a unique id, so that an answer does not depend on the order in which an access method finds rows; statements whose
effect would depend on it (which of two rows a join takes first, in which order rows are locked while somebody waits) are
not made.
"""
import random

from keys import Keys
from statement import Statement

TYPES = ["integer", "bigint", "text", "numeric(12,2)", "boolean", "date", "timestamptz", "jsonb", "bytea", "integer[]",
         "uuid", "double precision", "varchar(40)", "mood", "positive", "pair", "mood[]", "int4range"]

# What every round begins with: types of the database's own, functions for triggers, a partitioned table.
SETUP = [
    "CREATE TYPE mood AS ENUM ('sad', 'ok', 'happy')",
    "CREATE DOMAIN positive AS integer CHECK (VALUE > 0)",
    "CREATE TYPE pair AS (a integer, b text)",
    "CREATE TABLE audited (id bigint, n bigint, op text)",
    "CREATE FUNCTION audit_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    " IF TG_OP = 'DELETE' THEN INSERT INTO audited VALUES (OLD.id, OLD.n, 'DELETE');"
    " ELSIF TG_OP = 'UPDATE' THEN INSERT INTO audited VALUES (OLD.id, NEW.n::bigint - OLD.n, 'UPDATE');"
    " ELSE INSERT INTO audited VALUES (NEW.id, NEW.n, 'INSERT'); END IF; RETURN NULL; END $$",
    "CREATE FUNCTION audit_all() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    " IF TG_OP <> 'INSERT' THEN INSERT INTO audited SELECT count(*), sum(n), 'old ' || TG_OP FROM old_rows; END IF;"
    " IF TG_OP <> 'DELETE' THEN INSERT INTO audited SELECT count(*), sum(n), 'new ' || TG_OP FROM new_rows; END IF;"
    " RETURN NULL; END $$",
    "CREATE FUNCTION change_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    " IF NEW.id % 11 = 0 THEN RETURN NULL; END IF; NEW.n := coalesce(NEW.n, 0) % 1000 + 1; RETURN NEW; END $$",
    "CREATE FUNCTION check_row() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
    " IF NEW.n % 60 = 13 THEN RAISE check_violation; END IF; RETURN NULL; END $$",
    "CREATE TABLE part (id bigint, n integer, k integer) PARTITION BY LIST (k)",
    "CREATE TABLE part_0 PARTITION OF part FOR VALUES IN (0)",
    "CREATE TABLE part_1 (k integer, n integer, gone text, id bigint)",
    "ALTER TABLE part_1 DROP COLUMN gone",
    "ALTER TABLE part ATTACH PARTITION part_1 FOR VALUES IN (1)",
    "CREATE TABLE part_2 PARTITION OF part FOR VALUES IN (2, 3) PARTITION BY LIST (k)",
    "CREATE TABLE part_2_2 PARTITION OF part_2 FOR VALUES IN (2)",
    "CREATE TABLE part_2_3 PARTITION OF part_2 FOR VALUES IN (3)",
    "CREATE TABLE part_x PARTITION OF part DEFAULT",
    "INSERT INTO part SELECT i, i, i % 5 FROM generate_series(1, 30) i",
]


class Table:
    def __init__(self, name, columns):
        self.name = name
        self.columns = columns          # name -> type; id and n always exist


class Client:
    """What the generator knows of a session."""

    def __init__(self, number):
        self.number = number
        self.reset()

    def reset(self):
        self.open = False
        self.failed = False
        self.repeatable = False
        self.savepoints = []
        self.cursors = {}               # name -> (query, ordered)
        self.ddl = False                # did some in this transaction
        self.rewrote = False
        self.write_next = None
        if not hasattr(self, "held"):
            self.held = []              # cursors WITH HOLD, open over transactions


class Generator(Keys):
    def __init__(self, seed):
        super().__init__()
        self.random = random.Random(seed)
        self.tables = {}
        self.views = []
        self.matviews = []
        self.partitioned = []
        self.triggers = []              # (name, table)
        self.next_id = 1
        self.next_name = 1

    # ------------------------------------------------------------ pieces

    def name(self, prefix):
        self.next_name += 1
        return "%s%d" % (prefix, self.next_name)

    def new_id(self):
        self.next_id += 1
        return self.next_id

    def old_id(self):
        """Mostly one of the recent rows, often one of a few that all sessions want."""
        if self.random.random() < 0.55:
            return self.random.randint(2, 5)
        return self.random.randint(max(1, self.next_id - 150), self.next_id)

    def literal(self, type_):
        r = self.random
        if r.random() < 0.12:
            return "NULL"
        if type_ == "integer":
            return str(r.randint(-1000, 1000))
        if type_ == "bigint":
            return str(r.randint(-10 ** 15, 10 ** 15))
        if type_ == "text":
            return "repeat('%s', %d)" % (r.choice(["a", "xyz", "\u00e9\u00df", "it''s ", "\\"]),
                                        r.choice([0, 1, 3, 20, 100] + ([3000, 20000] if r.random() < 0.1 else [])))
        if type_ == "varchar(40)":
            return "'v%d'" % r.randint(0, 10 ** 6)
        if type_ == "numeric(12,2)":
            return "%d.%02d" % (r.randint(-10 ** 6, 10 ** 6), r.randint(0, 99))
        if type_ == "boolean":
            return r.choice(["true", "false"])
        if type_ == "date":
            return "'2020-01-01'::date + %d" % r.randint(-4000, 4000)
        if type_ == "timestamptz":
            return "'2020-01-01 00:00+00'::timestamptz + '%d seconds'" % r.randint(-10 ** 8, 10 ** 8)
        if type_ == "jsonb":
            return "'{\"k\": %d, \"list\": [1, \"%d\"]}'::jsonb" % (r.randint(0, 9), r.randint(0, 9))
        if type_ == "bytea":
            return "'\\x%s'::bytea" % bytes(r.randint(0, 255) for _ in range(r.randint(0, 12))).hex()
        if type_ == "integer[]":
            return "ARRAY[%s]::integer[]" % ",".join(r.choice(["NULL", str(r.randint(0, 99))]) for _ in range(r.randint(0, 5)))
        if type_ == "mood":
            return "'%s'::mood" % r.choice(["sad", "ok", "happy"])
        if type_ == "positive":
            return "%d::positive" % r.choice([1, 2, 3, 77, 1000] + ([-1] if r.random() < 0.05 else []))
        if type_ == "pair":
            return "ROW(%d, %s)::pair" % (r.randint(0, 9), r.choice(["NULL", "'x'", "repeat('pair ', 500)"]))
        if type_ == "mood[]":
            return "ARRAY[%s]::mood[]" % ",".join(r.choice(["'sad'", "'happy'", "NULL"]) for _ in range(r.randint(0, 3)))
        if type_ == "int4range":
            low = r.randint(0, 50)
            return "int4range(%d, %d)" % (low, low + r.randint(0, 20))
        if type_ == "uuid":
            return "'%032x'::uuid" % r.getrandbits(128)
        return "%d.5::double precision" % r.randint(-100, 100)

    def table(self):
        names = sorted(self.tables)
        return self.tables[names[0] if self.random.random() < 0.6 else self.random.choice(names)]

    def extra_column(self, table):
        names = sorted(c for c in set(table.columns) - {"id", "n"} if not c.startswith("u"))
        return self.random.choice(names) if names else None

    def condition(self, alias=""):
        r = self.random
        return r.choice([
            "%sid BETWEEN %d AND %d" % (alias, self.old_id(), self.old_id() + 20),
            "%sn %% %d = %d" % (alias, r.randint(2, 7), r.randint(0, 3)),
            "%sn > %d" % (alias, r.randint(-900, 900)),
            "%sid IN (%s)" % (alias, ", ".join(str(self.old_id()) for _ in range(4))),
            "%sn IS NULL" % alias])

    def values(self, table, rows):
        names = [c for c in table.columns if not c.startswith("u")]
        lines = []
        for _ in range(rows):
            lines.append("(%s)" % ", ".join(str(self.new_id()) if column == "id" else self.literal(table.columns[column])
                                            for column in names))
        return ", ".join(names), ", ".join(lines)

    def change(self, table):
        r = self.random
        column = self.extra_column(table)
        sets = [r.choice(["n = n + 1", "n = %s" % self.literal("integer"), "n = coalesce(n, 0) * 2 %% 1000"])]
        if column and r.random() < 0.6:
            sets.append("%s = %s" % (column, self.literal(table.columns[column])))
        return ", ".join(sets).replace("%%", "%")

    # ------------------------------------------------------------ data

    def insert(self, client):
        table, r = self.table(), self.random
        names, values = self.values(table, r.choice([1, 1, 1, 2, 5, 30]))
        returning = r.random() < 0.3
        return Statement("insert", "INSERT INTO %s (%s) VALUES %s%s" % (
            table.name, names, values, " RETURNING *" if returning else ""))

    def insert_select(self, client):
        table, other = self.table(), self.table()
        low = self.new_id()
        self.next_id += 40
        return Statement("insert select", "INSERT INTO %s (id, n) SELECT %d + row_number() OVER (ORDER BY id), n FROM"
                         " (SELECT id, n FROM %s WHERE %s ORDER BY id LIMIT 40) t" % (
                             table.name, low - 1, other.name, self.condition()))

    def copy_in(self, client):
        table, r = self.table(), self.random
        rows = ["%d\t%s\n" % (self.new_id(), r.choice(["\\N", str(r.randint(-999, 999))])) for _ in range(r.randint(1, 60))]
        return Statement("copy in", "COPY %s (id, n) FROM STDIN" % table.name, data="".join(rows))

    def copy_out(self, client):
        return Statement("copy out", "COPY %s TO STDOUT" % self.table().name)

    def point_update(self, client):
        table = self.table()
        return Statement("update one", "UPDATE %s SET %s WHERE id = %d%s" % (
            table.name, self.change(table), self.old_id(), self.random.choice(["", " RETURNING *"])), lock=True, point=True)

    def update(self, client):
        table = self.table()
        return Statement("update", "UPDATE %s SET %s WHERE %s%s" % (
            table.name, self.change(table), self.condition(), self.random.choice(["", " RETURNING id, n"])), lock=True)

    def update_from(self, client):
        table, other = self.table(), self.table()
        return Statement("update from", "UPDATE %s t SET n = t.n + o.n FROM %s o WHERE o.id = t.id - %d AND %s" % (
            table.name, other.name, self.random.randint(0, 3), self.condition("t.")), lock=True)

    def point_delete(self, client):
        table = self.table()
        # rows may refer to it
        return Statement("delete one", "DELETE FROM %s WHERE id = %d%s" % (
            table.name, self.old_id(), self.random.choice(["", " RETURNING *"])), lock=True, point="u" not in table.columns)

    def delete(self, client):
        return Statement("delete", "DELETE FROM %s WHERE %s AND id %% 3 = %d" % (
            self.table().name, self.condition(), self.random.randint(0, 2)), lock=True)

    def delete_using(self, client):
        return Statement("delete using", "DELETE FROM %s t USING %s o WHERE o.id = t.id AND o.n > %d AND t.id %% 5 = 0" % (
            self.table().name, self.table().name, self.random.randint(500, 900)), lock=True)

    def merge(self, client):
        r, table = self.random, self.table()
        ids = r.sample(range(max(1, self.next_id - 150), self.next_id + 1), min(6, self.next_id)) + [self.new_id()]
        return Statement("merge", "MERGE INTO %s t USING (VALUES %s) AS s(id, n) ON t.id = s.id"
                         " WHEN MATCHED AND s.n %% 4 = 0 THEN DELETE WHEN MATCHED THEN UPDATE SET n = s.n"
                         " WHEN NOT MATCHED AND s.id > %d THEN INSERT (id, n) VALUES (s.id, s.n)" % (
                             table.name, ", ".join("(%d, %d)" % (i, r.randint(0, 99)) for i in ids), ids[-1] - 1), lock=True)

    def move(self, client):
        low, first = self.old_id(), self.new_id()
        self.next_id += 20
        return Statement("with delete, insert", "WITH gone AS (DELETE FROM %s WHERE id BETWEEN %d AND %d RETURNING id, n)"
                         " INSERT INTO %s (id, n) SELECT %d + row_number() OVER (ORDER BY id), n FROM gone RETURNING id" % (
                             self.table().name, low, low + 19, self.table().name, first - 1), lock=True)

    def bulk(self, client):
        """Enough for rows to leave memory where little is allowed."""
        low = self.next_id
        self.next_id += 400
        return Statement("insert many", "INSERT INTO %s (id, n) SELECT %d + i, i %% 50 FROM generate_series(1, 400) i" % (
            self.table().name, low))

    def bad_copy(self, client):
        """A COPY that fails at its last row."""
        rows = ["%d\t1\n" % self.new_id() for _ in range(self.random.randint(1, 30))]
        return Statement("copy in, bad", "COPY %s (id, n) FROM STDIN" % self.table().name, data="".join(rows) + "x\t1\n")

    def move_partition(self, client):
        r = self.random
        return Statement("move rows", "UPDATE part SET k = (coalesce(k, 0) + %d) %% 6, n = n + 1 WHERE %s%s" % (
            r.randint(1, 5), self.condition(), r.choice(["", " RETURNING id, n, k"])), lock=True)

    def move_one(self, client):
        return Statement("move one", "UPDATE part SET k = %d WHERE id = %d RETURNING id, k" % (
            self.random.randint(0, 5), self.old_id()), lock=True, point=True)

    def loop(self, client):
        """Subtransactions in a loop, every other one undone, within one that is undone or not."""
        r, table = self.random, self.table()
        return Statement("exception loop", "DO $$ BEGIN FOR i IN 1 .. %(k)d LOOP BEGIN INSERT INTO %(t)s (id, n) VALUES (%(a)d + i, i);"
                         " UPDATE %(t)s SET n = n + 10 WHERE id BETWEEN %(a)d + 1 AND %(a)d + i;"
                         " BEGIN DELETE FROM %(t)s WHERE id = %(a)d + i - 1; PERFORM 1 / (i %% 3); EXCEPTION WHEN division_by_zero THEN"
                         " INSERT INTO %(t)s (id, n) VALUES (%(a)d + 20 + i, 1); END;"
                         " PERFORM 1 / (i %% 2); EXCEPTION WHEN division_by_zero THEN NULL; END; END LOOP; END $$" % {
                             "t": table.name, "a": self.take_ids(60), "k": r.randint(1, 12)})

    def take_ids(self, count):
        self.next_id += count
        return self.next_id - count

    def own_writes(self, client):
        """Several commands of one transaction about the same new rows."""
        table = self.table()
        a = self.take_ids(30)
        return Statement("write rows again", "DO $$ BEGIN INSERT INTO %(t)s (id, n) SELECT %(a)d + i, i FROM generate_series(1, 10) i;"
                         " UPDATE %(t)s SET n = n + 1 WHERE id BETWEEN %(a)d AND %(a)d + 7;"
                         " DELETE FROM %(t)s WHERE id BETWEEN %(a)d + 2 AND %(a)d + 3;"
                         " UPDATE %(t)s SET n = n * 2 WHERE id BETWEEN %(a)d AND %(a)d + 5; END $$" % {"t": table.name, "a": a})

    def nested(self, client):
        """A plpgsql block whose inner subtransaction is undone."""
        table = self.table()
        return Statement("exception block", "DO $$ BEGIN INSERT INTO %(t)s (id, n) VALUES (%(a)d, 1);"
                         " BEGIN INSERT INTO %(t)s (id, n) SELECT %(b)d, count(*) FROM %(t)s WHERE id = %(a)d;"
                         " UPDATE %(t)s SET n = 7 WHERE id = %(a)d; PERFORM 1 / (n - 7) FROM %(t)s WHERE id = %(a)d;"
                         " EXCEPTION WHEN division_by_zero THEN UPDATE %(t)s SET n = n + 100 WHERE id = %(a)d; END; END $$" % {
                             "t": table.name, "a": self.new_id(), "b": self.new_id()})

    # ------------------------------------------------------------ questions

    def select(self, client):
        r, t, o = self.random, self.table(), self.table()
        return r.choice([
            lambda: Statement("select", "SELECT * FROM %s WHERE %s" % (t.name, self.condition())),
            lambda: Statement("select all", "SELECT * FROM %s" % t.name),
            lambda: Statement("select ordered", "SELECT * FROM %s ORDER BY n NULLS FIRST, id LIMIT %d OFFSET %d" % (
                t.name, r.randint(1, 50), r.randint(0, 20)), ordered=True),
            lambda: Statement("aggregate", "SELECT count(*), count(n), sum(n), min(id), max(id), string_agg(n::text, ',' ORDER BY id)"
                              " FROM %s WHERE %s" % (t.name, self.condition())),
            lambda: Statement("group by", "SELECT n %% 10, count(*), sum(id) FROM %s GROUP BY 1 HAVING count(*) > 1" % t.name),
            lambda: Statement("join", "SELECT a.id, b.n FROM %s a %s JOIN %s b ON a.id = b.id + %d WHERE %s" % (
                t.name, r.choice(["", "LEFT", "FULL"]), o.name, r.randint(0, 2), self.condition("a."))),
            lambda: Statement("window", "SELECT id, rank() OVER (ORDER BY n, id), sum(n) OVER (ORDER BY id ROWS 3 PRECEDING)"
                              " FROM %s" % t.name),
            lambda: Statement("subquery", "SELECT id FROM %s a WHERE %sEXISTS (SELECT FROM %s b WHERE b.id = a.id AND b.n > a.n - 5)" % (
                t.name, r.choice(["", "NOT "]), o.name)),
            lambda: Statement("set operation", "SELECT id, n FROM %s %s SELECT id, n FROM %s" % (
                t.name, r.choice(["UNION", "EXCEPT", "INTERSECT", "UNION ALL"]), o.name)),
            lambda: Statement("point select", "SELECT * FROM %s WHERE id = %d" % (t.name, self.old_id())),
            lambda: Statement("audit", "SELECT op, count(*), sum(id), sum(n) FROM audited GROUP BY op"),
            lambda: Statement("view", "SELECT * FROM %s" % r.choice(self.views + self.matviews)) if self.views + self.matviews
            else Statement("select all", "SELECT * FROM %s" % t.name),
        ])()

    def row_lock(self, client):
        r = self.random
        strength = r.choice(["UPDATE", "NO KEY UPDATE", "SHARE", "KEY SHARE"])
        wait = r.choice(["", "", " NOWAIT", " SKIP LOCKED"])
        point = r.random() < 0.7 or wait == ""
        where = "id = %d" % self.old_id() if point else self.condition()
        # NOWAIT over several rows would lock some in an order of the access method's before it fails
        if wait == " NOWAIT" and not point:
            wait = " SKIP LOCKED"
        return Statement("for %s%s" % (strength.lower(), wait.lower()), "SELECT id, n FROM %s WHERE %s FOR %s%s" % (
            self.table().name, where, strength, wait), lock=wait == "", point=point, row_lock=True)

    def tables_sampled(self, client):
        t = self.table()
        return Statement("sample all", "SELECT count(*), sum(id) FROM %s TABLESAMPLE %s" % (
            t.name, self.random.choice(["SYSTEM (100)", "BERNOULLI (100)", "BERNOULLI (0)"])))

    def lateral(self, client):
        t, o = self.table(), self.table()
        return Statement("lateral", "SELECT a.id, x.* FROM %s a, LATERAL (SELECT count(*), max(n) FROM %s b WHERE b.id < a.id) x"
                         " WHERE %s" % (t.name, o.name, self.condition("a.")))

    def hidden(self, client):
        """Hidden columns that must agree: whose row it is, and that a ctid finds it."""
        t = self.table()
        return Statement("system columns", "SELECT a.id, tableoid::regclass::text, xmax IS NOT NULL,"
                         " (SELECT count(*) FROM %s b WHERE b.ctid = a.ctid AND b.tableoid = a.tableoid)"
                         " FROM %s a WHERE %s" % (t.name, t.name, self.condition("a.")))

    # ------------------------------------------------------------ cursors

    def hold(self, client):
        name = self.name("h")
        query = "SELECT id, n FROM %s WHERE %s ORDER BY id, n" % (self.table().name, self.condition())
        return Statement("hold cursor", "BEGIN; DECLARE %s SCROLL CURSOR WITH HOLD FOR %s; COMMIT" % (name, query), hold=name)

    def held(self, client):
        if client.held and self.random.random() < 0.8:
            return Statement("fetch held", "FETCH %s FROM %s" % (
                self.random.choice(["5", "ALL", "BACKWARD 3", "FIRST"]), self.random.choice(client.held)), ordered=True)
        if client.held:
            return Statement("close held", "CLOSE %s" % client.held[0], close=client.held[0])
        return self.select(client)

    def cursor(self, client):
        r = self.random
        if client.cursors and r.random() < 0.7:
            name = r.choice(sorted(client.cursors))
            query, ordered = client.cursors[name]
            if not ordered:
                # part of an unordered result would depend on the access method: all of it, once
                del client.cursors[name]
                return Statement("fetch all", "FETCH ALL FROM %s" % name, fetch=(name, query))
            return Statement("fetch", "%s %s FROM %s" % (
                r.choice(["FETCH", "FETCH", "MOVE"]), r.choice(["3", "1", "10", "BACKWARD 2", "ABSOLUTE 2"]), name), ordered=True)
        ordered = r.random() < 0.25
        name = self.name("c")
        table = self.table().name
        if not ordered:
            client.write_next = table   # or what it must not see would rarely be there
        query = "SELECT id, n FROM %s%s" % (table, " ORDER BY id" if ordered else r.choice(["", "", " WHERE %s" % self.condition()]))
        client.cursors[name] = (query, ordered)
        return Statement("declare cursor", "DECLARE %s %s CURSOR FOR %s" % (name, "SCROLL" if ordered else "NO SCROLL", query))

    def after_cursor(self, client):
        table, client.write_next = client.write_next, None
        return Statement("insert", "INSERT INTO %s (id, n) VALUES (%d, %d)" % (table, self.new_id(), self.random.randint(0, 5)))

    def close_cursor(self, client):
        if not client.cursors:
            return self.cursor(client)
        name = self.random.choice(sorted(client.cursors))
        del client.cursors[name]
        return Statement("close", "CLOSE %s" % name)

    def current_of(self, client):
        """One round trip: a DO block would hide the cursor."""
        table = self.table()
        return Statement("where current of", "DO $$ DECLARE c CURSOR FOR SELECT id FROM %(t)s WHERE id = %(i)d FOR UPDATE; r record;"
                         " BEGIN OPEN c; FETCH c INTO r; IF FOUND THEN UPDATE %(t)s SET n = n - 1 WHERE CURRENT OF c; END IF;"
                         " END $$" % {"t": table.name, "i": self.old_id()}, lock=True, point=True)

    # ------------------------------------------------------------ schema

    def ddl(self, client):
        r, table = self.random, self.table()
        column = self.extra_column(table)
        type_ = r.choice(TYPES)
        makers = [
            lambda: Statement("add column", "ALTER TABLE %s ADD COLUMN %s %s" % (table.name, self.name("x"), type_), lock=True),
            lambda: Statement("add column default", "ALTER TABLE %s ADD COLUMN %s integer DEFAULT %d" % (
                table.name, self.name("x"), r.randint(1, 99)), lock=True),
            lambda: Statement("set default", "ALTER TABLE %s ALTER COLUMN n SET DEFAULT %d" % (table.name, r.randint(0, 9)), lock=True),
            lambda: Statement("check", "ALTER TABLE %s ADD CONSTRAINT %s CHECK (n <> %d)" % (
                table.name, self.name("k"), r.randint(-1000, 1000)), lock=True),
            lambda: Statement("comment", "COMMENT ON TABLE %s IS 'c%d'" % (table.name, r.randint(0, 99)), lock=True),
            lambda: Statement("create table", self.create_table()),
            lambda: Statement("create table as", "CREATE TABLE %s AS SELECT id, n FROM %s WHERE %s" % (
                self.name("t"), table.name, self.condition())),
            lambda: Statement("create view", "CREATE VIEW %s AS SELECT id, n FROM %s WHERE n > %d" % (
                self.name("v"), table.name, r.randint(-500, 500)), lock=True),
            lambda: Statement("truncate", "TRUNCATE %s" % table.name, lock=True, rewrite=True),
            lambda: Statement("rename table", "ALTER TABLE %s RENAME TO %s" % (table.name, self.name("t")), lock=True),
        ]
        if column:
            makers += [
                lambda: Statement("drop column", "ALTER TABLE %s DROP COLUMN %s" % (table.name, column), lock=True),
                lambda: Statement("rename column", "ALTER TABLE %s RENAME COLUMN %s TO %s" % (
                    table.name, column, self.name("x")), lock=True),
                lambda: Statement("alter type", "ALTER TABLE %s ALTER COLUMN %s TYPE text USING left(%s::text, 100)" % (
                    table.name, column, column), lock=True, rewrite=True),
                lambda: Statement("set not null", "ALTER TABLE %s ALTER COLUMN %s SET NOT NULL" % (table.name, column), lock=True),
                lambda: Statement("drop not null", "ALTER TABLE %s ALTER COLUMN %s DROP NOT NULL" % (table.name, column), lock=True),
            ]
        makers += [
            lambda: Statement("create trigger", "CREATE TRIGGER %s AFTER INSERT OR UPDATE OR DELETE ON %s FOR EACH ROW"
                              " EXECUTE FUNCTION audit_row()" % (self.name("g"), table.name), lock=True),
            lambda: Statement("create trigger", "CREATE TRIGGER %s AFTER %s ON %s REFERENCING %s FOR EACH STATEMENT"
                              " EXECUTE FUNCTION audit_all()" % ((self.name("g"),) + r.choice([
                                  ("INSERT", table.name, "NEW TABLE AS new_rows"), ("DELETE", table.name, "OLD TABLE AS old_rows"),
                                  ("UPDATE", table.name, "OLD TABLE AS old_rows NEW TABLE AS new_rows")])), lock=True),
            lambda: Statement("create trigger", "CREATE TRIGGER %s BEFORE INSERT OR UPDATE ON %s FOR EACH ROW"
                              " EXECUTE FUNCTION change_row()" % (self.name("g"), table.name), lock=True),
            lambda: Statement("create constraint trigger", "CREATE CONSTRAINT TRIGGER %s AFTER INSERT OR UPDATE ON %s DEFERRABLE"
                              " INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION check_row()" % (self.name("g"), table.name), lock=True),
            lambda: Statement("create matview", "CREATE MATERIALIZED VIEW %s AS SELECT id, n FROM %s WHERE n > %d%s" % (
                self.name("m"), table.name, r.randint(-500, 500), r.choice(["", "", " WITH NO DATA"])), lock=True),
            lambda: Statement("attach partition", "CREATE TABLE %(x)s (LIKE part); INSERT INTO %(x)s (id, n, k) SELECT %(i)d + i, i, %(k)d"
                              " FROM generate_series(1, 5) i; ALTER TABLE part ATTACH PARTITION %(x)s FOR VALUES IN (%(k)d)" % {
                                  "x": self.name("t"), "i": self.take_ids(5), "k": r.randint(6, 60)}, lock=True),
            lambda: Statement("detach partition", "ALTER TABLE part DETACH PARTITION part_%d" % r.randint(0, 1), lock=True),
            lambda: Statement("truncate, insert", "TRUNCATE %(t)s; INSERT INTO %(t)s (id, n) VALUES (%(i)d, 1); TRUNCATE %(t)s;"
                              " INSERT INTO %(t)s (id, n) VALUES (%(i)d, 2)" % {"t": table.name, "i": self.new_id()},
                              lock=True, rewrite=True),
            lambda: Statement("alter type, no rewrite", "ALTER TABLE %s ALTER COLUMN %s SET STORAGE EXTERNAL" % (table.name, column)
                              if column and table.columns[column] == "text" else
                              "ALTER TABLE %s ALTER COLUMN n TYPE integer" % table.name, lock=True),
            lambda: Statement("add volatile column", "ALTER TABLE %s ADD COLUMN %s integer DEFAULT (random() * 0)::integer" % (
                table.name, self.name("x")), lock=True, rewrite=True),
            lambda: Statement("add generated column", "ALTER TABLE %s ADD COLUMN %s bigint GENERATED ALWAYS AS (n::bigint * 2) STORED" % (
                table.name, self.name("x")), lock=True, rewrite=True),
        ]
        makers += 3 * [
            lambda: Statement("rewrite", "ALTER TABLE %s ALTER COLUMN id TYPE bigint USING id + 0" % table.name, lock=True, rewrite=True,
                              access_method="ALTER TABLE %s SET ACCESS METHOD %%s" % table.name, table=table.name),
        ]
        if self.triggers:
            name, on = r.choice(self.triggers)
            makers.append(lambda: Statement("drop trigger", "DROP TRIGGER %s ON %s" % (name, on), lock=True))
        if self.matviews:
            makers += 2 * [lambda: Statement("refresh", "REFRESH MATERIALIZED VIEW %s%s" % (
                r.choice(self.matviews), r.choice(["", "", " WITH NO DATA"])), lock=True, rewrite=True)]
            makers.append(lambda: Statement("drop matview", "DROP MATERIALIZED VIEW %s" % r.choice(self.matviews), lock=True))
        if len(self.tables) > 3:
            makers.append(lambda: Statement("drop table", "DROP TABLE %s%s" % (
                table.name, r.choice([" CASCADE", ""])), lock=True))
        if self.views:
            makers.append(lambda: Statement("drop view", "DROP VIEW %s" % r.choice(self.views), lock=True))
        # the kinds above are many by now, and this one has a planted bug to show
        makers += 3 * [makers[1]]
        statement = r.choice(makers)()
        statement.ddl = True
        return statement

    def create_table(self, name=None):
        columns = ["id bigint", "n integer"] + ["%s %s" % (self.name("x"), self.random.choice(TYPES))
                                                for _ in range(self.random.randint(0, 4))]
        return "CREATE TABLE %s (%s)" % (name or self.name("t"), ", ".join(columns))

    def maintenance(self, client):
        if self.random.random() < 0.4:
            return Statement("vacuum full", "VACUUM FULL %s" % self.table().name, lock=True, rewrite=True)
        return Statement("vacuum, analyze", "%s %s" % (self.random.choice(["VACUUM", "ANALYZE", "VACUUM ANALYZE"]), self.table().name),
                         lock=True)

    # ------------------------------------------------------------ transactions

    def begin(self, client, may_repeat):
        r = self.random
        repeatable = may_repeat and r.random() < 0.35
        return Statement("begin", "BEGIN ISOLATION LEVEL %s%s" % (
            "REPEATABLE READ" if repeatable else "READ COMMITTED", " READ ONLY" if r.random() < 0.1 else ""))

    def savepoint(self, client):
        r = self.random
        if client.savepoints and r.random() < 0.65:
            name = r.choice(client.savepoints)
            return Statement(*r.choice([("rollback to", "ROLLBACK TO %s" % name), ("rollback to", "ROLLBACK TO %s" % name),
                                        ("release", "RELEASE %s" % name)]))
        return Statement("savepoint", "SAVEPOINT %s" % self.name("s"))
