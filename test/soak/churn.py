"""Rows that come, change and go over several servers that may die at any time, while the number of live ones stays the same.

churn.py load CLIENTS ROWS BULK DIR                     makes the tables and fills them
churn.py run SECONDS CLIENTS ROWS BULK DIR ...          clients over the servers, then the checks on each of them
churn.py copy FROM TO                                   the live rows alone, into tables of another repository

Each client owns ROWS rows of `churn`, numbered, and BULK rows of `bulk`.  A transaction adds the next row, changes the one before it and
takes the oldest away; every fortieth replaces the client's rows of `bulk` instead.  So what must be there afterwards is known to the row:
it follows from how many transactions were committed.
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
    start_all(threads, seconds)
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
