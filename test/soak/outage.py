"""Clients of two servers whose store is away for a while: what they are told meanwhile, and what is there afterwards.

outage.py load CLIENTS ROWS BULK DIR                                makes the tables and fills them
outage.py run BEFORE AWAY AFTER CLIENTS ROWS BULK ENDPOINT DIR DIR  clients over two servers; after BEFORE seconds the proxy at ENDPOINT answers
                                                                    every request by 503, for AWAY seconds; they go on for AFTER seconds
outage.py check DIR                                                 what run noted (on its standard input) is there on a server that was not

Nobody is killed: so no connection is lost, and each error must be one that docs/operations.md promises of such a store.
"""
import collections
import json
import sys
import threading
import time
import urllib.request

import psycopg2

import churn
from churn import Churn
from clients import Client, connect, end, ok, one, patiently, start_all

TABLES = """
    CREATE TABLE log (name text) USING s3am;
    CREATE TABLE still (i int, x text) USING s3am;
    CREATE TABLE cold (i int, x text) USING s3am;
    CREATE TABLE kept (i int, x text) USING s3am;
    CREATE TABLE copied (name text, i int, x text) USING s3am;
    INSERT INTO still SELECT i, 'inline' FROM generate_series(1, 100) i;
    SET s3am.inline_limit = 0;
    INSERT INTO still SELECT i, md5(i::text) FROM generate_series(101, 5000) i;
    INSERT INTO cold SELECT i, md5(i::text) || md5((-i)::text) FROM generate_series(1, %(cold)s) i;
    INSERT INTO kept SELECT i, md5(i::text) FROM generate_series(1, %(kept)s) i;
    RESET s3am.inline_limit;
    """
COLD = 1200000
KEPT = 20000
PAUSE = 0.1             # between transactions: two servers that race each other for every version are another test's affair
RETRY = 5                   # s3am.retry_timeout of these servers, seconds
UPLOAD = 10                 # s3am.upload_timeout of those who do not wait for long
PATIENT_MB = 80             # more than what a session holds in memory of segments that are not written yet, twice
NO_STORE = {"08006", "08007"}   # what a statement fails with that waits for the store


class Times:
    """When the store is away.  `end` is None until it is back."""

    def __init__(self, begin):
        self.begin = begin
        self.end = None

    def when(self, t):
        if t < self.begin:
            return "before"
        return "away" if self.end is None or t < self.end else "after"


class Calm:
    """A client for whom a lost connection, or an epoch that ended, is a surprise."""

    def failed(self, error, where):
        state = error.pgcode or "lost"
        self.errors["%s %s" % (where, state)] += 1
        if state not in NO_STORE and not (state in self.others and "retry" not in where):
            self.surprises.append("client %s, %s: %s %s" % (self.number, where, state, str(error).strip()))

    others = {"40001"}
    done = None

    def commit(self, name, cursor, commit_id):
        super().commit(name, cursor, commit_id)
        if self.told[name] == "committed":
            self.did(time.monotonic())

    def did(self, began):
        """Something went well that began then."""
        self.done = self.done or []
        self.done.append((began, time.monotonic()))


class Changer(Calm, Churn):
    def transaction(self, name):
        super().transaction(name)
        time.sleep(PAUSE)


class Writer(Calm, Client):
    """Goes on with the next row whatever became of the last one."""

    def transaction(self, name):
        cursor = self.connection.cursor()
        try:
            cursor.execute("BEGIN")
            cursor.execute("INSERT INTO log VALUES (%s) RETURNING s3am.commit_id()", (name,))
            commit_id = cursor.fetchone()[0]
        except psycopg2.Error as error:
            self.told[name] = "aborted"
            self.failed(error, "statement")
            self.again()
            return
        self.commit(name, cursor, commit_id)
        time.sleep(PAUSE)


class Definer(Calm, Client):
    """Makes a table and drops it in the next transaction."""
    others = {"40001", "57014"}

    def __init__(self, number, directories, until):
        super().__init__(number, directories, until)
        self.table = 0
        self.there = False

    def transaction(self, name):
        cursor = self.connection.cursor()
        try:
            cursor.execute("BEGIN")
            cursor.execute("DROP TABLE defined_%d" % self.table if self.there else "CREATE TABLE defined_%d (i int) USING s3am" % (self.table + 1))
            cursor.execute("SELECT s3am.commit_id()")
            commit_id = cursor.fetchone()[0]
        except psycopg2.Error as error:
            self.told[name] = "aborted"
            self.failed(error, "definition")
            self.again()
            return
        self.commit(name, cursor, commit_id)
        while self.told[name] == "unknown" and self.word.get(name) not in ("committed", "aborted"):
            time.sleep(0.5)
            self.ask(name, commit_id)
        if "committed" in (self.told[name], self.word.get(name)):
            if not self.there:
                self.table += 1
            self.there = not self.there
        time.sleep(0.5)


