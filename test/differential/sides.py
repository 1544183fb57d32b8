"""One side: a database and its sessions, each in a thread of its own, so that a session may wait for another.

An Outcome is what a client sees of a statement.  A session is idle (its outcome was taken), busy, or waiting for a lock of
another session; settled() tells when nothing moves any more.
"""
import io
import queue
import threading
import time

import psycopg2
import psycopg2.extensions

# every value as PostgreSQL prints it: no type of Python's stands between the two sides
_TEXT = psycopg2.extensions.new_type(tuple(psycopg2.extensions.string_types), "TEXT", lambda value, cursor: value)


LOST = "lost"


class Outcome:
    __slots__ = ("state", "status", "rows", "message")

    def __init__(self, state=None, status=None, rows=None, message=None):
        self.state = state          # SQLSTATE of an error; LOST if the connection is gone
        self.status = status        # command tag, which holds the row count
        self.rows = rows
        self.message = message      # shown, not compared

    def key(self, ordered):
        rows = self.rows
        if rows is not None and not ordered:
            rows = sorted(rows, key=repr)
        return (self.state, self.status, rows)

    def __str__(self):
        if self.state:
            return "%s %s" % (self.state, self.message)
        if self.rows is None:
            return str(self.status)
        shown = ", ".join(map(str, self.rows[:12])) + (", ..." if len(self.rows) > 12 else "")
        return "%s: %s" % (self.status, shown)


class Session:
    def __init__(self, dsn, number):
        self.connection = psycopg2.connect(dsn, application_name="differential %d" % number)
        self.connection.autocommit = True
        self.pid = self.connection.get_backend_pid()
        psycopg2.extensions.register_type(_TEXT, self.connection)
        self.number = number
        self.busy = False
        self.outcome = None
        self.requests = queue.Queue()
        threading.Thread(target=self._serve, daemon=True).start()

    def send(self, sql, data=None):
        assert not self.busy
        self.busy, self.outcome = True, None
        self.requests.put((sql, data))

    def close(self):
        self.requests.put((None, None))

    def _serve(self):
        while True:
            sql, data = self.requests.get()
            if sql is None:
                self.connection.close()
                return
            outcome = self._run(sql, data)
            self.outcome, self.busy = outcome, False

    def _run(self, sql, data):
        cursor = None
        try:
            cursor = self.connection.cursor()
            if data is not None:
                cursor.copy_expert(sql, io.StringIO(data))
                return Outcome(status=cursor.statusmessage)
            if sql.startswith("COPY") and sql.endswith("TO STDOUT"):
                out = io.StringIO()
                cursor.copy_expert(sql, out)
                return Outcome(status=cursor.statusmessage, rows=[(line,) for line in out.getvalue().splitlines()])
            cursor.execute(sql)
            rows = cursor.fetchall() if cursor.description is not None else None
            return Outcome(status=cursor.statusmessage, rows=rows)
        except psycopg2.Error as error:
            return Outcome(state=error.pgcode or LOST, message=(str(error).splitlines() or [""])[0])
        finally:
            if cursor is not None and not self.connection.closed:
                cursor.close()


def _connect(dsn, seconds=60):
    """A server that crashed comes back."""
    until = time.monotonic() + seconds
    while True:
        try:
            return psycopg2.connect(dsn, application_name="differential monitor")
        except psycopg2.OperationalError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)


class Side:
    def __init__(self, name, dsn, sessions):
        self.name = name
        self.dsn = dsn
        self.monitor = _connect(dsn)
        self.monitor.autocommit = True
        self.sessions = [Session(dsn, number) for number in range(sessions)]
        for session in self.sessions:
            # the lower the number, the sooner it looks for a deadlock: so the victim is the same on both sides
            self.call(session, "SET deadlock_timeout = '%dms'" % (50 + 500 * session.number))
            self.call(session, "SET timezone = 'UTC'")

    def end(self):
        """Ends the sessions, whatever they are waiting for."""
        try:
            self.execute("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE datname = current_database()"
                         " AND application_name LIKE 'differential %' AND pid <> pg_backend_pid()")
        except psycopg2.Error:
            pass                        # the server is gone, and they with it
        for session in self.sessions:
            session.close()
        self.monitor.close()

    def query(self, sql):
        with self.monitor.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall()

    def execute(self, sql):
        with self.monitor.cursor() as cursor:
            cursor.execute(sql)

    def call(self, session, sql, seconds=60):
        """A statement that cannot wait for another session."""
        session.send(sql)
        until = time.monotonic() + seconds
        while session.busy:
            if time.monotonic() > until:
                raise TimeoutError("%s: %s" % (self.name, sql))
            time.sleep(0.0005)
        return session.outcome

    def settle(self, seconds=60):
        """Waits until every busy session waits for a lock of another one and no circle of them is left."""
        until = time.monotonic() + seconds
        nap = 0.0003
        quiet = 0
        while True:
            busy = [session for session in self.sessions if session.busy]
            if not busy:
                return
            if nap > 0.002:
                blockers = dict(self.query("SELECT pid, pg_blocking_pids(pid) FROM unnest(ARRAY[%s]) pid"
                                           % ",".join(str(session.pid) for session in busy)))
                quiet = quiet + 1 if all(blockers.values()) and not _circle(blockers) else 0
                if quiet == 2:
                    return
            if time.monotonic() > until:
                raise TimeoutError("%s: session %s neither ends nor waits for another session"
                                   % (self.name, [session.number for session in busy]))
            time.sleep(nap)
            nap = min(nap * 1.5, 0.02)


def _circle(blockers):
    """Whether somebody waits, through others, for himself: the deadlock detector will end it."""
    for start in blockers:
        seen, todo = set(), list(blockers[start])
        while todo:
            pid = todo.pop()
            if pid == start:
                return True
            if pid in blockers and pid not in seen:
                seen.add(pid)
                todo.extend(blockers[pid])
    return False
