"""Whether the indexes of a server say what its tables say: for each of them, by a scan of the table alone and by one of the index alone."""
from clients import ok, one

# no predicates and expressions: the tables of these tests have none
INDEXES = """
    SELECT i.indexrelid::regclass::text, i.indrelid::regclass::text, i.indisunique,
           (SELECT string_agg(quote_ident(a.attname), ', ' ORDER BY k.n)
            FROM unnest(i.indkey::int[]) WITH ORDINALITY k (attnum, n) JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum)
    FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_class t ON t.oid = i.indrelid JOIN pg_am m ON m.oid = t.relam
    WHERE m.amname = 's3am' AND i.indpred IS NULL AND i.indexprs IS NULL AND i.indisvalid ORDER BY 1"""
PLANS = {"table": "SET enable_seqscan = on; SET enable_indexscan = off; SET enable_indexonlyscan = off; SET enable_bitmapscan = off",
         "index": "SET enable_seqscan = off; SET enable_indexscan = on; SET enable_indexonlyscan = on; SET enable_bitmapscan = off; SET enable_sort = off"}


def check(cursor, where):
    """One test for all indexes of the server, and one for duplicates."""
    cursor.execute("SET jit = off; SET max_parallel_workers_per_gather = 0; SET statement_timeout = '300s'")
    cursor.execute(INDEXES)
    indexes = cursor.fetchall()
    ok(indexes != [], "there are indexes on server %s (%d)" % (where, len(indexes)))
    wrong, twice = [], []
    for index, table, unique, columns in indexes:
        question = "SELECT count(*), sum(hashtext(ROW(%s)::text)::bigint) FROM (SELECT %s FROM %s ORDER BY %s OFFSET 0) x" % (
            columns, columns, table, columns)
        cursor.execute(PLANS["index"])
        cursor.execute("EXPLAIN " + question)
        if " using %s on " % index not in "".join(row[0] for row in cursor):
            wrong.append("%s is not used" % index)
        by_index = one(cursor, question)
        cursor.execute(PLANS["table"])
        by_table = one(cursor, question.replace("ORDER BY %s " % columns, ""))
        if by_index != by_table:
            wrong.append("%s: %s in the index, %s in the table" % (index, by_index, by_table))
        if unique:
            cursor.execute("SELECT %s FROM %s WHERE (%s) IS NOT NULL GROUP BY %s HAVING count(*) > 1 LIMIT 3" % (
                columns, table, columns, columns))
            twice += ["%s %s" % (index, row) for row in cursor]
    ok(not wrong, "indexes say what tables say on server %s" % where, "; ".join(wrong[:5]))
    ok(not twice, "no key is there twice on server %s" % where, "; ".join(twice[:5]))
    if one(cursor, "SELECT to_regprocedure('s3am.check_index(regclass, boolean)') IS NOT NULL")[0]:
        wrong = []
        for index, *_ in indexes:
            try:
                cursor.execute("SELECT * FROM s3am.check_index(%s, true)", (index,))
                wrong += ["%s: %s" % (index, row) for row in cursor.fetchall() if any(v not in (None, "") for v in row)]
            except Exception as error:
                wrong.append("%s: %s" % (index, str(error).strip()))
        ok(not wrong, "s3am.check_index has nothing to say on server %s" % where, "; ".join(wrong[:5]))
    cursor.execute("RESET ALL; SET s3am.freshness = latest")
