#!/usr/bin/env python3
"""Is what s3am gave where heap gave something else allowed by SERIALIZABLE?

serial_order.py differing SPEC HEAP_OUT S3AM_OUT
    prints SPEC with only the permutations whose two outputs differ, each with a last step that shows what the tables contain then

serial_order.py check SPEC OUT -- TESTER ...
    OUT is what that gave on s3am.  The transactions that committed are run one after the other on heap, by TESTER
    (isolationtester and its arguments), in every order that keeps the order of each session's own.  One of them must give each
    of their steps the output that it had on s3am, and the same contents at the end.  Transactions that failed or were
    rolled back must have had no effect, so they are left out.  Prints a line for each permutation that no order explains,
    and then exits with 1.
"""
import itertools
import re
import subprocess
import sys

BEGINS = re.compile(r'\b(begin|start\s+transaction)\b', re.I)
ENDS = re.compile(r'\b(commit|end)\b', re.I)
UNDOES = re.compile(r'\b(rollback|abort)\b(?!\s+to)', re.I)


class Spec:
    """The text up to its permutations; each step's session and SQL; which sessions begin within a transaction."""

    def __init__(self, path):
        with open(path, encoding='utf-8') as file:
            text = re.sub(r'^\s*#.*$', '', file.read(), flags=re.M)
        place = re.search(r'^\s*permutation\b', text, re.M)
        self.head = text[:place.start()] if place else text
        # names are folded as SQL does: the tables are made without quotes
        tables = sorted({name.lower() for name in re.findall(r'create\s+table\s+(\w+)', self.head, re.I)})
        self.head += '\nsession "finally"\nstep "finally" { %s }\n' % ' '.join(
            "SELECT '%s' AS contents, count(*), md5(string_agg(r::text, ',' ORDER BY r::text)) FROM %s r;" % (name, name)
            for name in tables)
        self.session_of, self.sql_of, self.in_transaction = {}, {}, set()
        session = None
        for word, name, body in re.findall(r'\b(session|setup|step)\s+("[^"]+"|\w+)?\s*(\{[^}]*\})?', self.head):
            name = name.strip('"')
            if word == 'session':
                session = name
            elif word == 'setup' and session and BEGINS.search(body):
                self.in_transaction.add(session)
            elif word == 'step':
                self.session_of[name], self.sql_of[name] = session, body

    def transactions(self, steps, outputs):
        """Those that took effect: a list of lists of steps for each session, in the order of their steps."""
        by_session = {}
        for step in steps:
            by_session.setdefault(self.session_of[step], []).append(step)
        result = []
        by_session.pop('finally', None)
        for session, own in by_session.items():
            done, current, inside = [], [], session in self.in_transaction
            for step in own:
                sql = self.sql_of[step]
                inside = inside or bool(BEGINS.search(sql))
                current.append(step)
                if inside and not ENDS.search(sql) and not UNDOES.search(sql):
                    continue
                failed = UNDOES.search(sql) or any('ERROR: ' in outputs[step] for step in current)
                if not failed:
                    done.append(current)
                current, inside = [], False
            result.append(done)  # what never ended took no effect
        return [one for one in result if one]


def permutations(text):
    """The steps of each permutation in an output, and the output of each step."""
    result = []
    for part in re.split(r'^starting permutation: ', text, flags=re.M)[1:]:
        first, _, rest = part.partition('\n')
        steps, outputs, step = first.split(), {}, None
        for line in rest.split('\n'):
            begun = re.match(r'step (\S+): (.*)$', line)
            if begun:
                step = begun.group(1)
                outputs.setdefault(step, '')
            elif step and line.strip():
                # a statement of several lines is repeated before its output
                outputs[step] += line.removesuffix(' <waiting ...>') + '\n'
        result.append((steps, outputs))
    return result


def serial_orders(sessions):
    """All orders of the sessions' transactions that keep each session's own."""
    labels = [i for i, own in enumerate(sessions) for _ in own]
    for labelled in sorted(set(itertools.permutations(labels))):
        places = [iter(own) for own in sessions]
        yield tuple(step for label in labelled for step in next(places[label])) + ('finally',)


def read(path):
    with open(path, encoding='utf-8') as file:
        return permutations(file.read())


def with_permutations(spec, orders):
    """The text of SPEC with just these permutations."""
    return spec.head + ''.join('permutation %s\n' % ' '.join('"%s"' % step for step in order) for order in orders)


def differing(spec, heap, s3am):
    if [steps for steps, _ in heap] != [steps for steps, _ in s3am]:
        sys.exit('the two outputs are not of the same permutations')
    print(with_permutations(spec, [theirs[0] + ['finally'] for theirs, mine in zip(heap, s3am) if theirs != mine]))


def check(spec, given, tester):
    if not given:
        sys.exit('there is no permutation to explain')
    candidates = [list(serial_orders(spec.transactions(steps, outputs))) for steps, outputs in given]
    orders = list(dict.fromkeys(order for some in candidates for order in some))
    ran = subprocess.run(tester, input=with_permutations(spec, orders), capture_output=True, text=True, check=False)
    serial = {tuple(steps): outputs for steps, outputs in permutations(ran.stdout)}
    missing = [order for order in orders if order not in serial]
    if ran.returncode != 0 or missing:
        sys.exit('serial orders did not run on heap: %s' % (ran.stderr.strip() or missing))
    unexplained = 0
    for (steps, outputs), some in zip(given, candidates):
        if not any(all(serial[order][step] == outputs[step] for step in order) for order in some):
            unexplained += 1
            print('no serial order of what committed explains: %s' % ' '.join(steps))
    print('%d permutations differ, %d serial orders run, %d not explained' % (len(given), len(orders), unexplained))
    sys.exit(1 if unexplained else 0)


def main():
    spec = Spec(sys.argv[2])
    if sys.argv[1] == 'differing':
        differing(spec, read(sys.argv[3]), read(sys.argv[4]))
    else:
        check(spec, read(sys.argv[3]), sys.argv[5:])


main()
