"""Rows that come, change and go over several servers that may die at any time, while the number of live ones stays the same.

churn.py load CLIENTS ROWS BULK DIR                     makes the tables and fills them
churn.py run SECONDS CLIENTS ROWS BULK DIR ...          clients over the servers, then the checks on each of them
churn.py copy FROM TO                                   the live rows alone, into tables of another repository

Each client owns ROWS rows of `churn`, numbered, and BULK rows of `bulk`.  A transaction adds the next row, changes the one before it and
takes the oldest away; every fortieth replaces the client's rows of `bulk` instead.  So what must be there afterwards is known to the row:
it follows from how many transactions were committed.  And whoever reads meanwhile finds as many rows of each client, of consecutive numbers, of
which the last one alone was not changed: one reader on each server looks at the same snapshot again and again, with and without indexes.
"""
import io
import sys
import time

import psycopg2

from clients import Client, connect, end, ok, one, patiently, start_all

TABLES = """
    CREATE TABLE churn (client int, n bigint, changed int, body text, PRIMARY KEY (client, n)) USING s3am;
    CREATE TABLE bulk (client int, round bigint, n int, body text, PRIMARY KEY (client, n)) USING s3am;
    CREATE INDEX bulk_body ON bulk USING hash (body);
    """
# text that compresses no better than what people store
BODY = "(SELECT string_agg(md5(%s || '-' || g), ' ') FROM generate_series(1, 4) g)"
BULK = "INSERT INTO bulk SELECT %(c)s, %(r)s, g, md5(%(r)s || '-' || g) || md5(g || '-' || %(c)s) FROM generate_series(1, %(b)s) g"


def load(clients, rows, bulk, directory):
    with connect(directory) as c, c.cursor() as cursor:
        cursor.execute(TABLES)
        for client in range(clients):
            cursor.execute("INSERT INTO churn SELECT %(c)s, i, CASE WHEN i < %(r)s THEN 1 ELSE 0 END, " + BODY % "i::text" +
                           " FROM generate_series(1, %(r)s) i", {"c": client, "r": rows})
            cursor.execute(BULK, {"c": client, "r": 0, "b": bulk})


class Churn(Client):
    others = {"72000"}              # a server whose workers stood still reads what others have collected

    def __init__(self, number, directories, rows, bulk, until):
        super().__init__(number, directories, until)
        self.rows = rows
        self.bulk = bulk
        self.last = rows            # number of the newest row
        self.round = 0              # of the rows in bulk
        self.behind = False         # another server may have told that the last one was committed: this one need not know yet

    def transaction(self, name):
        replace = int(name.split("-")[1]) % 40 == 0
        values = {"c": self.number, "n": self.last + 1, "r": self.round + 1, "b": self.bulk, "old": self.last + 1 - self.rows}
        try:
            cursor = self.connection.cursor()
            cursor.execute("BEGIN")
            if replace:
                cursor.execute("DELETE FROM bulk WHERE client = %(c)s", values)
                cursor.execute(BULK, values)
            else:
                cursor.execute("INSERT INTO churn VALUES (%(c)s, %(n)s, 0, " + BODY % "%(n)s" + ")", values)
                cursor.execute("UPDATE churn SET changed = changed + 1 WHERE client = %(c)s AND n = %(n)s - 1", values)
                if cursor.rowcount == 0 and self.behind:
                    self.told[name] = "aborted"
                    self.errors["statement: not followed yet"] += 1
                    self.again()
                    time.sleep(0.2)
                    return
                if cursor.rowcount != 1:
                    self.surprises.append("client %d: %d rows before %d" % (self.number, cursor.rowcount, self.last + 1))
                cursor.execute("DELETE FROM churn WHERE client = %(c)s AND n = %(old)s", values)
                if cursor.rowcount != 1:
                    self.surprises.append("client %d: %d rows %d" % (self.number, cursor.rowcount, values["old"]))
            cursor.execute("SELECT s3am.commit_id()")
            commit_id = cursor.fetchone()[0]
        except psycopg2.Error as error:
            self.told[name] = "aborted"     # COMMIT was never sent
            # a server that has not followed yet: its rows of the round before are deleted in vain
            if not (replace and error.pgcode == "23505" and error.diag.constraint_name == "bulk_pkey"):
                self.failed(error, "statement")
            self.again()
            return
        self.commit(name, cursor, commit_id)
        # nothing can go on before this one's outcome is known
        while self.told[name] == "unknown" and self.word.get(name) not in ("committed", "aborted"):
            time.sleep(0.2)
            self.ask(name, commit_id)
        if self.told[name] != "aborted":
            self.behind = self.told[name] == "unknown"
        if "committed" in (self.told[name], self.word.get(name)):
            if replace:
                self.round += 1
            else:
                self.last += 1


# of each client: what must be so whenever one looks
SHAPE = """
    SELECT client, count(*), count(DISTINCT n), max(n) - min(n) + 1, count(*) FILTER (WHERE changed = 1), max(n) FILTER (WHERE changed = 0) - max(n)
    FROM churn WHERE client >= 0 GROUP BY 1 ORDER BY 1"""
