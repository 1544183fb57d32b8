"""TPC-B transactions over several servers that may die at any time, and what must hold afterwards.

tpcb.py load BRANCHES ACCOUNTS DIR                      makes the tables and fills them, without keys
tpcb.py run SECONDS CLIENTS BRANCHES ACCOUNTS DIR ...   clients over the servers, then the checks on each of them
tpcb.py balance DIR                                     the invariants of the data alone, on a server that was not there

DIR is a server's directory: its socket is there, and its port in DIR/port.  ACCOUNTS are per branch; a branch has 10 tellers.

Each transaction has an id, which is in history.filler.  A client notes what it was told: committed, rolled back, or nothing
(08007, a lost connection).  Where commit_status can be asked it is, and is held to its word.
"""
import collections
import os
import random
import sys
import threading
import time

import psycopg2

TELLERS = 10
# what COMMIT may fail with and be certain that nothing is committed
ROLLED_BACK = {"40001", "40P01", "57014", "08006", "57P03", "25006"}
UNKNOWN = {"08007", "57P01", "57P02", "08003", None}


def connect(directory, **more):
    with open(directory + "/port") as f:
        port = f.read().strip()
    connection = psycopg2.connect(host=directory, port=port, user="postgres", dbname="test", connect_timeout=5,
                                  options="-c s3am.commit_timeout=15s -c s3am.attach_timeout=30s -c statement_timeout=30s",
                                  **more)
    connection.autocommit = True
    return connection


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


class Client(threading.Thread):
    def __init__(self, number, directories, branches, accounts, until):
        super().__init__()
        self.number = number
        self.directories = directories
        self.branches = branches
        self.accounts = accounts
        self.until = until
        self.random = random.Random(number)
        self.connection = None
        self.told = {}              # id: committed, aborted, unknown
        self.word = {}              # id: what commit_status said of an unknown one
        self.errors = collections.Counter()
        self.surprises = []
        self.latencies = []

    def drop(self):
        try:
            if self.connection is not None:
                self.connection.close()
        except psycopg2.Error:
            pass
        self.connection = None

    def failed(self, error, where):
        state = error.pgcode
        if state is None and self.connection is not None and self.connection.closed:
            state = "lost"
        self.errors["%s %s" % (where, state or "lost")] += 1
        if state not in ROLLED_BACK and state not in UNKNOWN and state != "lost":
            self.surprises.append("client %d, %s: %s %s" % (self.number, where, state, str(error).strip()))

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
        self.told[name] = "unknown"
        start = time.monotonic()
        try:
            cursor.execute("COMMIT")
            self.told[name] = "committed" if cursor.statusmessage == "COMMIT" else "aborted"
            self.latencies.append(time.monotonic() - start)
        except psycopg2.Error as error:
            alive = not self.connection.closed
            if alive and error.pgcode in ROLLED_BACK:
                self.told[name] = "aborted"
            self.failed(error, "COMMIT")
            self.again()
            if self.told[name] == "unknown":
                self.ask(name, commit_id)

    def again(self):
        if self.connection.closed:
            self.drop()
            return
        try:
            self.connection.cursor().execute("ROLLBACK")
        except psycopg2.Error:
            self.drop()

    def ask(self, name, commit_id):
        """Any server may be asked; without an answer the transaction stays unknown."""
        for directory in self.directories:
            try:
                c = connect(directory)
                try:
                    cursor = c.cursor()
                    cursor.execute("SELECT status FROM s3am.commit_status(%s, true)", (commit_id,))
                    self.word[name] = cursor.fetchone()[0]
                    return
                finally:
                    c.close()
            except psycopg2.Error as error:
                self.errors["commit_status %s" % (error.pgcode or "lost")] += 1

    def run(self):
        n = 0
        while time.monotonic() < self.until:
            try:
                if self.connection is None:
                    self.connection = connect(self.directories[self.number % len(self.directories)])
            except (psycopg2.Error, OSError) as error:
                self.errors["connect %s" % (getattr(error, "pgcode", None) or "refused")] += 1
                time.sleep(0.2)
                continue
            n += 1
            self.transaction("%d-%d" % (self.number, n))
            if n % 50 == 0:
                self.drop()         # new sessions as well
        self.drop()


