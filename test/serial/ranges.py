"""ranges.py [option ...] DIR DIR: SERIALIZABLE on two servers, by indexes, against a serial execution.

Sessions on both servers run short random transactions on a few keys.  A transaction that commits takes its place in the order of commits
(s3am.commit_status; those of one version in any order): what each of them read and did must be what a model does that runs them one
after the other.  Those that only read must fit somewhere in that order.

--level 'REPEATABLE READ' must be found out: then the program has done its work.
"""
import argparse
import itertools
import random
import sys
import threading
import time

import psycopg2

KEYS = 12
GROUPS = 8

# how a group's number is written as a value of the indexed column, in the order of numbers
TYPES = {
    "int": ("int", "", lambda g: str(g * 3 - 10)),
    "bigint desc": ("bigint", "DESC", lambda g: str(g * 10**12 - 4 * 10**12)),
    "smallint nulls first": ("smallint", "NULLS FIRST", lambda g: str(g - 4)),
    "text C": ('text COLLATE "C"', "", lambda g: "'" + "abcdefghij"[g] * (g % 3 + 1) + "'"),
    "text C desc": ('text COLLATE "C"', "DESC NULLS LAST", lambda g: "'" + "abcdefghij"[g] * (g % 3 + 1) + "'"),
    "text": ("text", "", lambda g: "'" + "abcdefghij"[g] + "'"),
    "numeric": ("numeric", "", lambda g: ["-30000.5", "-2.25", "-2.2", "0", "0.0001", "1.5", "20000", "1e40"][g]),
    "float": ("float8", "DESC", lambda g: "'" + ["-infinity", "-1e10", "-0.5", "0", "1e-30", "3", "infinity", "NaN"][g] + "'"),
    "date": ("date", "", lambda g: "date '1999-12-28' + %d" % g),
    "uuid": ("uuid", "", lambda g: "'%08x-0000-0000-0000-0000000000%02x'" % (g // 3, g)),
    "bytea": ("bytea", "", lambda g: "'" + ["\\x", "\\x00", "\\x0000", "\\x0001", "\\x01", "\\x0100", "\\xff", "\\xff00"][g] + "'"),
    "name": ("name", "", lambda g: "'" + "abcdefghij"[g] * 2 + "'"),
}


# ---------------------------------------------------------------- operations: SQL, and what a model does

class Op:
    """what: a name; args; result as the server gave it."""

    def __init__(self, rnd, me, number):
        self.me = me * 1000000 + number     # a value that nobody else writes
        self.kind = rnd.choice(["point", "range", "range", "limit", "back", "group", "group range", "in", "row", "max", "min", "null",
                                "bitmap", "insert", "insert", "update", "move", "regroup", "delete", "delete group", "cursor"])
        self.a = rnd.randrange(KEYS)
        self.b = min(KEYS, self.a + rnd.randint(0, 3))
        self.g = rnd.randrange(GROUPS)
        self.h = min(GROUPS - 1, self.g + rnd.randint(0, 2))
        self.n = rnd.randint(1, 2)
        self.null = rnd.random() < 0.1
        self.result = None

    def writes(self):
        return self.kind in ("insert", "update", "move", "regroup", "delete", "delete group")

    def sql(self, lit):
        g, h = lit(self.g), lit(self.h)
        new = "NULL, NULL" if self.null else "%s, %d" % (g, self.g)
        rows = "SELECT k, gi, v FROM t WHERE "
        return {
            "point": rows + "k = %d" % self.a,
            "range": rows + "k >= %d AND k < %d ORDER BY k" % (self.a, self.b),
            "limit": rows + "k > %d ORDER BY k LIMIT %d" % (self.a, self.n),
            "back": rows + "k <= %d ORDER BY k DESC LIMIT %d" % (self.a, self.n),
            "cursor": rows + "k >= %d ORDER BY k LIMIT %d" % (self.a, self.n),
            "group": rows + "g = %s ORDER BY k" % g,
            "group range": rows + "g >= %s AND g <= %s ORDER BY k" % (g, h),
            "in": rows + "k IN (%d, %d, %d) ORDER BY k" % (self.a, self.b, (self.a + 5) % KEYS),
            "row": rows + "(g, k) > (%s, %d) AND g <= %s ORDER BY k" % (g, self.a, h),
            "max": "SELECT max(k) FROM t WHERE k < %d" % self.b,
            "min": "SELECT min(k) FROM t WHERE k > %d" % self.a,
            "null": rows + "g IS NULL ORDER BY k",
            "bitmap": rows + "k = %d OR g = %s ORDER BY k" % (self.a, g),
            "insert": "INSERT INTO t VALUES (%d, %s, %d) ON CONFLICT DO NOTHING" % (self.a, new, self.me),
            "update": "UPDATE t SET v = %d WHERE k >= %d AND k < %d" % (self.me, self.a, self.b),
            "regroup": "UPDATE t SET (g, gi) = ROW(%s) WHERE k = %d" % (new, self.a),
            "move": "UPDATE t SET k = %d WHERE k = %d AND NOT EXISTS (SELECT FROM t WHERE k = %d)" % (self.b % KEYS, self.a, self.b % KEYS),
            "delete": "DELETE FROM t WHERE k = %d" % self.a,
            "delete group": "DELETE FROM t WHERE g = %s" % g,
        }[self.kind]

    def run(self, t):
        """On a model: key -> (group, value).  What the statement gives: rows, or a number of rows."""
        def rows(keep):
            return [(k,) + t[k] for k in sorted(t) if keep(k, t[k][0])]
        new = (None if self.null else self.g)
        a, b, g, h = self.a, self.b, self.g, self.h
        if self.kind == "point":
            return rows(lambda k, x: k == a)
        if self.kind == "range":
            return rows(lambda k, x: a <= k < b)
        if self.kind == "limit":
            return rows(lambda k, x: k > a)[:self.n]
        if self.kind == "cursor":
            return rows(lambda k, x: k >= a)[:self.n]
        if self.kind == "back":
            return rows(lambda k, x: k <= a)[::-1][:self.n]
        if self.kind == "group":
            return rows(lambda k, x: x == g)
        if self.kind == "group range":
            return rows(lambda k, x: x is not None and g <= x <= h)
        if self.kind == "in":
            return rows(lambda k, x: k in (a, b, (a + 5) % KEYS))
        if self.kind == "row":
            return rows(lambda k, x: x is not None and (x, k) > (g, a) and x <= h)
        if self.kind == "max":
            return [(max((k for k in t if k < b), default=None),)]
        if self.kind == "min":
            return [(min((k for k in t if k > a), default=None),)]
        if self.kind == "null":
            return rows(lambda k, x: x is None)
        if self.kind == "bitmap":
            return rows(lambda k, x: k == a or x == g)
        if self.kind == "insert":
            if a in t:
                return 0
            t[a] = (new, self.me)
            return 1
        found = {"update": lambda k: a <= k < b, "regroup": lambda k: k == a, "delete": lambda k: k == a,
                 "move": lambda k: k == a and b % KEYS not in t, "delete group": lambda k: t[k][0] == g}[self.kind]
        keys = [k for k in sorted(t) if found(k)]
        for k in keys:
            if self.kind == "update":
                t[k] = (t[k][0], self.me)
            elif self.kind == "regroup":
                t[k] = (new, t[k][1])
            elif self.kind == "move":
                t[b % KEYS] = t.pop(k)
            else:
                del t[k]
        return len(keys)


class Transaction:
    def __init__(self, ops, id):
        self.ops = ops
        self.id = id
        self.version = None

    def fits(self, model):
        """Does it do on the model what it did?  The model afterwards, or None."""
        after = dict(model)
        for op in self.ops:
            if op.run(after) != op.result:
                return None
        return after

    def leaves_something(self):
        """Certainly: it may have removed what it had added."""
        kinds = [op.kind for op in self.ops if op.writes() and op.result]
        return bool(kinds) and not any(kind.startswith("delete") for kind in kinds)

    def __str__(self):
        return "%s in version %s: %s" % (self.id, self.version, "; ".join("%s -> %s" % (op.sql(lambda g: "#%d" % g), op.result) for op in self.ops))


# ---------------------------------------------------------------- sessions

class Session(threading.Thread):
    def __init__(self, number, directory, options):
        super().__init__()
        self.number = number
        self.directory = directory
        self.options = options
        self.random = random.Random(options.seed * 1000 + number)
        self.done = []
        self.failed = 0
        # with older snapshots a key may have come since NOT EXISTS
        self.expected = ("40001", "40P01") + (() if options.level == "SERIALIZABLE" else ("23505",))
        self.surprises = []

    def run(self):
        try:
            self.work()
        except Exception as error:           # told by the main thread
            self.surprises.append(repr(error))

    def work(self):
        options = self.options
        with open(self.directory + "/port") as f:
            connection = psycopg2.connect(host=self.directory, port=f.read().strip(), user="postgres", dbname="test")
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute("SET enable_seqscan = off; SET enable_sort = %s; SET statement_timeout = '60s'" % self.random.choice(["on", "off"]))
        for kind in ("indexscan", "bitmapscan", "indexonlyscan"):
            if self.random.random() < 0.3:
                cursor.execute("SET enable_%s = off" % kind)
        lit = TYPES[options.type][2]
        number = 0
        while time.time() < options.until:
            number += 1
            ops = [Op(self.random, self.number + 1, number * 10 + i) for i in range(self.random.randint(1, 4))]
            if self.random.random() < 0.8 and not any(op.writes() for op in ops):
                continue
            try:
                # one that is a single statement has its snapshot before anybody could wait for a newer one
                if len(ops) == 1 and ops[0].kind != "cursor" and not ops[0].writes():
                    cursor.execute("SET default_transaction_isolation = '%s'" % options.level.lower())
                    cursor.execute(ops[0].sql(lit))
                    ops[0].result = cursor.fetchall()
                    self.done.append(Transaction(ops, None))
                    continue
                cursor.execute("BEGIN ISOLATION LEVEL " + options.level)
                cursor.execute("SELECT s3am.commit_id()")
                id = cursor.fetchone()[0]
                for op in ops:
                    saved = self.random.random() < 0.15 and not op.writes()
                    if saved:
                        cursor.execute("SAVEPOINT s")
                    if op.kind == "cursor":
                        cursor.execute("DECLARE c%d SCROLL CURSOR FOR %s" % (op.me, op.sql(lit).split(" LIMIT")[0]))
                        cursor.execute("FETCH %d FROM c%d" % (op.n, op.me))
                        op.result = cursor.fetchall()
                    else:
                        cursor.execute(op.sql(lit))
                        op.result = cursor.rowcount if op.writes() else cursor.fetchall()
                    if saved:
                        cursor.execute("ROLLBACK TO s")
                    if self.random.random() < 0.3:
                        time.sleep(self.random.random() * 0.02)
                cursor.execute("COMMIT")
                self.done.append(Transaction(ops, id))
            except psycopg2.Error as error:
                if error.pgcode not in self.expected:
                    self.surprises.append("%s %s" % (error.pgcode, error))
                    return
                self.failed += 1
                cursor.execute("ROLLBACK")
        cursor.execute("RESET default_transaction_isolation")
        for transaction in self.done:
            if transaction.id is None:
                continue
            cursor.execute("SELECT status, version FROM s3am.commit_status(%s)", (transaction.id,))
            status, transaction.version = cursor.fetchone()
            # one that left nothing has no version
            if status != "committed" and transaction.leaves_something():
                self.surprises.append("%s is %s" % (transaction, status))
        connection.close()


# ---------------------------------------------------------------- the order

def explain(transactions, start):
    """None, or what is wrong.  transactions: those that committed."""
    models = [start]
    by_version = {}
    for t in transactions:
        if t.version is not None:
            by_version.setdefault(t.version, []).append(t)
    for version in sorted(by_version):
        members = by_version[version]
        for order in itertools.permutations(members):
            states = [models[-1]]
            for t in order:
                after = t.fits(states[-1])
                if after is None:
                    break
                states.append(after)
            else:
                models += states[1:]
                break
        else:
            return "no order explains version %d, after %s\n  %s" % (version, models[-1], "\n  ".join(map(str, members)))
    for t in transactions:
        if t.version is None and not any(t.fits(model) is not None for model in models):
            return "fits nowhere: %s" % t
    return None


def drop(cursor):
    """The table of the round before: the other server's last commits may be yet to come here, and DROP TABLE loses against them."""
    for _ in range(50):
        try:
            cursor.execute("DROP TABLE IF EXISTS t")
            return
        except psycopg2.errors.SerializationFailure:
            time.sleep(0.1)
    raise SystemExit("not ok - the table cannot be dropped")


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--sessions", type=int, default=6)
    parser.add_argument("--level", default="SERIALIZABLE")
    parser.add_argument("--type", default=None, choices=sorted(TYPES))
    parser.add_argument("directories", nargs="+")
    options = parser.parse_args()
    kinds = sorted(TYPES) if options.type is None else [options.type]
    committed = failed = found = 0
    for round, kind in enumerate(kinds):
        options.type = kind
        type, order, lit = TYPES[kind]
        with open(options.directories[0] + "/port") as f:
            connection = psycopg2.connect(host=options.directories[0], port=f.read().strip(), user="postgres", dbname="test")
        connection.autocommit = True
        cursor = connection.cursor()
        drop(cursor)
        cursor.execute("CREATE TABLE t (k int PRIMARY KEY, g %s, gi int, v int) USING s3am" % type)
        cursor.execute("CREATE INDEX ON t (g %s, k %s)" % (order, "DESC" if "DESC" in order else ""))
        start = {}
        for k in range(0, KEYS, 2):
            start[k] = (k % GROUPS, k)
            cursor.execute("INSERT INTO t VALUES (%d, %s, %d, %d)" % (k, lit(k % GROUPS), k % GROUPS, k))
        # the other server has it when it has this
        for directory in options.directories[1:]:
            with open(directory + "/port") as f:
                other = psycopg2.connect(host=directory, port=f.read().strip(), user="postgres", dbname="test")
            other.autocommit = True
            for _ in range(300):
                try:
                    with other.cursor() as c:
                        c.execute("SET s3am.freshness = latest")
                        c.execute("SELECT count(*), count(g) FROM t")
                        if c.fetchone()[0] == len(start):
                            break
                except psycopg2.Error:
                    pass
                time.sleep(0.1)
            other.close()
        options.until = time.time() + options.seconds / len(kinds)
        options.seed += 1
        sessions = [Session(n, options.directories[n % len(options.directories)], options) for n in range(options.sessions)]
        for s in sessions:
            s.start()
        for s in sessions:
            s.join()
        transactions = [t for s in sessions for t in s.done]
        for s in sessions:
            for surprise in s.surprises:
                print("not ok - session %d: %s" % (s.number, surprise))
                sys.exit(1)
        wrong = explain(transactions, start)
        connection.close()
        committed += len(transactions)
        failed += sum(s.failed for s in sessions)
        print("# %s: %d committed, %d of them only read, %d failed" % (kind, len(transactions), sum(t.version is None for t in transactions),
                                                                        sum(s.failed for s in sessions)), flush=True)
        if wrong:
            found += 1
            print("# seed %d, %s: %s" % (options.seed, kind, wrong))
            if options.level == "SERIALIZABLE":
                break
    if options.level == "SERIALIZABLE":
        print("%s - a serial order explains %d transactions on two servers (%d failed)" % ("not ok" if found else "ok", committed, failed))
        sys.exit(1 if found else 0)
    print("%s - %s is found out: no serial order explains its transactions" % ("ok" if found else "not ok", options.level))
    sys.exit(0 if found else 1)


main()
