"""Statements about keys and indexes.

Tables with keys have columns for them whose names begin with u: other statements leave those out, so that only the statements made here meet
with keys, a row at a time or in a way in which the order of rows does not matter.  Ids are unique in every table; where a key says so, too,
statements here add ids that are there already.
"""
from statement import Statement

KEY_TYPES = ["integer", "text", "text COLLATE \"C\"", "numeric(12,2)", "timestamptz", "boolean", "uuid", "mood", "name", "varchar(40)",
             "bigint", "date", "integer[]"]


class Info:
    """What is committed of a table's keys."""

    def __init__(self):
        self.unique_id = False          # there is a key of the column id alone
        self.indexes = []               # (name, whether a constraint has it)
        self.constraints = []           # (name, kind)


class Keys:
    def __init__(self):
        self.infos = {}

    def info(self, name):
        return self.infos.get(name) or Info()

    # ------------------------------------------------------------ at the beginning of a round

    def setup(self):
        """Three tables with keys: two that are referred to, one of which refers to the other, and one that refers to both."""
        r = self.random
        types = [r.choice(KEY_TYPES) for _ in range(3)]
        action = lambda: r.choice(["", "ON DELETE CASCADE", "ON DELETE SET NULL", "ON DELETE RESTRICT", "ON DELETE SET DEFAULT",
                                   "ON UPDATE CASCADE", "ON UPDATE CASCADE ON DELETE CASCADE", "ON UPDATE SET NULL"])
        when = lambda: r.choice(["", "", "DEFERRABLE", "DEFERRABLE INITIALLY DEFERRED"])
        return [
            "CREATE TABLE k1 (id bigint PRIMARY KEY, n integer, u integer, u_t %s, u_ref bigint, %s)" % (types[0], r.choice([
                "UNIQUE (u)", "UNIQUE (u)", "UNIQUE (u) DEFERRABLE", "UNIQUE (u) DEFERRABLE INITIALLY DEFERRED",
                "EXCLUDE USING hash (u WITH =)", "EXCLUDE USING btree (u WITH =)"])),
            "CREATE TABLE k2 (id bigint PRIMARY KEY, n integer, u integer, u_t %s, u_ref bigint REFERENCES k1 %s %s,"
            " %s)" % (types[1], action(), when(), r.choice(["UNIQUE (u, u_t)", "UNIQUE NULLS NOT DISTINCT (u, u_t)", "EXCLUDE (u WITH =, u_t WITH =)"])),
            "CREATE TABLE k3 (n integer, u_ref bigint REFERENCES k2 (id) %s %s, u integer, id bigint, u_t %s)" % (
                action(), when(), types[2]),
            "CREATE UNIQUE INDEX k3_id ON k3 (id)%s" % r.choice(["", " INCLUDE (n)", " INCLUDE (u, u_t)"]),
            "CREATE UNIQUE INDEX k3_u ON k3 (u)%s" % r.choice(["", " WHERE n > 0", " NULLS NOT DISTINCT WHERE u_t IS NOT NULL"]),
            "CREATE UNIQUE INDEX k3_x ON k3 ((u %% 7), (u_t::text), id)".replace("%%", "%"),
            "INSERT INTO k1 (id, n, u) SELECT i, i, CASE WHEN i < 20 THEN i END FROM generate_series(1, 30) i",
            "INSERT INTO k2 (id, n, u, u_ref) SELECT i, i, i + 100, 1 + i % 5 FROM generate_series(1, 30) i",
            "INSERT INTO k3 (id, n, u, u_ref) SELECT i, i, i + 100, 1 + i % 5 FROM generate_series(1, 30) i",
            "ALTER TABLE part ADD %s (id, k)" % r.choice(["UNIQUE", "UNIQUE"]),
        ]

    # ------------------------------------------------------------ pieces

    def keyed(self):
        names = sorted(name for name, table in self.tables.items() if "u" in table.columns and "u_t" in table.columns
                       and self.info(name).unique_id)
        return self.tables[self.random.choice(names)] if names else None

    def key_literal(self, type_):
        """Few different ones."""
        r = self.random
        if r.random() < 0.15:
            return "NULL"
        i = r.randint(0, 4)
        if type_.startswith("text") or type_ in ("varchar(40)", "name"):
            return "'%s'::%s" % (["a", "B", "b ", "\u00e9", "ab"][i], type_.split()[0])
        return {"integer": "%d" % i, "bigint": "%d" % i, "numeric(12,2)": "%d.%s" % (i, r.choice(["5", "50"])), "boolean": "%s" % (i > 1),
                "timestamptz": "'2020-01-0%d 00:00+0%d'::timestamptz" % (i + 1, i % 2), "date": "'2020-01-0%d'::date" % (i + 1),
                "uuid": "'%032d'::uuid" % i, "mood": "'%s'::mood" % ["sad", "ok", "happy"][i % 3],
                "integer[]": "'{%d,NULL}'::integer[]" % i}.get(type_, "NULL")

    def small(self):
        r = self.random
        return "NULL" if r.random() < 0.15 else str(r.randint(0, 30))

    def key_value(self, column, table):
        if column == "u":
            return self.small()
        if column == "u_ref":
            return "NULL" if self.random.random() < 0.2 else str(self.old_id() if self.random.random() < 0.4 else self.random.randint(1, 8))
        return self.key_literal(table.columns[column])

    def key_row(self, table, fresh=0.6):
        id_ = self.new_id() if self.random.random() < fresh else self.old_id()
        columns = [c for c in ("u", "u_t", "u_ref") if c in table.columns and self.random.random() < 0.8]
        return columns, "%d, %d%s" % (id_, self.random.randint(-99, 99), "".join(", " + self.key_value(c, table) for c in columns))

    # ------------------------------------------------------------ data

    def key_insert(self, client):
        table, r = self.keyed(), self.random
        if table is None:
            return self.insert(client)
        columns, row = self.key_row(table)
        conflict = r.choice(["", "", "", " ON CONFLICT DO NOTHING", " ON CONFLICT (id) DO NOTHING",
                             " ON CONFLICT (id) DO UPDATE SET n = t.n + excluded.n",
                             " ON CONFLICT (id) DO UPDATE SET u = excluded.u WHERE t.n > 0",
                             " ON CONFLICT (id) DO UPDATE SET id = t.id + 100000 * (1 + t.id / 1000)",
                             " ON CONFLICT (u) DO UPDATE SET n = excluded.n", " ON CONFLICT (u, u_t) DO UPDATE SET u = t.u + 1",
                             " ON CONFLICT (u) WHERE n > 0 DO UPDATE SET n = -1"])
        kind = "insert key" if not conflict else "insert or nothing" if "NOTHING" in conflict else "insert or update"
        return Statement(kind, "INSERT INTO %s t (id, n%s) VALUES (%s)%s%s".replace(" t (", " AS t (") % (
            table.name, "".join(", " + c for c in columns), row, conflict, r.choice(["", " RETURNING *"])), lock=True, keys=True)

    def key_insert_many(self, client):
        table, r = self.keyed(), self.random
        if table is None:
            return self.insert(client)
        rows = [self.key_row(table, 0.85) for _ in range(r.randint(2, 6))]
        if r.random() < 0.4:
            first, last = self.take_ids(300), self.next_id
            return Statement("insert many keys", "INSERT INTO %s (id, n, u) SELECT i, i %% 9, i FROM generate_series(%d, %d) i %s" % (
                table.name, first, last - 1, r.choice(["", "ON CONFLICT DO NOTHING"])), lock=True, keys=True)
        return Statement("insert several keys", "INSERT INTO %s (id, n, u) VALUES %s %s" % (
            table.name, ", ".join("(%s, %s)" % (", ".join(row.split(", ")[:2]), self.small()) for _, row in rows),
            r.choice(["", "ON CONFLICT DO NOTHING", "ON CONFLICT (id) DO NOTHING"])), lock=True, keys=True)

    def key_update(self, client):
        table, r = self.keyed(), self.random
        if table is None:
            return self.point_update(client)
        column = r.choice([c for c in ("u", "u_t", "u_ref", "u", "id") if c in table.columns])
        value = str(self.new_id() if r.random() < 0.7 else self.old_id()) if column == "id" else self.key_value(column, table)
        return Statement("update key", "UPDATE %s SET %s = %s, n = n + 1 WHERE id = %d%s" % (
            table.name, column, value, self.old_id(), r.choice(["", " RETURNING *"])), lock=True, keys=True)

    def key_turn(self, client):
        """Fails in any order of rows or in none, unless the key is deferrable."""
        table, r = self.keyed(), self.random
        if table is None:
            return self.update(client)
        return Statement("turn keys", "UPDATE %s SET u = -1 - u WHERE u %% %d = 0" % (table.name, r.randint(1, 4)), lock=True, keys=True)

    def key_delete(self, client):
        table = self.keyed()
        if table is None:
            return self.delete(client)
        return Statement("delete key", "DELETE FROM %s WHERE %s RETURNING id" % (table.name, self.random.choice([
            "id = %d" % self.old_id(), "u = %s" % self.small(), "u_t = %s" % self.key_value("u_t", table),
            "u BETWEEN 2 AND 4"])), lock=True, keys=True)

    def key_again(self, client):
        """A key that is added, removed and added again, with subtransactions that are undone."""
        table, r = self.keyed(), self.random
        if table is None:
            return self.nested(client)
        return Statement("keys again", "DO $$ BEGIN INSERT INTO %(t)s (id, n) VALUES (%(i)d, 1); BEGIN DELETE FROM %(t)s WHERE id = %(i)d;"
                         " INSERT INTO %(t)s (id, n) VALUES (%(i)d, 2); PERFORM 1 / %(z)d; EXCEPTION WHEN division_by_zero THEN"
                         " UPDATE %(t)s SET n = 3 WHERE id = %(i)d; END; BEGIN INSERT INTO %(t)s (id, n) VALUES (%(i)d, 4);"
                         " EXCEPTION WHEN unique_violation THEN UPDATE %(t)s SET n = n + 10 WHERE id = %(i)d; END; END $$" % {
                             "t": table.name, "i": self.new_id(), "z": r.randint(0, 1)}, lock=True, keys=True)

    def set_constraints(self, client):
        return Statement("set constraints", "SET CONSTRAINTS ALL %s" % self.random.choice(["DEFERRED", "DEFERRED", "IMMEDIATE"]), lock=True,
                         keys=True)

    # ------------------------------------------------------------ questions

    def by_index(self, client):
        r, table = self.random, self.keyed()
        if table is None:
            return self.select(client)
        t, a, b = table.name, self.small(), self.small()
        x = self.key_value("u_t", table)
        direction = r.choice(["", " DESC", " NULLS FIRST", " DESC NULLS LAST"])
        limit = r.choice(["", " LIMIT 5", " LIMIT 3 OFFSET 2"])
        other = self.keyed().name
        sql, ordered = r.choice([
            ("SELECT * FROM %s WHERE u = %s" % (t, a), False),
            ("SELECT id, u FROM %s WHERE u BETWEEN %s AND %s ORDER BY u%s, id%s" % (t, a, b, direction, limit), True),
            ("SELECT u FROM %s WHERE u > %s ORDER BY u%s%s" % (t, a, direction, limit), True),
            ("SELECT id FROM %s ORDER BY id%s%s" % (t, direction.replace(" NULLS FIRST", ""), limit), True),
            ("SELECT id, u FROM %s WHERE u IN (%s, %s, 7, NULL)" % (t, a, b), False),
            ("SELECT id, u FROM %s WHERE id = ANY (ARRAY[%d, 3, %d]) ORDER BY id DESC" % (t, self.old_id(), self.old_id()), True),
            ("SELECT id FROM %s WHERE u IS NULL" % t, False),
            ("SELECT count(*), min(u), max(u), min(id), max(id) FROM %s" % t, False),
            ("SELECT min(u), max(u) FROM %s WHERE u > %s" % (t, a), False),
            ("SELECT id, u_t FROM %s WHERE u_t = %s" % (t, x), False),
            ("SELECT id, u_t FROM %s WHERE u_t >= %s ORDER BY u_t%s, id%s" % (t, x, direction, limit), True),
            ("SELECT u, u_t, id FROM %s WHERE u = %s AND u_t < %s" % (t, a, x), False),
            ("SELECT u, id FROM %s WHERE (u, id) > (%s, %d) ORDER BY u, id%s" % (t, a, self.old_id(), limit), True),
            ("SELECT u, id FROM %s WHERE (u, id) <= (%s, %d) ORDER BY u DESC, id DESC%s" % (t, a, self.old_id(), limit), True),
            ("SELECT id FROM %s WHERE u = %s OR u_t = %s OR id = %d" % (t, a, x, self.old_id()), False),
            ("SELECT count(*) FROM %s WHERE u > %s AND u_t = %s AND id < %d" % (t, a, x, self.old_id()), False),
            ("SELECT a.id, b.id FROM %s a JOIN %s b ON a.id = b.u_ref WHERE a.u > %s" % (t, other, a), False),
            ("SELECT count(*), sum(a.id + b.id) FROM %s a JOIN %s b ON a.u = b.u" % (t, other), False),
            ("SELECT a.id FROM %s a LEFT JOIN %s b USING (id) WHERE b.id IS NULL" % (t, other), False),
            ("SELECT DISTINCT u FROM %s WHERE id > %d" % (t, self.old_id()), False),
            ("SELECT id FROM %s WHERE id BETWEEN %d AND %d" % (t, self.old_id(), self.next_id), False),
        ])
        return Statement("by index", sql, ordered=ordered)

    def index_cursor(self, client):
        """A scrollable one, which turns in the index."""
        table, r = self.keyed(), self.random
        if table is None:
            return self.cursor(client)
        name = self.name("c")
        query = "SELECT id, u FROM %s WHERE %s" % (table.name, r.choice([
            "u = %s ORDER BY id" % self.small(), "id BETWEEN %d AND %d ORDER BY id DESC" % (self.old_id(), self.next_id),
            "u < 12 ORDER BY u, id", "u >= %s ORDER BY u DESC, id" % self.small(), "u IS NULL ORDER BY id"]))
        client.cursors[name] = (query, True)
        return Statement("index cursor", "DECLARE %s SCROLL CURSOR FOR %s" % (name, query))

    # ------------------------------------------------------------ definitions

    def index_columns(self, table, columns):
        r = self.random
        types = {c: t for c, t in table.columns.items() if t not in ("jsonb", "pair")}
        exprs = [c for c in types] + ["(n %% 10)".replace("%%", "%"), "((id + 1))"] + [
            "(lower(%s))" % c for c, t in types.items() if t.startswith(("text", "varchar"))]
        chosen = r.sample(exprs, min(columns, len(exprs)))
        return ", ".join(e + r.choice(["", "", " DESC", " NULLS FIRST", " DESC NULLS LAST"]) for e in chosen), [
            c for c in types if c not in chosen]

    def index_ddl(self, client):
        r = self.random
        table = (self.keyed() if r.random() < 0.6 else None) or self.table()
        if table.name in self.partitioned:
            table = self.keyed() or self.tables[sorted(self.tables)[0]]
        info = self.info(table.name)
        t = table.name

        def create(unique=False):
            columns, rest = self.index_columns(table, r.randint(1, 3))
            if unique:
                columns = "id, " + columns
            elif r.random() < 0.25:
                column = r.choice([c for c in table.columns if table.columns[c] not in ("pair",)] + ["(n %% 10)".replace("%%", "%")])
                return "CREATE INDEX %s ON %s USING hash (%s)%s" % (self.name("i"), t, column, r.choice(["", "", " WHERE n > 3"]))
            include = " INCLUDE (%s)" % r.choice(rest) if rest and r.random() < 0.25 else ""
            where = r.choice(["", "", "", " WHERE n > 3", " WHERE id %% 2 = 0".replace("%%", "%"), " WHERE n IS NOT NULL"])
            return "CREATE %sINDEX %s ON %s (%s)%s%s" % ("UNIQUE " if unique else "", self.name("i"), t, columns, include, where)

        makers = 5 * [lambda: Statement("create index", create(), lock=True)] + [
            lambda: Statement("create unique index", create(True), lock=True),
            lambda: Statement("create, use and drop index", "%s; DROP INDEX i%d" % (
                create(), self.next_name), lock=True),
            lambda: Statement("try unique", "CREATE UNIQUE INDEX try_it ON %s (n); DROP INDEX try_it" % t, lock=True, may_fail=True),
            lambda: Statement("index and insert", "CREATE UNIQUE INDEX try_it ON %(t)s (id); INSERT INTO %(t)s (id, n) VALUES (%(i)d, 1);"
                              " DROP INDEX try_it" % {"t": t, "i": self.new_id() if r.random() < 0.6 or not info.unique_id
                                                             else self.old_id()}, lock=True),
        ]
        # whether an open cursor uses an index, which then may neither be rebuilt nor dropped, is the planner's affair
        if not client.cursors:
            makers += [lambda: Statement("reindex table", "REINDEX TABLE %s" % t, lock=True)]
        if info.indexes:
            name, constraint = r.choice(info.indexes)
            if not client.cursors:
                makers += [lambda: Statement("reindex", "REINDEX INDEX %s" % name, lock=True)]
            # not with a snapshot: of what came after it nothing may be seen, which is 40001
            if not client.repeatable:
                makers += [lambda: Statement("cluster", "CLUSTER %s USING %s" % (t, name), lock=True, rewrite=True, may_fail=True)]
            # those that make an id unique stay
            if not constraint and not name.startswith("k3"):
                makers += [lambda: Statement("rename index", "ALTER INDEX %s RENAME TO %s" % (name, self.name("i")), lock=True)]
                if not client.cursors:
                    makers += 2 * [lambda: Statement("drop index", "DROP INDEX %s" % name, lock=True)]
        if "u_t" in table.columns and info.unique_id:
            makers += [
                lambda: Statement("key's type", "ALTER TABLE %s ALTER COLUMN u TYPE %s" % (t, r.choice(["bigint", "integer"])), lock=True,
                                  rewrite=True),
                lambda: Statement("referring type", "ALTER TABLE %s ALTER COLUMN u_ref TYPE %s" % (t, r.choice(["bigint", "integer"])),
                                  lock=True, rewrite=True),
                lambda: Statement("add foreign key", "ALTER TABLE %s ADD CONSTRAINT %s FOREIGN KEY (u_ref) REFERENCES %s (id) %s" % (
                    t, self.name("f"), (self.keyed() or table).name, r.choice(["", "NOT VALID", "ON DELETE CASCADE", "DEFERRABLE"])), lock=True,
                    may_fail=True),
                lambda: Statement("truncate key", "TRUNCATE %s%s" % (t, r.choice(["", " CASCADE"])), lock=True, rewrite=True, may_fail=True),
                lambda: Statement("primary key again", "ALTER TABLE %s DROP CONSTRAINT IF EXISTS %s_pkey CASCADE,"
                                  " ADD CONSTRAINT %s_pkey PRIMARY KEY (id)%s" % (
                                      t, t, t, r.choice(["", " INCLUDE (n)"])), lock=True, may_fail=True),
            ]
            makers += [lambda: Statement("drop foreign key", "ALTER TABLE %s DROP CONSTRAINT %s" % (t, name), lock=True)
                       for name, kind in info.constraints if kind == "f"][:1]
            makers += [lambda: Statement("validate", "ALTER TABLE %s VALIDATE CONSTRAINT %s" % (t, name), lock=True)
                       for name, kind in info.constraints if kind == "f"][:1]
        statement = r.choice(makers)()
        statement.ddl = True
        return statement

    # ------------------------------------------------------------ what there is

    def learn_keys(self, query):
        self.infos = {}
        of = lambda name: self.infos.setdefault(name, Info())
        for table, index, key, constraint in query(
                "SELECT c.relname, i.relname, indisunique AND indimmediate AND indpred IS NULL AND indnkeyatts = 1 AND a.attname = 'id',"
                " EXISTS (SELECT FROM pg_constraint o WHERE o.conindid = i.oid) FROM pg_index x JOIN pg_class c ON c.oid = indrelid"
                " JOIN pg_class i ON i.oid = indexrelid LEFT JOIN pg_attribute a ON attrelid = c.oid AND attnum = indkey[0]"
                " WHERE c.relnamespace = 'public'::regnamespace AND c.relkind = 'r' AND NOT c.relispartition ORDER BY 1, 2"):
            of(table).indexes.append((index, constraint))
            of(table).unique_id |= bool(key)
        for table, name, kind in query("SELECT relname, conname, contype::text FROM pg_constraint JOIN pg_class c ON c.oid = conrelid"
                                       " WHERE relnamespace = 'public'::regnamespace ORDER BY 1, 2"):
            of(table).constraints.append((name, kind))
