"""SERIALIZABLE: which transaction fails, and where, is an access method's own affair.  What is checked is that those which
committed could have run one after the other: some order explains all that they read and what they left.

A battle is a few short transactions over a few rows, step by step in a random order, once on each side.
"""
import itertools

ROWS = 4


def battle(random):
    """(transactions, order of steps).  A step is (kind, argument ...)."""
    transactions = []
    for number in range(random.randint(2, 4)):
        steps = []
        for _ in range(random.randint(1, 3)):
            kind = random.choice(["read", "read all", "copy", "add", "insert", "delete", "locked", "later"])
            steps.append((kind, random.randrange(ROWS), random.randrange(ROWS), number + 1))
        transactions.append(steps)
    order = [n for n, steps in enumerate(transactions) for _ in range(len(steps) + 2)]
    random.shuffle(order)
    return transactions, order


def sql(step):
    kind, a, b, n = step
    return {
        "read": "SELECT v FROM battle WHERE id = %d ORDER BY v" % a,
        "read all": "SELECT id, v FROM battle ORDER BY id, v",
        "copy": "UPDATE battle SET v = (SELECT coalesce(sum(v), 0) FROM battle WHERE id IN (%d, %d)) + 1 WHERE id = %d" % (a, b, a),
        "add": "UPDATE battle SET v = v + %d WHERE id = %d" % (n, a),
        "insert": "INSERT INTO battle SELECT %d, count(*) FROM battle WHERE id <> %d" % (10 + n, a),
        "delete": "DELETE FROM battle WHERE id = %d AND v > (SELECT min(v) FROM battle)" % a,
        "locked": "SELECT v FROM battle WHERE id = %d ORDER BY v FOR UPDATE" % a,
        "later": "SELECT count(*) FROM battle WHERE id > %d" % a,
    }[kind]


def run_step(state, step):
    """What the step does to a multiset of rows, and what it answers."""
    kind, a, b, n = step
    if kind in ("read", "locked"):
        return state, [(str(v),) for i, v in sorted(state) if i == a]
    if kind == "read all":
        return state, [(str(i), str(v)) for i, v in sorted(state)]
    if kind == "later":
        return state, [(str(sum(1 for i, _ in state if i > a)),)]
    if kind == "copy":
        total = sum(v for i, v in state if i in (a, b)) + 1
        hit = sum(1 for i, _ in state if i == a)
        return [(i, total if i == a else v) for i, v in state], hit
    if kind == "add":
        hit = sum(1 for i, _ in state if i == a)
        return [(i, v + n if i == a else v) for i, v in state], hit
    if kind == "insert":
        return state + [(10 + n, sum(1 for i, _ in state if i != a))], 1
    low = min([v for _, v in state], default=0)
    kept = [(i, v) for i, v in state if not (i == a and v > low)]
    return kept, len(state) - len(kept)


def explained(transactions, committed, answers, final):
    """Is there an order of the committed ones that gives these answers and this end?"""
    for order in itertools.permutations(committed):
        state = [(i, 10 * i) for i in range(ROWS)]
        for number in order:
            for step, answer in zip(transactions[number], answers[number]):
                state, expected = run_step(state, step)
                if expected != answer:
                    break
            else:
                continue
            break
        else:
            if sorted(state) == final:
                return True
    return False


def fight(side, transactions, order):
    """Runs it on one side; None, or what is wrong."""
    side.execute("DROP TABLE IF EXISTS battle; CREATE TABLE battle (id int, v bigint);"
                 " INSERT INTO battle SELECT i, 10 * i FROM generate_series(0, %d) i" % (ROWS - 1))
    at = [-1] * len(transactions)           # -1: not begun
    answers = [[] for _ in transactions]
    dead, committed, log = set(), [], []
    pending = {}

    def collect():
        for number in sorted(pending):
            session = side.sessions[number]
            if session.busy:
                continue
            what = pending.pop(number)
            outcome = session.outcome
            log.append("%d: %s -> %s" % (number, what, outcome))
            if outcome.state:
                if outcome.state not in ("40001", "40P01"):
                    raise AssertionError("\n  ".join(log))
                dead.add(number)
                if what != "COMMIT":
                    side.call(session, "ROLLBACK")
            elif what == "COMMIT":
                committed.append(number)
            elif what != "BEGIN":
                answers[number].append(outcome.rows if outcome.rows is not None else int(outcome.status.split()[-1]))

    def advance(number):
        if number in dead or number in committed or number in pending:
            return
        at[number] += 1
        steps = transactions[number]
        session = side.sessions[number]
        what = "BEGIN ISOLATION LEVEL SERIALIZABLE" if at[number] == 0 else "COMMIT" if at[number] > len(steps) else sql(steps[at[number] - 1])
        session.send(what)
        pending[number] = "BEGIN" if at[number] == 0 else what
        side.settle()
        collect()

    for number in order:
        advance(number)
    while len(dead) + len(committed) < len(transactions):
        before = (len(dead), len(committed), list(at))
        for number in range(len(transactions)):
            advance(number)
        if pending:
            side.settle()
            collect()
        if before == (len(dead), len(committed), list(at)) and not pending:
            break
    final = sorted((int(i), int(v)) for i, v in side.query("SELECT id, v FROM battle"))
    if explained(transactions, committed, answers, final):
        return len(committed), len(dead), None
    return len(committed), len(dead), "no order of the committed transactions %s explains\n  %s\n  and the end %s" % (
        committed, "\n  ".join(log), final)
