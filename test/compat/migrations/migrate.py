"""Revisions up and down on a heap and on an s3am database, which must look the same after each of them.

migrate.py up|down OUTPUT PG_DUMP HEAP RUNS FOLLOWS     three databases as URLs; RUNS and FOLLOWS are two servers of one repository

up: the schema is made by the ORM, filled and used by an application, and goes through versions/ one by one; down: back again.  After each step
definitions (pg_dump -s) and rows are compared: heap's with those of the server that ran it, and those with the other server's.  How they
differ is in OUTPUT.
"""
import difflib
import os
import re
import subprocess
import sys
import time

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import MetaData, create_engine, inspect, text

import application
from models import Base

here = os.path.dirname(os.path.abspath(__file__))
failures = 0
SCHEMAS = ("public", "archive")
# what differs from run to run: times of today, and random uuids
MASKS = [(re.compile(r"20[2-9]\d-\d\d-\d\d \d\d:\d\d:\d\d\.\d+\+\d\d"), "NOW"), (re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}"), "UUID")]


def ok(holds, what, detail=""):
    global failures
    failures += not holds
    print("%s - %s" % ("ok" if holds else "not ok", what), flush=True)
    if detail and not holds:
        print("\n".join("# " + line for line in str(detail).split("\n")[:30]), flush=True)


class Database:
    def __init__(self, name, url, pg_dump):
        self.name = name
        self.url = url
        self.pg_dump = pg_dump
        self.engine = create_engine(url, future=True)
        self.config = Config()
        self.config.set_main_option("script_location", here)
        self.config.attributes["connection"] = self.engine

    def definitions(self):
        dump = subprocess.run([self.pg_dump, "-s", "-d", self.url.replace("postgresql+psycopg2", "postgresql")] + ["--schema=" + s for s in SCHEMAS],
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        if dump.returncode != 0:
            raise SystemExit("pg_dump of %s failed: %s" % (self.name, dump.stderr))
        # the access method of tables is what the databases differ in
        return [line for line in dump.stdout.split("\n") if line and not line.startswith(("--", "\\", "SET default_table_access_method"))]

    def rows(self, mask):
        lines = []
        with self.engine.connect() as connection:
            inspector = inspect(connection)
            for schema in SCHEMAS:
                for table in sorted(inspector.get_table_names(schema) + inspector.get_materialized_view_names(schema)
                                    if hasattr(inspector, "get_materialized_view_names") else inspector.get_table_names(schema)):
                    name = '"%s"."%s"' % (schema, table)
                    key = inspector.get_pk_constraint(table, schema)["constrained_columns"]
                    order = ", ".join('"%s"' % k for k in key) if key else "t::text"
                    lines.append(name)
                    lines += [row[0] for row in connection.execute(text("SELECT t::text FROM %s t ORDER BY %s" % (name, order)))]
        if mask:
            for pattern, word in MASKS:
                lines = [pattern.sub(word, line) for line in lines]
        return lines

    def version(self):
        with self.engine.connect() as connection:
            return connection.execute(text("SELECT version FROM s3am.node()")).scalar()

    def differs_from_models(self):
        with self.engine.connect() as connection:
            context = MigrationContext.configure(connection, opts={"compare_type": True, "include_object": lambda o, name, *_: name != "alembic_version"})
            return [str(d) for d in compare_metadata(context, Base.metadata)]

    def reflected(self):
        metadata = MetaData()
        metadata.reflect(self.engine)
        for schema in SCHEMAS[1:]:
            if schema in inspect(self.engine).get_schema_names():
                metadata.reflect(self.engine, schema=schema)
        return application.reflected(self.engine, metadata)

    def indexes_of_core(self):
        """Indexes of s3am tables that are not s3am's."""
        with self.engine.connect() as connection:
            return [row[0] for row in connection.execute(text(
                "SELECT i.indexrelid::regclass::text FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid"
                " JOIN pg_am a ON a.oid = c.relam JOIN pg_am m ON m.oid = t.relam WHERE m.amname = 's3am' AND a.amname NOT LIKE 's3%' ORDER BY 1"))]

    def tables_of_core(self):
        with self.engine.connect() as connection:
            return [row[0] for row in connection.execute(text(
                "SELECT c.oid::regclass::text FROM pg_class c JOIN pg_am a ON a.oid = c.relam WHERE c.relkind IN ('r', 'm') AND a.amname <> 's3am'"
                " AND c.relnamespace::regnamespace::text IN ('public', 'archive')"))]


def follow(leader, follower):
    wanted, until = leader.version(), time.monotonic() + 20
    while follower.version() < wanted:
        if time.monotonic() > until:
            raise SystemExit("not ok - %s does not follow %s" % (follower.name, leader.name))
        time.sleep(0.05)


def same(output, step, what, got, wanted):
    """Lines of two databases; None if they are the same, else how they differ."""
    if got == wanted:
        return None
    diff = list(difflib.unified_diff(wanted, got, "expected", "got", lineterm="", n=1))
    with open(output, "a") as f:
        f.write("%s: %s\n%s\n" % (step, what, "\n".join(diff)))
    return "%s:\n%s" % (what, "\n".join(diff[:20]))


def compare(output, step, heap, runs, follows):
    differences = []
    here, there = runs.definitions(), follows.definitions()
    differences.append(same(output, step, "definitions", here, heap.definitions()))
    differences.append(same(output, step, "definitions on the other server", there, here))
    differences.append(same(output, step, "rows", runs.rows(True), heap.rows(True)))
    differences.append(same(output, step, "rows on the other server", follows.rows(False), runs.rows(False)))
    for database in (runs, follows):
        for what in (database.indexes_of_core, database.tables_of_core):
            found = what()
            if found:
                differences.append("%s on %s: %s" % (what.__name__, database.name, found))
    differences = [d for d in differences if d]
    ok(not differences, step, "\n".join(differences))
    return len(here)


def revisions(database):
    return [r.revision + " " + r.doc for r in reversed(list(ScriptDirectory.from_config(database.config).walk_revisions()))]


def both(heap, s3am, output, step, what):
    """Runs what on both; the answers must be the same."""
    wanted = what(heap)
    difference = same(output, step, "answers", what(s3am), wanted)
    ok(wanted and not difference, "%s (%d lines)" % (step, len(wanted)), difference)


def up(output, heap, one, two):
    for database in (heap, one):
        Base.metadata.create_all(database.engine)
        application.fill(database.engine)
        command.stamp(database.config, "base")
    follow(one, two)
    compare(output, "the ORM's schema and rows", heap, one, two)
    for database in (heap, one, two):
        ok(database.differs_from_models() == [], "autogenerate finds the models' schema: %s" % database.name, database.differs_from_models())
    both(heap, one, output, "an application's answers", lambda d: application.use(d.engine))
    follow(one, two)
    compare(output, "what it wrote", heap, one, two)
    both(heap, one, output, "tables as the ORM reflects them", Database.reflected)

    lines = 0
    for revision in revisions(heap):
        for database in (heap, one):
            command.upgrade(database.config, "+1")
        follow(one, two)
        lines = compare(output, "up %s" % revision, heap, one, two)
    ok(len(revisions(heap)) >= 20, "%d revisions, in the end %d lines of definitions" % (len(revisions(heap)), lines))
    both(heap, two, output, "tables at the end as another server's ORM reflects them", Database.reflected)


def down(output, heap, runs, follows):
    for revision in reversed(revisions(heap)):
        for database in (heap, runs):
            command.downgrade(database.config, "-1")
        follow(runs, follows)
        compare(output, "down %s" % revision, heap, runs, follows)
    both(heap, runs, output, "tables as the ORM reflects them afterwards", Database.reflected)
    for database in (heap, runs):
        command.upgrade(database.config, "head")
    follow(runs, follows)
    compare(output, "up again at once", heap, runs, follows)


def main(what, output, pg_dump, *urls):
    databases = [Database(name, url, pg_dump) for name, url in zip(("heap", "the server that runs it", "the other server"), urls)]
    (up if what == "up" else down)(output, *databases)
    sys.exit(1 if failures else 0)


main(*sys.argv[1:])
