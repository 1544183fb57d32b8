"""Planted bugs: what the second side is made to do wrong, so that it is known that each would be found.

A bug is a function of (statement, client) that returns None, or what the second side runs instead, and whether the first
side's answer is then taken for its own: a silent bug has to be found by what others see later.
"""
import re


def skipped_delete(statement, client):
    """a DELETE says that it deleted, and did not"""
    if statement.kind in ("delete", "delete one"):
        return "SELECT", True


def lost_rollback_to(statement, client):
    """ROLLBACK TO keeps what was done since the savepoint"""
    if statement.kind == "rollback to" and not client.failed:
        name = statement.sql.split()[-1]
        return "RELEASE %s; SAVEPOINT %s" % (name, name), True


def lost_update(statement, client):
    """an UPDATE of several rows says that it updated, and did not"""
    if statement.kind == "update":
        return "SELECT", True


def doubled_insert(statement, client):
    """a row is inserted twice"""
    if statement.kind == "insert":
        return "%s; %s" % (statement.sql, statement.sql), True


def kept_rollback(statement, client):
    """ROLLBACK commits"""
    if statement.kind == "rollback" and not client.failed:
        return "COMMIT", True


def moving_snapshot(statement, client):
    """REPEATABLE READ sees what others commit later"""
    if statement.kind == "begin" and "REPEATABLE READ" in statement.sql:
        return statement.sql.replace("REPEATABLE READ", "READ COMMITTED"), False


def forgotten_row_lock(statement, client):
    """SELECT FOR UPDATE and its kin lock nothing"""
    if statement.extra.get("row_lock"):
        return re.sub(r" FOR (UPDATE|NO KEY UPDATE|SHARE|KEY SHARE)( NOWAIT| SKIP LOCKED)?$", "", statement.sql), False


def cursor_sees_later_rows(statement, client):
    """an open cursor sees what came after it"""
    if statement.extra.get("fetch"):
        return statement.extra["fetch"][1], True, True


def copy_loses_last_row(statement, client):
    """COPY FROM loses its last row"""
    if statement.kind == "copy in" and statement.data.count("\n") > 1:
        return statement.sql, True, False, statement.data[:statement.data.rstrip("\n").rindex("\n") + 1]


def lost_default(statement, client):
    """rows that were there before ADD COLUMN ... DEFAULT do not get the default"""
    if statement.kind == "add column default":
        table, column = re.match(r"ALTER TABLE (\w+) ADD COLUMN (\w+)", statement.sql).groups()
        value = statement.sql.split()[-1]
        return "ALTER TABLE %s ADD COLUMN %s integer; ALTER TABLE %s ALTER COLUMN %s SET DEFAULT %s" % (
            table, column, table, column, value), True


def forgotten_key(statement, client):
    """a unique index takes what is there already"""
    if statement.kind == "setup" and "PRIMARY KEY" in statement.sql:
        return re.sub("PRIMARY KEY", "NOT NULL", statement.sql), True
    if statement.kind == "setup" and "UNIQUE INDEX" in statement.sql:
        return statement.sql.replace("UNIQUE INDEX", "INDEX").replace("NULLS NOT DISTINCT", ""), True


def lost_upsert(statement, client):
    """ON CONFLICT DO UPDATE says that it updated, and did not"""
    if statement.kind == "insert or update" and "ON CONFLICT (id) DO UPDATE" in statement.sql:
        return re.sub("ON CONFLICT .*", "ON CONFLICT (id) DO NOTHING", statement.sql), True


def lost_entry(statement, client):
    """an index lacks an entry now and then"""
    if statement.kind == "by index" and " WHERE u" in statement.sql:
        return statement.sql.replace(" WHERE u", " WHERE id % 5 <> 2 AND u", 1), False


def lost_cascade(statement, client):
    """the actions of foreign keys do nothing"""
    if statement.kind in ("delete one", "delete key", "update key"):
        return "SET session_replication_role = replica; %s; SET session_replication_role = origin" % statement.sql, True


ALL = [skipped_delete, lost_rollback_to, lost_update, doubled_insert, kept_rollback, moving_snapshot, forgotten_row_lock,
       cursor_sees_later_rows, copy_loses_last_row, lost_default,
       forgotten_key, lost_upsert, lost_entry, lost_cascade]


def perturb(bug, statement, client):
    """(sql, data, take the first side's status, take its rows too) of the second side"""
    changed = bug(statement, client) if bug else None
    if changed is None:
        return statement.sql, statement.data, False, False
    sql, status, *rest = changed
    rows_are_own = rest[0] if rest else False
    data = rest[1] if len(rest) > 1 else None
    return sql, data, status, status and not rows_are_own