def lines(name, first, n):
    tail = "%032x" * 3
    return "".join("%s\t%d\t%s\n" % (name, i, tail % (hash((name, i)) & (1 << 127) - 1, i * 0x9E3779B97F4A7C15 & (1 << 127) - 1, i))
                   for i in range(first, first + n))


class Feed:
    """What COPY reads: so many rows, at most so many of them a second."""

    def __init__(self, name, rows, a_second):
        self.name, self.rows, self.a_second = name, rows, a_second
        self.given, self.rest, self.began = 0, "", time.monotonic()

    def read(self, size=-1):
        if not self.rest and self.given < self.rows:
            n = min(2000, self.rows - self.given)
            wait = self.began + self.given / self.a_second - time.monotonic()
            if wait > 0:
                time.sleep(wait)
            self.rest = lines(self.name, self.given, n)
            self.given += n
        piece, self.rest = self.rest[:size], self.rest[size:]
        return piece


class Copier(Calm, Client):
    """Loads, round after round; patient: one load that waits as long as it takes, which is larger than what is held in memory."""

    def __init__(self, number, directories, until, patient):
        super().__init__(number, directories, until)
        self.patient = patient
        self.rows = PATIENT_MB * 8000 if patient else 40000
        self.copied = {}

    def transaction(self, name):
        name = "copy-" + name
        if self.patient and self.copied:
            time.sleep(1)
            return
        cursor = self.connection.cursor()
        began = time.monotonic()
        commit_id = None
        try:
            cursor.execute("SET statement_timeout = 0; SET s3am.transaction_memory = '%s'; SET s3am.inline_limit = 0" %
                           ("16MB" if self.patient else "1MB"))
            if not self.patient:
                cursor.execute("SET s3am.upload_timeout = '%ds'; SET s3am.segment_size = '1MB'" % UPLOAD)
            cursor.execute("BEGIN")
            cursor.execute("SELECT s3am.commit_id()")
            commit_id = cursor.fetchone()[0]
            self.copied[name] = self.rows
            cursor.copy_expert("COPY copied FROM STDIN", Feed(name, self.rows, 32000))
        except psycopg2.Error as error:
            self.told[name] = "aborted"
            took = time.monotonic() - began
            if error.pgcode == "08006" and not (UPLOAD <= took <= UPLOAD + 2 * RETRY + 10):
                self.surprises.append("a load failed after %.1f s: %s" % (took, str(error).strip()))
            self.failed(error, "COPY")
            self.again()
            time.sleep(1)
            return
        self.commit(name, cursor, commit_id)
        time.sleep(2)


class Reader(Calm, Client):
    """Reads again and again; what may go wrong while the store is away, and after how long, its subclass says."""
    pause = 0.05
    where = "read"
    query = "SELECT count(*), count(DISTINCT x) FROM still"
    answer = (5000, 4901)
    settings = ()
    others = set()
    last_error = ""

    def __init__(self, number, directories, until, times):
        super().__init__(number, directories, until)
        self.times = times
        self.longest = collections.Counter()
        self.reads = collections.Counter()

    def failed(self, error, where):
        super().failed(error, where)
        if self.times.when(time.monotonic()) == "before":
            self.surprises.append("client %s: %s %s before the store was away" % (self.number, where, error.pgcode))

    def transaction(self, name):
        began = time.monotonic()
        try:
            cursor = self.connection.cursor()
            for setting in self.settings:
                cursor.execute(setting)
            cursor.execute(self.query)
            found = cursor.fetchone()
            if found != self.answer:
                self.surprises.append("client %s: %s, not %s" % (self.number, found, self.answer))
            self.did(began)
            self.reads[self.times.when(began)] += 1
        except psycopg2.Error as error:
            self.last_error = str(error).strip()
            self.failed(error, self.where)
            self.again()
        when = self.times.when(began)
        self.longest[when] = max(self.longest[when], time.monotonic() - began)
        time.sleep(self.pause)