def one(cursor, query):
    cursor.execute(query)
    return cursor.fetchone()


def patiently(directory):
    """A server may just be recovering."""
    for _ in range(120):
        try:
            c = connect(directory)
            cursor = c.cursor()
            cursor.execute("SET s3am.freshness = latest")
            cursor.execute("SET statement_timeout = '120s'")
            cursor.execute("SELECT count(*) FROM pgbench_branches")
            return cursor
        except (psycopg2.Error, OSError) as error:
            last = error
            time.sleep(1)
    raise SystemExit("not ok - %s does not answer: %s" % (directory, last))


failures = 0


def ok(holds, what, detail=""):
    global failures
    if not holds:
        failures += 1
    print("%s - %s%s" % ("ok" if holds else "not ok", what, " # " + detail if detail and not holds else ""), flush=True)


def balance(directory):
    cursor = patiently(directory)
    where = directory.rsplit("/", 1)[-1]
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
    until = time.monotonic() + seconds
    threads = [Client(i, directories, branches, accounts, until) for i in range(clients)]
    for t in threads:
        t.start()
    for t in threads:
        t.join(seconds + 120)
    stuck = [t.number for t in threads if t.is_alive()]
    ok(not stuck, "every client came to an end", "stuck: %s" % stuck)
    told, word, errors, surprises, latencies = {}, {}, collections.Counter(), [], []
    for t in threads:
        told.update(t.told)
        word.update(t.word)
        errors.update(t.errors)
        surprises += t.surprises
        latencies += t.latencies
    count = collections.Counter(told.values())
    latencies.sort()
    print("# %d committed, %d rolled back, %d not told; %.0f commits/s, p50 %.1f ms" %
          (count["committed"], count["aborted"], count["unknown"], count["committed"] / seconds,
           1000 * latencies[len(latencies) // 2] if latencies else 0))
    print("# errors: " + ", ".join("%s: %d" % e for e in sorted(errors.items())))
    print("# commit_status said: " + ", ".join("%s: %d" % e for e in sorted(collections.Counter(word.values()).items())))
    ok(count["committed"] > 10 * clients, "transactions were committed")
    ok(not surprises, "only errors that must be expected", "; ".join(surprises[:3]))
    if os.environ.get("SOAK_PLANT"):
        cursor = patiently(directories[0])
        cursor.execute("DELETE FROM pgbench_history WHERE trim(filler) = %s", (next(i for i in told if told[i] == "committed"),))
    for directory in directories:
        cursor = balance(directory)
        where = directory.rsplit("/", 1)[-1]
        cursor.execute("SELECT trim(filler) FROM pgbench_history")
        there = collections.Counter(row[0] for row in cursor)
        lost = [i for i, t in told.items() if t == "committed" and there[i] != 1]
        ok(not lost, "every acknowledged transaction is there once on server %s" % where, "%d are not: %s" % (len(lost), lost[:5]))
        risen = [i for i, t in told.items() if t == "aborted" and i in there]
        ok(not risen, "none that was rolled back is there on server %s" % where, "%d are: %s" % (len(risen), risen[:5]))
        twice = [i for i, n in there.items() if n > 1]
        ok(not twice, "none is there twice on server %s" % where, str(twice[:5]))
        foreign = [i for i in there if i not in told]
        ok(not foreign, "nor one that nobody made on server %s" % where, str(foreign[:5]))
        lies = [(i, w) for i, w in word.items() if (w == "committed") != (i in there)]
        ok(not lies, "commit_status kept its word on server %s" % where, str(lies[:5]))


def main(arguments):
    what = arguments[0]
    if what == "load":
        load(int(arguments[1]), int(arguments[2]), arguments[3])
    elif what == "run":
        run(float(arguments[1]), int(arguments[2]), int(arguments[3]), int(arguments[4]), arguments[5:])
    else:
        balance(arguments[1])
    sys.stdout.flush()
    if failures:
        sys.exit(1)


main(sys.argv[1:])
