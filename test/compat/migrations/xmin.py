"""xmin as an optimistic token: who read a row, on whatever server, changes it only if nobody else has meanwhile.

xmin.py ONE TWO [ROUNDS]        URLs of two servers of one repository
"""
import sys
import threading
import time

from sqlalchemy import Column, FetchedValue, Integer, String, Text, create_engine, text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.orm import Session, declarative_base
from sqlalchemy.orm.exc import StaleDataError

Base = declarative_base()
failures = 0


class Document(Base):
    """As SQLAlchemy's manual says."""
    __tablename__ = "document"
    id = Column(Integer, primary_key=True, autoincrement=False)
    body = Column(Text)
    xmin = Column("xmin", String, system=True, server_default=FetchedValue())
    __mapper_args__ = {"version_id_col": xmin, "version_id_generator": False}


def ok(holds, what, detail=""):
    global failures
    failures += not holds
    print("%s - %s" % ("ok" if holds else "not ok", what), flush=True)
    if not holds:
        print("# %s" % (detail,), flush=True)


def one(engine, statement, **values):
    with engine.begin() as connection:
        return connection.execute(text(statement), values).scalar()


def changed(engine, statement, **values):
    """The number of rows, or the SQLSTATE."""
    try:
        with engine.begin() as connection:
            return connection.execute(text(statement), values).rowcount
    except DBAPIError as error:
        return error.orig.pgcode


def follow(leader, follower):
    wanted, until = one(leader, "SELECT version FROM s3am.node()"), time.monotonic() + 20
    while one(follower, "SELECT version FROM s3am.node()") < wanted:
        if time.monotonic() > until:
            raise SystemExit("not ok - a server does not follow")
        time.sleep(0.02)


def by_orm(a, b):
    with Session(a) as session:
        session.add_all([Document(id=i, body="first") for i in range(1, 11)])
        session.commit()
    follow(a, b)
    with Session(a) as here, Session(b) as there:
        mine, theirs = here.get(Document, 1), there.get(Document, 1)
        ok(mine.xmin == theirs.xmin, "both servers show one token", (mine.xmin, theirs.xmin))
        here.rollback()             # the objects keep what was read
        there.rollback()
    # sessions that keep what they have read over COMMIT
    with Session(a, expire_on_commit=False) as here, Session(b, expire_on_commit=False) as there:
        mine, theirs = here.get(Document, 1), there.get(Document, 1)
        here.commit()
        there.commit()
        mine.body = "mine"
        here.commit()
        follow(a, b)
        theirs.body = "theirs"
        try:
            there.commit()
            said = "nothing"
        except StaleDataError:
            said = "stale"
        ok(said == "stale", "the second one is told, on another server", said)
        there.rollback()
        # the token that came with the change itself is the one that lasts
        mine.body = "mine again"
        here.commit()
        follow(a, b)
        ok(one(b, "SELECT body FROM document WHERE id = 1 AND xmin = :x", x=mine.xmin) == "mine again", "the token of a change holds on the other server")
        ok(changed(b, "UPDATE document SET body = 'by two' WHERE id = 1 AND xmin = :x", x=mine.xmin) == 1, "and serves once")
        ok(changed(b, "UPDATE document SET body = 'by two' WHERE id = 1 AND xmin = :x", x=mine.xmin) == 0, "and no more")
        follow(b, a)
        with Session(a) as session:
            ok(session.get(Document, 1).body == "by two", "the first server has it")