class ColdReader(Reader):
    """Each time some rows that nobody here has read before."""
    pause = 1
    where = "cold read"
    query = "SELECT count(x), count(*) FROM cold WHERE ctid >= '(0,1)' AND ctid < '(5,1)'"
    answer = (5 * 291, 5 * 291)
    block = 0

    def did(self, began):
        super().did(began)
        self.block += 20
        self.query = "SELECT count(x), count(*) FROM cold WHERE ctid >= '(%d,1)' AND ctid < '(%d,1)'" % (self.block, self.block + 5)


class LatestReader(Reader):
    pause = 1
    where = "read of the newest version"
    query = "SELECT count(*), count(DISTINCT x) FROM still"
    settings = ("SET statement_timeout = '20s'", "SET s3am.freshness = latest")
    others = {"57014"}


class Snapshot(threading.Thread):
    """A transaction that sees the rows of `kept` before and after the store was away, though they are deleted, merged and past their retention."""

    def __init__(self, reader, deleter, until):
        super().__init__()
        self.reader, self.deleter, self.until = reader, deleter, until
        self.seen = []
        self.error = None

    def run(self):
        try:
            c = connect(self.reader)
            cursor = c.cursor()
            cursor.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
            self.seen.append(one(cursor, "SELECT count(*), count(DISTINCT x) FROM still"))
            d = connect(self.deleter)
            deleting = d.cursor()
            deleting.execute("DELETE FROM kept WHERE i % 10 > 0")
            deleting.execute("VACUUM kept")
            d.close()
            while time.monotonic() < self.until:
                time.sleep(0.2)
            cursor.execute("SET statement_timeout = '60s'")
            self.seen.append(one(cursor, "SELECT count(*), count(DISTINCT x) FROM kept"))
            c.close()
        except psycopg2.Error as error:
            self.error = "%s %s" % (error.pgcode, str(error).strip())


def proxy(endpoint, path, method="PUT"):
    with urllib.request.urlopen(urllib.request.Request(endpoint + "/-/" + path, method=method)) as answer:
        return answer.read().decode()


def switch(endpoint, times, away):
    """Takes the store away and gives it back."""
    while time.monotonic() < times.begin:
        time.sleep(0.05)
    proxy(endpoint, "refuse/-1")
    print("# away", flush=True)
    while time.monotonic() < times.begin + away:
        time.sleep(0.05)
    refused = int(proxy(endpoint, "refused", "GET"))
    proxy(endpoint, "refuse/0")
    times.end = time.monotonic()
    print("# back", flush=True)
    print("# requests refused: %d, %.1f a second" % (refused, refused / away), flush=True)


def load(clients, rows, bulk, directory):
    churn.load(clients, rows, bulk, directory)
    with connect(directory) as c, c.cursor() as cursor:
        cursor.execute("SET statement_timeout = 0")
        cursor.execute(TABLES, {"cold": COLD, "kept": KEPT})


def check(word, directory):
    """What is there is what was told."""
    cursor = patiently(directory)
    where = directory.rsplit("/", 1)[-1]
    cursor.execute("SELECT name, count(*) FROM log GROUP BY 1")
    found = dict(cursor)
    rows = word["log"]
    lost = [n for n, w in rows.items() if w == "committed" and found.get(n) != 1]
    more = [n for n in found if rows.get(n) == "aborted" or n not in rows or found[n] > 1]
    ok(not lost and not more, "each row that was acknowledged is there once, and none that failed, on server %s" % where,
       "%d lost, %d too many: %s" % (len(lost), len(more), (lost + more)[:3]))
    cursor.execute("SELECT name, count(*), count(DISTINCT i) FROM copied GROUP BY 1")
    found = {name: (n, m) for name, n, m in cursor}
    wrong = [(n, w, found.get(n)) for n, (w, rows) in word["copied"].items()
             if w == "committed" and found.get(n) != (rows, rows) or w == "aborted" and n in found or
             found.get(n, (rows, rows)) != (rows, rows)]
    ok(not wrong, "each load is there as a whole or not at all, as it was told, on server %s" % where, str(wrong[:3]))
    cursor.execute("SELECT relname FROM pg_class WHERE relname ~ '^defined_'")
    found = [row[0] for row in cursor]
    ok(found == word["defined"], "so is each table on server %s" % where, "%s, not %s" % (found, word["defined"]))
    return cursor


