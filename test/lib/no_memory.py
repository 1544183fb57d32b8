"""no_memory.py DIR FILE: statements of a session, where memory runs out at every single allocation of s3am's; see no_memory.c.

What failed is an error that says so, the session goes on, and the table has the rows of those statements that succeeded.
"""
import mmap
import struct
import sys

import psycopg2

directory, name = sys.argv[1:]
with open(name, "r+b") as f:
    control = mmap.mmap(f.fileno(), 12)
failures = 0


def ok(holds, what, detail=""):
    global failures
    failures += not holds
    print("%s - %s%s" % ("ok" if holds else "not ok", what, " # " + detail if detail and not holds else ""), flush=True)


def connect():
    with open(directory + "/port") as f:
        port = f.read().strip()
    c = psycopg2.connect(host=directory, port=port, user="postgres", dbname="test")
    c.autocommit = True
    return c


def fail(pid, at):
    control[0:12] = struct.pack("iii", pid, at, 0)


def seen():
    return struct.unpack("iii", control[0:12])[2]


def session(what, settings, statement, table, rows):
    """Each of its allocations fails once."""
    c = connect()
    cursor = c.cursor()
    cursor.execute("SET s3am.commit_timeout = '20s'; SET statement_timeout = '60s'" + "".join("; SET s3am." + s for s in settings))

    def counted():
        cursor.execute("SELECT count(*) FROM " + table)
        return cursor.fetchone()[0]

    there = counted()
    pid = c.info.backend_pid
    fail(pid, 0)
    cursor.execute(statement)
    n = seen()
    there += rows
    wrong, failed = [], 0
    for at in range(1, n + 20):
        fail(pid, at)
        try:
            cursor.execute(statement)
            there += rows
        except psycopg2.Error as error:
            failed += 1
            if error.pgcode != "53200" and "Cannot allocate memory" not in str(error):
                wrong.append("%d: %s %s" % (at, error.pgcode, str(error).strip()))
        fail(0, 0)
        if c.closed:
            break
        if at % 10 == 0 and counted() != there:
            wrong.append("%d: %d rows, not %d" % (at, counted(), there))
            there = counted()
    ok(not c.closed, "%s: the session lives on" % what, "it died at allocation %d of %d" % (at, n))
    ok(not wrong, "%s: every error says that there was no memory" % what, "; ".join(wrong[:3]))
    ok(n > 0 and (failed > 0 or not settings), "%s: %d allocations, %d of them needed" % (what, n, failed))
    if not c.closed:
        ok(counted() == there, "%s: what succeeded is there, and nothing else" % what, "%d, not %d" % (counted(), there))


load = "INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 4000) i"
session("rows in a manifest", [], "INSERT INTO t VALUES (1, 'x'), (2, 'y')", "t", 2)
session("segments while it runs", ["inline_limit = 0", "segment_size = '64kB'", "transaction_memory = '64kB'"], load, "t", 4000)
session("a segment at the end", ["inline_limit = 0"], load, "t", 4000)
session("a scan", [], "SELECT count(x) FROM cold", "t", 0)
sys.exit(1 if failures else 0)
