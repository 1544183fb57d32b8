"""Rows that refer to each other, over several servers: parents come, change and go on one while children arrive at another.

In the transaction that does something it is noted in `journal`, so what must be there follows from the journal, and the journal from what
clients were told.  `child` refers to a parent that may not go while it has children; `pet` goes and changes with its parent; `counter` is for ON
CONFLICT.
"""
import psycopg2

from clients import Client, ok, one

PARENTS = 40
COUNTERS = 20
TABLES = """
    SET default_table_access_method = s3am;
    CREATE TABLE parent (id int PRIMARY KEY, n int NOT NULL DEFAULT 0);
    CREATE TABLE child (name text PRIMARY KEY, parent int NOT NULL REFERENCES parent);
    CREATE INDEX ON child (parent, name);
    CREATE TABLE pet (name text PRIMARY KEY, parent int NOT NULL REFERENCES parent ON UPDATE CASCADE ON DELETE CASCADE);
    CREATE INDEX ON pet (parent);
    CREATE TABLE counter (key int PRIMARY KEY, n int NOT NULL);
    CREATE TABLE journal (name text, what text, of text, PRIMARY KEY (name, what, of));
    INSERT INTO parent SELECT generate_series(1, %d);
    INSERT INTO journal SELECT 'load', '+parent', id::text FROM parent;
    """ % PARENTS


def load(cursor):
    cursor.execute(TABLES)


class Family(Client):
    # a parent that has children does not go, a child whose parent has gone does not come, a key may be there
    others = {"23503", "23505"}

    def transaction(self, name):
        values = {"name": name, "p": self.random.randint(1, PARENTS), "q": self.random.randint(1, PARENTS), "pause": self.random.random() / 20,
                  "k": self.random.randint(1, COUNTERS)}
        what = self.random.choice([self.child_comes, self.child_comes, self.pet_comes, self.child_goes, self.parent_goes, self.parent_goes,
                                   self.all_go, self.parent_comes, self.parent_comes, self.key_changes, self.counts])
        commit_id = None
        try:
            cursor = self.connection.cursor()
            cursor.execute("BEGIN")
            what(lambda statement: cursor.execute(statement, values))
            cursor.execute("INSERT INTO journal VALUES (%s, 'was', %s) RETURNING s3am.commit_id()", (name, what.__name__))
            commit_id = cursor.fetchone()[0]
        except psycopg2.Error as error:
            self.told[name] = "aborted"         # COMMIT was never sent
            self.failed(error, what.__name__)
            self.again()
            return
        self.commit(name, cursor, commit_id)

    def child_comes(self, do):
        do("INSERT INTO child VALUES (%(name)s, %(p)s)")
        do("INSERT INTO journal VALUES (%(name)s, '+child', %(name)s)")

    def pet_comes(self, do):
        do("INSERT INTO pet VALUES (%(name)s, %(p)s)")
        do("INSERT INTO journal VALUES (%(name)s, '+pet', %(name)s)")

    def child_goes(self, do):
        do("""WITH gone AS (DELETE FROM child WHERE name = (SELECT min(name) FROM child WHERE parent = %(p)s) RETURNING name)
              INSERT INTO journal SELECT %(name)s, '-child', name FROM gone""")

    def parent_goes(self, do):
        do("UPDATE parent SET n = n + 1 WHERE id = %(p)s")
        do("SELECT pg_sleep(%(pause)s)")
        do("WITH gone AS (DELETE FROM parent WHERE id = %(p)s RETURNING id) INSERT INTO journal SELECT %(name)s, '-parent', id FROM gone")

    def all_go(self, do):
        """A parent that loses its children first can go, unless another one arrives meanwhile."""
        do("UPDATE parent SET n = n + 1 WHERE id = %(p)s")
        do("""WITH gone AS (DELETE FROM child WHERE parent = %(p)s RETURNING name)
              INSERT INTO journal SELECT %(name)s, '-child', name FROM gone""")
        do("SELECT pg_sleep(%(pause)s)")
        do("WITH gone AS (DELETE FROM parent WHERE id = %(p)s RETURNING id) INSERT INTO journal SELECT %(name)s, '-parent', id FROM gone")

    def parent_comes(self, do):
        do("""WITH come AS (INSERT INTO parent VALUES (%(p)s) ON CONFLICT DO NOTHING RETURNING id)
              INSERT INTO journal SELECT %(name)s, '+parent', id FROM come""")

    def key_changes(self, do):
        do("SAVEPOINT a")
        do("UPDATE parent SET n = n + 1 WHERE id = %(p)s")
        do("ROLLBACK TO a")
        do("""WITH changed AS (UPDATE parent SET id = %(q)s WHERE id = %(p)s AND %(p)s <> %(q)s RETURNING id)
              INSERT INTO journal SELECT %(name)s, v.* FROM changed, (VALUES ('-parent', '%(p)s'), ('+parent', '%(q)s')) v""")

    def counts(self, do):
        do("INSERT INTO counter VALUES (%(k)s, 1) ON CONFLICT (key) DO UPDATE SET n = counter.n + 1")
        do("INSERT INTO journal VALUES (%(name)s, '+count', '%(k)s')")


def balance(cursor, where):
    """What must hold of the data alone; scans of tables, so that an index that lacks a row hides nothing."""
    cursor.execute("SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off")
    for table in ("child", "pet"):
        orphans = one(cursor, "SELECT count(*), min(c::text) FROM %s c LEFT JOIN parent p ON p.id = c.parent WHERE p.id IS NULL" % table)
        ok(orphans[0] == 0, "no %s is without its parent on server %s" % (table, where), str(orphans))
    for table, key in (("child", "name"), ("parent", "id::text")):
        wrong = one(cursor, """SELECT count(*), min(of) FROM (SELECT %(k)s AS of, 1 AS n FROM %(t)s) x
                               FULL JOIN (SELECT of, sum(CASE what WHEN '+%(t)s' THEN 1 ELSE -1 END) AS n FROM journal
                                          WHERE what IN ('+%(t)s', '-%(t)s') GROUP BY 1) j USING (of)
                               WHERE coalesce(x.n, 0) <> coalesce(j.n, 0)""" % {"k": key, "t": table})
        ok(wrong[0] == 0, "of table %s is there what the journal says on server %s" % (table, where), str(wrong))
    foreign = one(cursor, "SELECT count(*) FROM pet WHERE name NOT IN (SELECT of FROM journal WHERE what = '+pet')")[0]
    ok(foreign == 0, "each pet has come on server %s" % where, str(foreign))
    wrong = one(cursor, """SELECT count(*) FROM (SELECT key, n FROM counter) c
                           FULL JOIN (SELECT of::int AS key, count(*) AS n FROM journal WHERE what = '+count' GROUP BY 1) j USING (key)
                           WHERE c.n IS DISTINCT FROM j.n""")[0]
    ok(wrong == 0, "counters have counted each time on server %s" % where, str(wrong))
    cursor.execute("RESET enable_indexscan; RESET enable_indexonlyscan; RESET enable_bitmapscan")


def happened(cursor):
    """Each kind of change was committed, or the test shows nothing."""
    cursor.execute("SELECT what, count(*) FROM journal WHERE name <> 'load' GROUP BY 1 ORDER BY 1")
    seen = dict(cursor.fetchall())
    print("# journal: " + ", ".join("%s: %d" % e for e in seen.items()))
    missing = {"+child", "-child", "+parent", "-parent", "+pet", "+count"} - set(seen)
    ok(not missing, "parents, children, pets and counts came and went", str(missing))
