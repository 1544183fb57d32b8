"""TPC-B transactions over several servers that may die at any time, and what must hold afterwards.

tpcb.py load BRANCHES ACCOUNTS DIR                      makes the tables and fills them, without keys
tpcb.py more DIR                                        those of family.py beside what pgbench -i has made, with its keys
tpcb.py run SECONDS CLIENTS BRANCHES ACCOUNTS DIR ...   clients over the servers, then the checks on each of them
tpcb.py balance DIR                                     the invariants of the data alone, on a server that was not there

ACCOUNTS are per branch; a branch has 10 tellers.  Each transaction has an id, which is in history.filler.  commit_status is held to its
word.  Where there are keys, half as many clients more change rows that refer to each other, and a quarter as many only read, by key.
"""
import collections
import os
import sys
import time

import psycopg2

import family
import indexes
from clients import Client, connect, end, ok, one, patiently, start_all, told_of

TELLERS = 10


def load(branches, accounts, directory):
    with connect(directory) as c, c.cursor() as cursor:
        cursor.execute("""
            SET default_table_access_method = s3am;
            CREATE TABLE pgbench_branches (bid int NOT NULL, bbalance int, filler char(88));
            CREATE TABLE pgbench_tellers (tid int NOT NULL, bid int, tbalance int, filler char(84));
            CREATE TABLE pgbench_accounts (aid int NOT NULL, bid int, abalance int, filler char(84));
            CREATE TABLE pgbench_history (tid int, bid int, aid int, delta int, mtime timestamp, filler char(22));
            INSERT INTO pgbench_branches SELECT i, 0, '' FROM generate_series(1, %(b)s) i;
            INSERT INTO pgbench_tellers SELECT i, (i - 1) / %(t)s + 1, 0, '' FROM generate_series(1, %(b)s * %(t)s) i;
            INSERT INTO pgbench_accounts SELECT i, (i - 1) / %(a)s + 1, 0, '' FROM generate_series(1, %(b)s * %(a)s) i;
            """, {"b": branches, "t": TELLERS, "a": accounts})


class TpcB(Client):
    def __init__(self, number, directories, branches, accounts, until):
        super().__init__(number, directories, until)
        self.branches = branches
        self.accounts = accounts

    def transaction(self, name):
        branch = self.random.randint(1, self.branches)
        teller = (branch - 1) * TELLERS + self.random.randint(1, TELLERS)
        account = self.random.randint(1, self.branches * self.accounts)
        delta = self.random.randint(-5000, 5000)
        commit_id = None
        try:
            cursor = self.connection.cursor()
            cursor.execute("BEGIN")
            cursor.execute("UPDATE pgbench_accounts SET abalance = abalance + %s WHERE aid = %s", (delta, account))
            if cursor.rowcount != 1:
                self.surprises.append("client %d: %d accounts %d" % (self.number, cursor.rowcount, account))
            cursor.execute("SELECT abalance FROM pgbench_accounts WHERE aid = %s", (account,))
            cursor.execute("UPDATE pgbench_tellers SET tbalance = tbalance + %s WHERE tid = %s", (delta, teller))
            cursor.execute("UPDATE pgbench_branches SET bbalance = bbalance + %s WHERE bid = %s", (delta, branch))
            cursor.execute("INSERT INTO pgbench_history VALUES (%s, %s, %s, %s, now(), %s) RETURNING s3am.commit_id()",
                           (teller, branch, account, delta, name))
            commit_id = cursor.fetchone()[0]
        except psycopg2.Error as error:
            self.told[name] = "aborted"     # COMMIT was never sent
            self.failed(error, "statement")
            self.again()
            return
        self.commit(name, cursor, commit_id)


class Reader(Client):
    """Reads by key: rows are there, and what a snapshot has is of one moment."""
    writes = False

    def __init__(self, number, directories, branches, accounts, until):
        super().__init__(number, directories, until)
        self.branches = branches
        self.accounts = accounts
        self.reads = 0
        self.prepared = None        # the connection that has the statement

    def transaction(self, name):
        branch = self.random.randint(1, self.branches)
        try:
            cursor = self.connection.cursor()
            if self.prepared is not self.connection:
                cursor.execute("PREPARE account (int) AS SELECT abalance FROM pgbench_accounts WHERE aid = $1")
                self.prepared = self.connection
            for _ in range(20):
                account = self.random.randint(1, self.branches * self.accounts)
                cursor.execute("EXECUTE account (%s)", (account,))
                if len(cursor.fetchall()) != 1:
                    self.surprises.append("client %d: %d rows with account %d" % (self.number, cursor.rowcount, account))
            cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY")
            tellers = one(cursor, "SELECT count(*), sum(tbalance) FROM pgbench_tellers WHERE tid BETWEEN %d AND %d" % (
                (branch - 1) * TELLERS + 1, branch * TELLERS))
            balance = one(cursor, "SELECT bbalance FROM pgbench_branches WHERE bid = %d" % branch)
            if tellers != (TELLERS, balance[0]):
                self.surprises.append("client %d: branch %d has %s, its tellers %s" % (self.number, branch, balance, tellers))
            cursor.execute("COMMIT")
            self.reads += 1
        except psycopg2.Error as error:
            self.failed(error, "read")
            self.again()


