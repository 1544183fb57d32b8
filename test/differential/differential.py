#!/usr/bin/python3
"""The same random statements on two databases; every answer must be the same.

  differential.py [options] DSN DSN

The first database is the model (heap), the second is tried.  Several sessions run step by step: each step is one statement
of one session, and the next comes only when both databases have nothing to do any more but to wait for other sessions.  So
a wait is an answer, too.  A seed determines everything; a difference is printed with what led to it.
"""
import argparse
import collections
import random
import re
import sys
import time

import psycopg2

import planted
from sides import LOST, Outcome, Side
import serial
from statement import Statement
from statements import SETUP, Client, Generator, Table


# What the planner of each session may not use: so plans are by index mostly, and of all kinds.
PLANS = ["", "seqscan", "seqscan sort hashjoin nestloop bitmapscan", "seqscan indexscan indexonlyscan"]


class Difference(Exception):
    pass


class Round:
    def __init__(self, left, right, seed, steps, bug, counts):
        self.left, self.right, self.seed, self.steps, self.bug, self.counts = left, right, seed, steps, bug, counts
        self.random = random.Random(seed)
        self.generator = Generator(seed * 7919 + 1)
        self.clients = [Client(number) for number in range(len(left.sessions))]
        self.waiting = {}               # session number -> what it waits with
        self.method = None              # the tried side's access method
        self.history = []

    # ------------------------------------------------------------ one step

    def step(self, client, statement):
        number = client.number
        left, right = self.left.sessions[number], self.right.sessions[number]
        sql, data, take_status, take_rows = planted.perturb(self.bug, statement, client)
        self.counts.statements[statement.kind] += 1
        self.history.append("%d: %s" % (number, statement.sql))
        if ("access_method" in statement.extra and self.method != "heap" and statement.extra["table"] not in self.generator.partitioned
                and "u_t" not in self.generator.tables[statement.extra["table"]].columns):
            # to heap and back, where the model only rewrites; a table that others refer to may not
            there = statement.extra["access_method"]
            sql, take_status = "%s; %s" % (there % "heap", there % self.method), True
        left.send(statement.sql, statement.data)
        right.send(sql, data)
        self.waiting[number] = (client, statement, take_status, take_rows)
        self.settle()

    def settle(self):
        self.left.settle()
        self.right.settle()
        if self.deadlocks():
            return
        alone = []
        for number in sorted(self.waiting):
            left, right = self.left.sessions[number], self.right.sessions[number]
            client, statement, take_status, take_rows = self.waiting[number]
            if left.busy and right.busy:
                if not getattr(statement, "waited", False):
                    statement.waited = True
                    self.counts.waits += 1
                    self.history.append("   (waits)")
                continue
            if left.busy and right.outcome.state == "40001" and client.repeatable and not statement.point:
                # which row it meets first, one that has gone or one that is locked, is the access method's affair; it fails anyway
                self.left.query("SELECT pg_cancel_backend(%d)" % left.pid)
                while left.busy:
                    time.sleep(0.001)
                left.outcome = right.outcome
            if right.busy and left.outcome.state == "40001" and client.repeatable and not statement.point:
                # the same, the other way round
                self.right.query("SELECT pg_cancel_backend(%d)" % right.pid)
                while right.busy:
                    time.sleep(0.001)
                right.outcome = left.outcome
            if left.busy and statement.kind.split(" ")[-1] in ("locked", "nowait"):
                # core forgets SKIP LOCKED and NOWAIT where it locks the later versions of a row that it found in an earlier one
                self.counts.heap_waits += 1
                self.left.query("SELECT pg_cancel_backend(%d)" % left.pid)
                self.roll_all_back()
                self.history.append("   (only heap waits: all rolled back)")
                return
            if left.busy or right.busy:
                if "keys" not in statement.extra and statement.kind != "commit":  # which checks deferred keys
                    raise Difference("session %d, %s\n  waits on %s, but on %s it got\n  %s" % (
                        number, statement.sql, self.left.name if left.busy else self.right.name,
                        self.right.name if left.busy else self.left.name, (right if left.busy else left).outcome))
                alone.append(number)
                continue
            del self.waiting[number]
            mine, other = left.outcome, right.outcome
            if mine.state is None and other.state is None and take_status:
                other = Outcome(status=mine.status, rows=mine.rows if take_rows else other.rows)
            if "access_method" in statement.extra and (mine.state, other.state) == ("0A000", "2BP01"):
                # a view that uses the table: the model may not change the column's type, nor the table leave the repository
                other = mine
            if LOST in (mine.state, other.state) or mine.key(statement.ordered) != other.key(statement.ordered):
                raise Difference("session %d, %s\n%s" % (number, statement.sql, self.compare(mine, other, statement.ordered)))
            if getattr(statement, "waited", False):
                self.history.append("   (session %d goes on)" % number)
            self.counts.results[statement.kind][mine.state is None] += 1
            if mine.state:
                self.counts.errors[mine.state] += 1
                self.history.append("   (%s)" % mine.state)
            self.after(client, statement, mine)
        if alone:
            self.end_who_is_waited_for(alone[0])

    def end_who_is_waited_for(self, number):
        """One side alone waits, with a key, for a row that has it.

        Heap does for one that was changed in other columns, whose key s3am knows to stay whatever comes of that; s3am does for one that is locked FOR
        UPDATE, which may be about to go as far as s3am knows.  So whoever is waited for ends here and now, either way, and then the outcome
        must be what the other side had told.  (An older snapshot would fail where the waiting side meets what was committed.)
        """
        client, statement = self.waiting[number][:2]
        late = self.left if self.left.sessions[number].busy else self.right
        blockers = late.query("SELECT unnest(pg_blocking_pids(%d))" % late.sessions[number].pid)
        blockers = [c for c in self.clients if c.number not in self.waiting and (late.sessions[c.number].pid,) in blockers]
        self.counts.alone[late.name] += 1
        if not blockers:
            # who is waited for waits himself
            self.counts.unproved += 1
            for side in (self.left, self.right):
                for n in self.waiting:
                    if side.sessions[n].busy:
                        side.query("SELECT pg_cancel_backend(%d)" % side.sessions[n].pid)
            self.roll_all_back()
            self.history.append("   (only %s waits: all rolled back)" % late.name)
            return
        commits = not blockers[0].failed and not client.repeatable and self.random.random() < 0.5
        self.history.append("   (only %s waits, for session %d)" % (late.name, blockers[0].number))
        self.step(blockers[0], Statement("commit", "COMMIT") if commits else Statement("rollback", "ROLLBACK"))

    def compare(self, left, right, ordered):
        lines = []
        if (left.state, left.status) == (right.state, right.status) and left.rows is not None and right.rows is not None:
            if ordered:
                for i, (a, b) in enumerate(zip(left.rows, right.rows)):
                    if a != b:
                        lines.append("  row %d on %s: %s\n  row %d on %s: %s" % (i, self.left.name, a, i, self.right.name, b))
            else:
                a, b = collections.Counter(map(repr, left.rows)), collections.Counter(map(repr, right.rows))
                lines += ["  only on %s: %s" % (self.left.name, row) for row in sorted((a - b).elements())]
                lines += ["  only on %s: %s" % (self.right.name, row) for row in sorted((b - a).elements())]
            lines = [line[:300] for line in lines[:10]]
        return "\n".join(lines or ["  %-6s %s" % (self.left.name, str(left)[:600]), "  %-6s %s" % (self.right.name, str(right)[:600])])

    def roll_all_back(self):
        for side in (self.left, self.right):
            todo = set(range(len(side.sessions)))
            while todo:
                idle = [n for n in todo if not side.sessions[n].busy]
                if not idle:
                    time.sleep(0.01)
                for n in idle:
                    side.call(side.sessions[n], "ROLLBACK")
                    todo.remove(n)
        self.waiting.clear()
        for client in self.clients:
            client.reset()
        self.learn()

    def deadlocks(self):
        """Core's detector may choose another victim if its timers were late; that there is one must agree."""
        victims = [[s.number for s in side.sessions if s.number in self.waiting and not s.busy and s.outcome.state == "40P01"]
                   for side in (self.left, self.right)]
        if not any(victims):
            return False
        self.counts.deadlocks += 1
        if victims[0] == victims[1]:
            return False
        if not all(victims):
            raise Difference("a deadlock on one side only: sessions %s on %s, %s on %s" % (
                victims[0], self.left.name, victims[1], self.right.name))
        self.roll_all_back()
        self.history.append("   (deadlock, different victims: all rolled back)")
        return True

    def after(self, client, statement, outcome):
        """What the generator must know."""
        word = statement.sql.split()[0]
        if word in ("COMMIT", "ROLLBACK") and statement.kind != "rollback to":
            learn = client.ddl
            client.reset()
            self.open_held(client)
            if learn:
                self.learn()
            return
        if outcome.state:
            # what failed after its own BEGIN is in that transaction still
            client.open = client.open or "hold" in statement.extra
            client.failed = client.open
            return
        if "hold" in statement.extra:
            # a COMMIT in the middle of an open transaction has ended that
            if client.open:
                learn = client.ddl
                client.reset()
                if learn:
                    self.learn()
            client.held.append(statement.extra["hold"])
        elif "close" in statement.extra:
            client.held.remove(statement.extra["close"])
        elif statement.kind == "begin":
            client.open = True
            client.repeatable = "REPEATABLE READ" in statement.sql
        elif statement.kind == "savepoint":
            client.savepoints.append(statement.sql.split()[-1])
        elif statement.kind in ("rollback to", "release"):
            name = statement.sql.split()[-1]
            at = client.savepoints.index(name)
            client.failed = False
            # a cursor made since then is gone, and PostgreSQL keeps the older ones
            client.cursors = {} if statement.kind == "rollback to" else client.cursors
            client.savepoints = client.savepoints[:at + (statement.kind == "rollback to")]
        if statement.ddl:
            if client.open:
                client.ddl = True
                client.rewrote = client.rewrote or statement.rewrite
            else:
                self.learn()

    def open_held(self, client):
        """What a rolled back transaction closed is open again, and what it opened is not."""
        session = self.left.sessions[client.number]
        if client.held and not session.busy:
            outcome = self.left.call(session, "SELECT name FROM pg_cursors WHERE is_holdable")
            client.held = sorted(row[0] for row in outcome.rows)

    def learn(self):
        """Tables, columns and views as they are committed."""
        self.generator.tables = {}
        for name, columns in self.left.query(
                "SELECT relname, array_agg(attname || ' ' || format_type(atttypid, atttypmod) ORDER BY attnum)"
                " FROM pg_class c JOIN pg_attribute a ON attrelid = c.oid AND attnum > 0 AND NOT attisdropped AND attgenerated = ''"
                " WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p') AND NOT relispartition"
                " AND relname <> 'audited' GROUP BY 1"):
            types = dict(column.split(" ", 1) for column in columns)
            for column in types:
                types[column] = {"character varying(40)": "varchar(40)",
                                 "timestamp with time zone": "timestamptz"}.get(types[column], types[column])
            self.generator.tables[name] = Table(name, types)
        self.generator.learn_keys(self.left.query)
        self.generator.partitioned = [row[0] for row in self.left.query(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND (relkind = 'p' OR relispartition)")]
        self.generator.views = [row[0] for row in self.left.query(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'v' ORDER BY 1")]
        self.generator.matviews = [row[0] for row in self.left.query(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind = 'm' ORDER BY 1")]
        self.generator.triggers = self.left.query(
            "SELECT tgname, tgrelid::regclass::text FROM pg_trigger WHERE tgparentid = 0 AND NOT tgisinternal ORDER BY 1, 2")

    # ------------------------------------------------------------ which step

    def finish(self, client):
        return Statement("rollback", "ROLLBACK") if self.random.random() < 0.3 else Statement("commit", "COMMIT")

    def choose(self, client):
        r, g = self.random, self.generator
        if client.failed:
            if client.savepoints and r.random() < 0.7:
                return Statement("rollback to", "ROLLBACK TO %s" % r.choice(client.savepoints))
            return self.finish(client)
        if not g.tables:
            return Statement("create table", g.create_table(), ddl=True) if not client.open else self.finish(client)
        others = [c for c in self.clients if c is not client]
        if not client.open and r.random() < 0.45:
            # an older snapshot would find an empty table after a rewrite
            rewriting = any(c.rewrote for c in others) or any(w[1].rewrite for w in self.waiting.values())
            return g.begin(client, not rewriting)
        makers = [(g.insert, 12), (g.insert_select, 3), (g.copy_in, 4), (g.point_update, 12), (g.update, 6), (g.update_from, 2),
                  (g.point_delete, 5), (g.delete, 4), (g.delete_using, 1), (g.merge, 4), (g.move, 2), (g.nested, 2),
                  (g.select, 26), (g.copy_out, 1), (g.row_lock, 16), (g.current_of, 2), (g.ddl, 12),
                  (g.bulk, 1), (g.bad_copy, 1), (g.move_partition, 3), (g.move_one, 3), (g.loop, 2), (g.own_writes, 3),
                  (g.tables_sampled, 1), (g.lateral, 1), (g.hidden, 2), (g.held, 8 if client.held else 0),
                  (g.key_insert, 24), (g.key_insert_many, 5), (g.key_update, 12), (g.key_turn, 2), (g.key_delete, 4), (g.key_again, 3),
                  (g.by_index, 24), (g.index_ddl, 6)]
        if client.open:
            makers += [(g.cursor, 8 + 6 * len(client.cursors)), (g.close_cursor, 1), (g.savepoint, 12), (g.index_cursor, 4), (g.set_constraints, 2)]
        else:
            makers += [(g.maintenance, 3), (g.hold, 2)]
        if client.open and client.write_next:
            return g.after_cursor(client)
        if client.open and r.random() < 0.08:
            return self.finish(client)
        statement = r.choices([m[0] for m in makers], [m[1] for m in makers])[0](client)
        if statement.rewrite and any(c.repeatable for c in others):
            return g.select(client)
        return statement

    def allowed(self, client, statement):
        """While somebody waits, nothing may begin whose order with the end of that wait is open."""
        if not self.waiting:
            return True
        if statement.kind in ("commit", "rollback", "savepoint", "rollback to", "release"):
            return True
        waits = [w[1] for w in self.waiting.values()]
        if any(w.ddl or not w.point for w in waits) or any(c.ddl for c in self.clients) or statement.ddl:
            return False
        if statement.lock:
            target = re.search(r"\bid = (\d+)", statement.sql)
            return (statement.point and target is not None and len(waits) < 2
                    and all(target.group(1) not in re.findall(r"\bid = (\d+)", w.sql) for w in waits))
        return statement.kind not in ("vacuum, analyze",)

    def run(self):
        for side in (self.left, self.right):
            side.execute("SET client_min_messages = error; DROP SCHEMA public CASCADE; CREATE SCHEMA public")
            for session in side.sessions[::2]:
                # rows leave memory soon in every other session
                side.call(session, "SET s3am.transaction_memory = '64kB'")
                side.call(session, "SET s3am.segment_size = '64kB'")
                side.call(session, "SET s3am.inline_limit = 1")
            for session, settings in zip(side.sessions, PLANS):
                for setting in settings.split():
                    side.call(session, "SET enable_%s = off" % setting)
        self.method = self.right.query("SHOW default_table_access_method")[0][0]
        first = self.clients[0]
        for sql in SETUP + self.generator.setup():
            self.step(first, Statement("setup", sql, ddl=True))
        for _ in range(3):
            name = self.generator.name("t")
            self.step(first, Statement("create table", self.generator.create_table(name), ddl=True))
            self.step(first, Statement("insert select", "INSERT INTO %s (id, n) SELECT i, i FROM generate_series(1, 30) i" % name))
        self.generator.next_id = 30
        for _ in range(self.steps):
            idle = [c for c in self.clients if c.number not in self.waiting]
            for _ in range(4):
                client = self.random.choice(idle)
                statement = self.choose(client)
                if self.allowed(client, statement):
                    break
            else:
                # somebody must end, or the wait never does
                ending = [c for c in idle if c.open]
                if not ending:
                    raise Difference("sessions %s wait for nobody" % sorted(self.waiting))
                client = self.random.choice(ending)
                statement = self.finish(client)
            self.step(client, statement)
        self.end()
        self.duel()
        self.everything()
        for _ in range(6):
            self.battle()

    def battle(self):
        """SERIALIZABLE transactions, on each side by itself."""
        transactions, order = serial.battle(self.random)
        for side in (self.left, self.right):
            committed, failed, wrong = serial.fight(side, transactions, order)
            if side is self.right:
                self.counts.committed += committed
                self.counts.failed += failed
            if wrong:
                raise Difference("SERIALIZABLE on %s: %s" % (side.name, wrong))

    def duel(self):
        """Two sessions lock two rows crosswise.  The second looks for the deadlock sooner, so it is the victim."""
        if not self.generator.tables:
            return
        table = sorted(self.generator.tables)[0]
        second, first = sorted(self.random.sample(self.clients, 2), key=lambda client: client.number)
        ids = self.random.sample(range(2, 30), 2)
        for client, what in ((first, "BEGIN ISOLATION LEVEL READ COMMITTED"), (second, "BEGIN ISOLATION LEVEL READ COMMITTED"),
                             (first, 0), (second, 1), (first, 1), (second, 0)):
            if client.number in self.waiting:
                break
            if isinstance(what, str):
                self.step(client, Statement("begin", what))
            else:
                self.step(client, Statement("update one", "UPDATE %s SET n = %d WHERE id = %d" % (
                    table, self.random.randint(0, 99), ids[what]), lock=True, point=True))
        self.end()

    def end(self):
        while True:
            todo = [c for c in self.clients if c.open and c.number not in self.waiting]
            if not todo:
                break
            self.step(todo[0], self.finish(todo[0]))
        if self.waiting:
            raise Difference("sessions %s wait for nobody" % sorted(self.waiting))

    def everything(self):
        """All schemas and all rows, at the end."""
        for sql in ("SELECT table_name, column_name, ordinal_position, data_type, is_nullable, column_default"
                    " FROM information_schema.columns WHERE table_schema = 'public'",
                    "SELECT relname, pg_get_constraintdef(o.oid) FROM pg_constraint o JOIN pg_class c ON c.oid = conrelid"
                    " WHERE relnamespace = 'public'::regnamespace",
                    "SELECT relname, obj_description(oid, 'pg_class') FROM pg_class WHERE relnamespace = 'public'::regnamespace"
                    " AND relkind IN ('r', 'v')",
                    "SELECT indexdef FROM pg_indexes WHERE schemaname = 'public'",
                    "SELECT relname, indisvalid, indisready, indisunique, indisprimary, indisclustered FROM pg_index"
                    " JOIN pg_class c ON c.oid = indexrelid WHERE relnamespace = 'public'::regnamespace"):
            self.same(sql)
        self.learn()
        for side in (self.left, self.right):
            for session in side.sessions:
                side.call(session, "RESET enable_seqscan; RESET enable_bitmapscan")
        for name in sorted(self.generator.tables) + self.generator.views:
            self.same("SELECT * FROM %s" % name)
        for sql in self.by_each_index():
            self.same(sql, session=2)

    def by_each_index(self):
        """All that is in each index, both ways, in its order; in hash indexes value by value."""
        for table, columns, where, backward in self.left.query(
                "SELECT indrelid::regclass::text, string_agg(pg_get_indexdef(indexrelid, k, false) || CASE indoption[k - 1] & 3 WHEN 0 THEN ' ASC NULLS LAST'"
                " WHEN 1 THEN ' DESC NULLS LAST' WHEN 2 THEN ' ASC NULLS FIRST' ELSE ' DESC NULLS FIRST' END, ', ' ORDER BY k),"
                " coalesce('WHERE ' || pg_get_expr(indpred, indrelid), ''),"
                " string_agg(pg_get_indexdef(indexrelid, k, false) || CASE indoption[k - 1] & 3 WHEN 3 THEN ' ASC NULLS LAST'"
                " WHEN 2 THEN ' DESC NULLS LAST' WHEN 1 THEN ' ASC NULLS FIRST' ELSE ' DESC NULLS FIRST' END, ', ' ORDER BY k)"
                " FROM pg_index JOIN pg_class c ON c.oid = indexrelid, generate_series(1, indnkeyatts) k"
                " WHERE relnamespace = 'public'::regnamespace AND relkind = 'i' AND indisvalid"
                " GROUP BY indexrelid, indrelid, indpred ORDER BY indexrelid::regclass::text"):
            for order in (columns, backward):
                yield ("SELECT count(*), md5(string_agg(t, ',' ORDER BY i, t)) FROM (SELECT dense_rank() OVER (ORDER BY %s) i, t::text t FROM %s t %s) x"
                       % (order, table, where))
        for table, column, where in self.left.query(
                "SELECT indrelid::regclass::text, pg_get_indexdef(indexrelid, 1, false), coalesce('AND ' || pg_get_expr(indpred, indrelid), '')"
                " FROM pg_index JOIN pg_class c ON c.oid = indexrelid WHERE relnamespace = 'public'::regnamespace AND relkind = 'i' AND indisvalid"
                " AND pg_get_indexdef(indexrelid) LIKE '% USING hash %' ORDER BY indexrelid::regclass::text"):
            yield ("SELECT count(*), sum(found) FROM (SELECT DISTINCT %s FROM %s) v (v), LATERAL (SELECT count(*) AS found FROM %s WHERE %s = v.v %s OFFSET 0) f"
                   % (column, table, table, column, where))

    def same(self, sql, session=0):
        answers = [side.call(side.sessions[session], sql) for side in (self.left, self.right)]
        if answers[0].key(False) != answers[1].key(False):
            raise Difference("at the end: %s\n%s" % (sql, self.compare(*answers, False)))


class Counts:
    def __init__(self):
        self.statements = collections.Counter()
        self.errors = collections.Counter()
        self.results = collections.defaultdict(lambda: [0, 0])    # kind -> failed, done
        self.alone = collections.Counter()  # waits of one side alone, for a row that has a key
        self.unproved = 0  # of them: who was waited for waited himself, so all was rolled back
        self.heap_waits = 0  # of heap alone, in a statement that says it does not wait
        self.waits = self.deadlocks = self.rounds = self.broken = self.committed = self.failed = 0

    def show(self):
        def listed(counter):
            return ", ".join("%s %d" % item for item in sorted(counter.items(), key=lambda item: (-item[1], item[0])))
        print("# %d rounds, %d statements, %d waits, %d deadlocks, %d times heap waited despite SKIP LOCKED or NOWAIT,"
              " alone for a row with some key: heap %d, s3am %d (%d without proof)" % (
                  self.rounds, sum(self.statements.values()), self.waits, self.deadlocks, self.heap_waits, self.alone["heap"],
                  self.alone["s3am"], self.unproved))
        print("# statements: " + listed(self.statements))
        print("# errors: " + listed(self.errors))
        print("# SERIALIZABLE transactions: %d committed, %d failed" % (self.committed, self.failed))

    def pointless(self):
        """Kinds of statements that hardly ever succeed say nothing."""
        return ["%s: %d of %d" % (kind, done, done + failed) for kind, (failed, done) in sorted(self.results.items())
                if failed + done >= 40 and done * 10 < failed + done and kind not in ("copy in, bad",)]


def play(options, seed, bug, counts):
    """One round; the text of the difference, or None."""
    sides, this = [], None
    try:
        for name, dsn in zip(options.names, options.dsn):
            sides.append(Side(name, dsn, options.sessions))
        this = Round(*sides, seed, options.steps, bug, counts)
        this.run()
        return None
    except (Difference, AssertionError, TimeoutError, psycopg2.Error) as difference:
        kind = "" if isinstance(difference, Difference) else type(difference).__name__ + ": "
        history = this.history if this else []
        return "seed %d, step %d: %s%s\nBefore it:\n  %s" % (
            seed, len(history), kind, difference, "\n  ".join(line[:400] for line in history[-options.history:]))
    finally:
        counts.rounds += 1
        for side in sides:
            side.end()


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("dsn", nargs=2)
    parser.add_argument("--names", nargs=2, default=["heap", "s3am"])
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=0, help="0: as many as --seconds allow")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--steps", type=int, default=250)
    parser.add_argument("--sessions", type=int, default=4)
    parser.add_argument("--history", type=int, default=60, help="statements shown with a difference")
    parser.add_argument("--planted", metavar="N", help="1 to %d, or all: bugs that must be found" % len(planted.ALL))
    options = parser.parse_args()
    counts = Counts()

    if options.planted:
        bugs = planted.ALL if options.planted == "all" else [planted.ALL[int(options.planted) - 1]]
        found = 0
        for i, bug in enumerate(bugs, 1):
            until, seed, text, before = time.monotonic() + options.seconds, options.seed, None, sum(counts.statements.values())
            while text is None and time.monotonic() < until:
                text = play(options, seed, bug, counts)
                seed += 1
            spent = sum(counts.statements.values()) - before
            # the bug, and nothing else: the same round without it is the same on both sides
            other = play(options, seed - 1, None, counts) if text else None
            found += text is not None and other is None
            print("%sok %d - planted: %s; %s" % (
                "" if text and not other else "not ", i, bug.__doc__, "not found" if not text
                else "found after %d statements, but the sides differ without it, too" % spent if other
                else "found after %d statements" % spent))
            if text and options.history > 60:
                print("# " + text.replace("\n", "\n# "))
            sys.stdout.flush()
        print("1..%d" % len(bugs))
        counts.show()
        return 0 if found == len(bugs) else 1

    until, seed, differences = time.monotonic() + options.seconds, options.seed, 0
    while (options.rounds and counts.rounds < options.rounds) or (not options.rounds and time.monotonic() < until):
        text = play(options, seed, None, counts)
        if text:
            differences += 1
            print("not ok - " + text.replace("\n", "\n# "))
            if differences == 5:
                break
        seed += 1
    pointless = counts.pointless()
    if pointless:
        print("not ok - kinds of statements that nearly always fail: " + "; ".join(pointless))
    if not differences:
        print("ok - %d statements, no difference" % sum(counts.statements.values()))
    counts.show()
    return 1 if differences or pointless else 0


if __name__ == "__main__":
    sys.exit(main())