def run(before, away, after, clients, rows, bulk, endpoint, directories):
    begin = time.monotonic() + before
    times = Times(begin)
    until = begin + away + after
    changers = [Changer(i, directories, rows, bulk, until) for i in range(clients)]
    writers = [Writer(i, directories, until) for i in range(100, 100 + clients)]
    definer = Definer(201, directories, until)
    copiers = [Copier(300, directories, until, True), Copier(301, directories, until, False)]
    readers = [Reader(i, directories, until, times) for i in range(400, 404)]
    cold = [ColdReader(i, directories, until, times) for i in (500, 501)]
    latest = [LatestReader(i, directories, until, times) for i in (600, 601)]
    snapshot = Snapshot(directories[1], directories[0], begin + away + after / 2)
    for thread, late in ((copiers[0], 5), (snapshot, 12)):
        thread.start_at = begin - late
    switcher = threading.Thread(target=switch, args=(endpoint, times, away))

    def wait_and_begin(thread):
        time.sleep(max(thread.start_at - time.monotonic(), 0))
        thread.start()

    starters = [threading.Thread(target=wait_and_begin, args=(thread,)) for thread in (copiers[0], snapshot)]
    for thread in starters + [switcher]:
        thread.start()
    word = start_all(changers + writers + [definer, copiers[1]] + readers + cold + latest, before + away + after)
    for thread in starters:
        thread.join()
    copiers[0].join(120)
    snapshot.join(120)
    switcher.join()
    told, said = dict(word[0]), dict(word[1])
    told.update(copiers[0].told)
    said.update(copiers[0].word)
    ok(not copiers[0].surprises and not copiers[0].errors, "the patient load had no error", str(copiers[0].surprises or dict(copiers[0].errors)))

    def outcome(name):
        return said.get(name) if told[name] == "unknown" else told[name]

    # what was going on
    for kind, threads, most in (("changes", changers, None), ("writes", writers, None), ("schema changes", [definer], None),
                                ("loads", [copiers[1]], None), ("the patient load", [copiers[0]], None), ("cached reads", readers, 3),
                                ("cold reads", cold, RETRY + 10), ("reads of the newest", latest, 25)):
        done = [d for t in threads for d in t.done or []]
        first = [min((e for b, e in t.done or [] if e > times.end), default=None) for t in threads]
        count = collections.Counter(times.when(e) for b, e in done)
        took = max((t.longest["away"] for t in threads), default=0) if most else 0
        print("# %s: %d before, %d while it was away, %d after; the last of them works again %s s after its end%s" %
              (kind, count["before"], count["away"], count["after"], "?" if None in first else "%.1f" % (max(first) - times.end),
               "; the longest took %.1f s meanwhile" % took if most else ""))
        ok(None not in first and max(first) - times.end <= 60, "%s go on within a minute after its end" % kind, str(first))
        if most:
            ok(took <= most, "%s end within %d s while it is away" % (kind, most), "%.1f" % took)
    ok(all(t.reads["away"] > away and not t.errors for t in readers), "cached data is read all the time, without an error",
       str([(t.reads["away"], dict(t.errors), t.last_error) for t in readers]))
    everybody = changers + writers + [definer] + copiers + readers + cold + latest
    refused = collections.Counter(e for t in everybody for e in t.errors if e.startswith("connect"))
    ok(not refused, "sessions begin all the time", str(dict(refused)))
    ok(all(t.errors for t in cold), "what is not cached could not be read", str([dict(t.errors) for t in cold]))
    late = [n for t in changers + writers + copiers + [definer] for b, e in t.done or [] if times.begin + 3 < e < times.end for n in [e - times.begin]]
    ok(not late, "no commit was acknowledged that no store can have", str(late[:3]))
    ok(snapshot.error is None and snapshot.seen == [(5000, 4901), (KEPT, KEPT)], "an old snapshot is whole afterwards",
       snapshot.error or str(snapshot.seen))

    word = {"log": {n: outcome(n) for t in writers for n in t.told},
            "copied": {n: (outcome(n), rows) for t in copiers for n, rows in t.copied.items()},
            "defined": ["defined_%d" % definer.table] if definer.there else []}
    for directory in directories:
        check(word, directory)
        churn.check(changers, rows, bulk, directory)
    with open(directories[0] + "/../word", "w") as f:
        json.dump(word, f)


def main(arguments):
    what = arguments[0]
    if what == "load":
        load(int(arguments[1]), int(arguments[2]), int(arguments[3]), arguments[4])
    elif what == "run":
        run(*map(float, arguments[1:4]), *map(int, arguments[4:7]), arguments[7], arguments[8:])
    else:
        check(json.load(sys.stdin), arguments[1])
    end()


if __name__ == "__main__":
    main(sys.argv[1:])