def has_keys(cursor):
    return one(cursor, "SELECT count(*) FROM pg_class WHERE relname = 'journal' AND relkind = 'r'")[0] == 1


def balance(directory):
    cursor = patiently(directory)
    where = directory.rsplit("/", 1)[-1]
    if has_keys(cursor):
        family.balance(cursor, where)
        indexes.check(cursor, where)
    sums = one(cursor, """SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers),
                                 (SELECT sum(bbalance) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM pgbench_history)""")
    ok(len(set(sums)) == 1, "accounts, tellers, branches and history have one sum on server %s" % where, str(sums))
    for table, key, amount in (("accounts", "aid", "abalance"), ("tellers", "tid", "tbalance"), ("branches", "bid", "bbalance")):
        wrong = one(cursor, """SELECT count(*) FROM (SELECT %(k)s AS k, %(a)s AS a FROM pgbench_%(t)s) x
                               FULL JOIN (SELECT %(k)s AS k, sum(delta) AS a FROM pgbench_history GROUP BY 1) h USING (k)
                               WHERE x.a IS DISTINCT FROM coalesce(h.a, 0)""" % {"k": key, "a": amount, "t": table})[0]
        ok(wrong == 0, "each of the %s has what history says on server %s" % (table, where), "%d differ" % wrong)
    return cursor


def run(seconds, clients, branches, accounts, directories):
    keys = has_keys(patiently(directories[0]))
    until = time.monotonic() + seconds
    threads = [TpcB(i, directories, branches, accounts, until) for i in range(clients)]
    others = [family.Family(1000 + i, directories, until) for i in range(clients // 2 if keys else 0)]
    readers = [Reader(2000 + i, directories, branches, accounts, until) for i in range(clients // 4 if keys else 0)]
    start_all(threads + others + readers, seconds)
    told, word = told_of(threads)
    if keys:
        reads = sum(t.reads for t in readers)
        print("# %d reads of 20 accounts and a branch" % reads)
        ok(reads > len(readers), "rows were read by key")
    if os.environ.get("SOAK_PLANT"):
        cursor = patiently(directories[0])
        cursor.execute("DELETE FROM pgbench_history WHERE trim(filler) = %s", (next(i for i in told if told[i] == "committed"),))
        if keys:
            cursor.execute("ALTER TABLE child DISABLE TRIGGER ALL; INSERT INTO child VALUES ('planted', 0)")
    for directory in directories:
        cursor = balance(directory)
        where = directory.rsplit("/", 1)[-1]
        as_told(cursor, told, word, "SELECT trim(filler) FROM pgbench_history", "transaction", where)
        if keys:
            as_told(cursor, *told_of(others), "SELECT name FROM journal WHERE what = 'was'", "change", where)
    if keys:
        family.happened(cursor)


def as_told(cursor, told, word, query, what, where):
    """Who was told what, against what is there."""
    cursor.execute(query)
    there = collections.Counter(row[0] for row in cursor)
    lost = [i for i, t in told.items() if t == "committed" and there[i] != 1]
    ok(not lost, "every acknowledged %s is there once on server %s" % (what, where), "%d are not: %s" % (len(lost), lost[:5]))
    risen = [i for i, t in told.items() if t == "aborted" and i in there]
    ok(not risen, "no %s that was rolled back is there on server %s" % (what, where), "%d are: %s" % (len(risen), risen[:5]))
    twice = [i for i, n in there.items() if n > 1]
    ok(not twice, "no %s is there twice on server %s" % (what, where), str(twice[:5]))
    foreign = [i for i in there if i not in told]
    ok(not foreign, "nor one that nobody made on server %s" % where, str(foreign[:5]))
    lies = [(i, w) for i, w in word.items() if (w == "committed") != (i in there)]
    ok(not lies, "commit_status kept its word of each %s on server %s" % (what, where), str(lies[:5]))


def main(arguments):
    what = arguments[0]
    if what == "load":
        load(int(arguments[1]), int(arguments[2]), arguments[3])
    elif what == "more":
        with connect(arguments[1]) as c, c.cursor() as cursor:
            family.load(cursor)
    elif what == "run":
        run(float(arguments[1]), int(arguments[2]), int(arguments[3]), int(arguments[4]), arguments[5:])
    else:
        balance(arguments[1])
    end()


main(sys.argv[1:])