def races(a, b, rounds):
    """Two servers with the same token at once: one of them wins, each time."""
    results = {}
    begin = threading.Barrier(2)

    def race(engine, name, token):
        begin.wait()
        results[name] = changed(engine, "UPDATE document SET body = :n WHERE id = 2 AND xmin = :x", n=name, x=token)

    wrong, won = [], {"one": 0, "two": 0}
    for n in range(rounds):
        token = one(a, "SELECT xmin FROM document WHERE id = 2")
        threads = [threading.Thread(target=race, args=(engine, name, token)) for engine, name in ((a, "one"), (b, "two"))]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        follow(a, b)
        follow(b, a)
        winners = [name for name, r in results.items() if r == 1]
        bodies = [one(e, "SELECT body FROM document WHERE id = 2") for e in (a, b)]
        if len(winners) != 1 or not all(r in (0, 1, "40001") for r in results.values()) or bodies != winners * 2:
            wrong.append((n, dict(results), bodies))
        else:
            won[winners[0]] += 1
    ok(not wrong, "of two servers that use one token at once exactly one wins (%d and %d times)" % (won["one"], won["two"]), wrong[:5])


def numbers_meet(a, b):
    """Each server counts its transactions by itself: that two have one number must not make their tokens the same."""
    xid = "SELECT pg_current_xact_id()::text::bigint"

    def change(engine, body):
        with engine.begin() as connection:
            token = connection.execute(text("UPDATE document SET body = :n WHERE id = 3 RETURNING xmin"), {"n": body}).scalar()
            return token, connection.execute(text(xid)).scalar()

    for _ in range(20):
        behind, ahead = sorted((a, b), key=lambda e: one(e, xid))
        follow(behind, ahead)
        seen, number = change(ahead, "seen")
        follow(ahead, behind)
        while one(behind, xid) < number - 1:
            pass
        other, same = change(behind, "changed")
        follow(behind, ahead)
        if same == number:
            break
    ok(same == number, "transactions of two servers with one number", (number, same))
    ok(seen != other, "leave different tokens", (seen, other))
    ok(changed(ahead, "UPDATE document SET body = 'lost update' WHERE id = 3 AND xmin = :x", x=seen) == 0, "and who has the older one is told",
       one(ahead, "SELECT body FROM document WHERE id = 3"))


def as_numbers(a):
    """Applications keep tokens as integers, too: PostgreSQL compares xid with int4 only."""
    with a.begin() as connection:
        for i in range(1000, 1100):
            connection.execute(text("SAVEPOINT a"))
            connection.execute(text("INSERT INTO document VALUES (:i, '')"), {"i": i})
            connection.execute(text("RELEASE a"))
    tokens = set()
    for i in range(1000, 1032):
        one(a, "UPDATE document SET body = 'n' WHERE id = :i RETURNING 1", i=i)
        token = int(one(a, "SELECT xmin FROM document WHERE id = :i", i=i))
        tokens.add(token)
        done = changed(a, "UPDATE document SET body = 'as a number' WHERE id = :i AND xmin = :x", i=i, x=token)
        if done != 1:
            break
    ok(done == 1, "a token works as a number, too", (token, done))
    ok(len(tokens) == 32, "each transaction has its own", len(tokens))


def later(a, b):
    """Merging, checkpoints and new sessions leave tokens as they are."""
    with a.connect() as connection:
        before = {i: x for i, x in connection.execute(text("SELECT id, xmin FROM document"))}
    for _ in range(20):
        one(a, "UPDATE document SET body = body || '.' WHERE id = 10 RETURNING 1")
    with a.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("VACUUM document"))
    follow(a, b)
    a.dispose()
    b.dispose()
    for engine in (a, b):
        with engine.connect() as connection:
            after = {i: x for i, x in connection.execute(text("SELECT id, xmin FROM document"))}
        ok({i for i in before if before[i] != after[i]} == {10}, "tokens stay when rows are merged", [(i, before[i], after.get(i)) for i in before][:5])
    ok(changed(b, "UPDATE document SET body = 'late' WHERE id = 4 AND xmin = :x", x=before[4]) == 1, "and serve")


def main(url_one, url_two, rounds="60"):
    a, b = (create_engine(url, future=True) for url in (url_one, url_two))
    Base.metadata.create_all(a, checkfirst=True)
    follow(a, b)
    by_orm(a, b)
    races(a, b, int(rounds))
    numbers_meet(a, b)
    as_numbers(a)
    later(a, b)
    sys.exit(1 if failures else 0)


main(*sys.argv[1:])