BULK_SHAPE = "SELECT client, count(*), count(DISTINCT n), max(round) - min(round) FROM bulk WHERE client >= 0 GROUP BY 1 ORDER BY 1"
CONTENT = "SELECT count(*), sum(hashtext(client || '-' || n || '-' || changed)) FROM churn WHERE client >= 0"
PLANS = ("SET LOCAL enable_seqscan = on; SET LOCAL enable_indexscan = off; SET LOCAL enable_bitmapscan = off",
         "SET LOCAL enable_seqscan = off; SET LOCAL enable_indexscan = on; SET LOCAL enable_bitmapscan = off")


class Reader(Client):
    """A snapshot that is looked at for some time."""
    others = {"72000"}
    writes = False

    def __init__(self, number, directories, rows, bulk, clients, until):
        super().__init__(number, directories, until)
        self.shapes = {SHAPE: [(c, rows, rows, rows, rows - 1, 0) for c in range(clients)],
                       BULK_SHAPE: [(c, bulk, bulk, 0) for c in range(clients)]}
        self.looks = 0

    def transaction(self, name):
        contents = []
        try:
            cursor = self.connection.cursor()
            cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            for look in range(self.random.choice([2, 2, 4, 12])):
                cursor.execute(PLANS[look % 2])
                for query in (SHAPE,) if look > 1 else (SHAPE, BULK_SHAPE):
                    cursor.execute(query)
                    found = cursor.fetchall()
                    if found != self.shapes[query]:
                        odd = [(row, wanted) for row, wanted in zip(found, self.shapes[query]) if row != wanted]
                        self.surprises.append("reader on %s, look %d: %s" % (self.where(), look, odd[:3] or found))
                contents.append(one(cursor, CONTENT))
                if contents[0] != contents[-1]:
                    self.surprises.append("reader on %s, look %d: %s was %s" % (self.where(), look, contents[-1], contents[0]))
                self.looks += 1
                time.sleep(self.random.random() * 2)
            cursor.execute("COMMIT")
        except psycopg2.Error as error:
            self.failed(error, "read")
            self.again()

    def where(self):
        return self.directories[self.number % len(self.directories)].rsplit("/", 1)[-1]


def check(threads, rows, bulk, directory):
    cursor = patiently(directory)
    where = directory.rsplit("/", 1)[-1]
    cursor.execute("SELECT client, count(*), count(DISTINCT n), min(n), max(n), count(*) FILTER (WHERE changed = 1) FROM churn GROUP BY 1")
    found = {row[0]: row[1:] for row in cursor}
    wrong = [(t.number, t.last, found.get(t.number)) for t in threads
             if found.get(t.number) != (rows, rows, t.last - rows + 1, t.last, rows - 1)]
    ok(not wrong, "each client's rows are those of its commits on server %s" % where, str(wrong[:3]))
    cursor.execute("SELECT client, count(*), count(DISTINCT n), min(round), max(round) FROM bulk GROUP BY 1")
    found = {row[0]: row[1:] for row in cursor}
    wrong = [(t.number, t.round, found.get(t.number)) for t in threads if found.get(t.number) != (bulk, bulk, t.round, t.round)]
    ok(not wrong, "and those that are replaced as a whole on server %s" % where, str(wrong[:3]))
    for index in ("churn_pkey", "bulk_pkey", "bulk_body"):
        cursor.execute("SELECT problem FROM s3am.index_problems(%s, true)", (index,))
        problems = cursor.fetchall()
        ok(not problems, "and all of them are in %s on server %s" % (index, where), str(problems[:3]))
    return cursor


def run(seconds, clients, rows, bulk, directories):
    until = time.monotonic() + seconds
    threads = [Churn(i, directories, rows, bulk, until) for i in range(clients)]
    readers = [Reader(i, directories, rows, bulk, clients, until) for i in range(len(directories))]
    start_all(threads + readers, seconds)
    looks = sum(reader.looks for reader in readers)
    print("# readers looked %d times" % looks)
    ok(looks > seconds / 20, "there were readers all the time")
    for directory in directories:
        check(threads, rows, bulk, directory)


def copy(source, target):
    with connect(target) as c, c.cursor() as cursor:
        cursor.execute(TABLES)
    for table in ("churn", "bulk"):
        data = io.StringIO()
        patiently(source).copy_expert("COPY %s TO STDOUT" % table, data)
        data.seek(0)
        with connect(target) as c, c.cursor() as cursor:
            cursor.copy_expert("COPY %s FROM STDIN" % table, data)
    ok(one(patiently(target), "SELECT count(*) FROM churn")[0] > 0, "the live rows were copied")


def main(arguments):
    what = arguments[0]
    if what == "load":
        load(int(arguments[1]), int(arguments[2]), int(arguments[3]), arguments[4])
    elif what == "run":
        run(float(arguments[1]), int(arguments[2]), int(arguments[3]), int(arguments[4]), arguments[5:])
    else:
        copy(arguments[1], arguments[2])
    end()


if __name__ == "__main__":
    main(sys.argv[1:])
