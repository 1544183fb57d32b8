"""What clients of servers that may die at any time have in common, and how checks are told.

A client notes what it was told of each transaction: committed, aborted, or unknown (08007, a lost connection); of an unknown one
commit_status is asked.  DIR is a server's directory: its socket is there, and its port in DIR/port.
"""
import collections
import random
import sys
import threading
import time

import psycopg2

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


class Client(threading.Thread):
    """Runs transaction(name) until a time; what a transaction is its subclass says."""
    others = frozenset()            # SQLSTATEs that its statements may fail with besides, and COMMIT, and then nothing is committed
    writes = True

    def __init__(self, number, directories, until):
        super().__init__()
        self.number = number
        self.directories = directories
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
        if state not in ROLLED_BACK and state not in UNKNOWN and state != "lost" and state not in self.others:
            self.surprises.append("client %d, %s: %s %s" % (self.number, where, state, str(error).strip()))

    def commit(self, name, cursor, commit_id):
        self.told[name] = "unknown"
        start = time.monotonic()
        try:
            cursor.execute("COMMIT")
            self.told[name] = "committed" if cursor.statusmessage == "COMMIT" else "aborted"
            self.latencies.append(time.monotonic() - start)
        except psycopg2.Error as error:
            alive = not self.connection.closed
            if alive and (error.pgcode in ROLLED_BACK or error.pgcode in self.others):
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
            cursor.execute("SELECT count(*) FROM pg_class")
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


def told_of(threads):
    """What they were told, and what commit_status said."""
    told, word = {}, {}
    for t in threads:
        told.update(t.told)
        word.update(t.word)
    return told, word


def start_all(threads, seconds):
    """Runs them and returns what they were told, what commit_status said, and their errors."""
    for t in threads:
        t.start()
    for t in threads:
        t.join(seconds + 120)
    stuck = [t.number for t in threads if t.is_alive()]
    ok(not stuck, "every client came to an end", "stuck: %s" % stuck)
    told, word = told_of(threads)
    errors, surprises, latencies = collections.Counter(), [], []
    for t in threads:
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
    ok(count["committed"] > 10 * sum(t.writes for t in threads), "transactions were committed")
    ok(not surprises, "only errors that must be expected", "; ".join(list(dict.fromkeys(surprises))[:10]))
    return told, word


def end():
    sys.stdout.flush()
    if failures:
        sys.exit(1)
