/*
 * deparse.c: statements made from what is there: for CREATE TABLE AS, whose query does not travel; for tables made LIKE one that
 * stays here; for tables that came to the repository by SET ACCESS METHOD; and for extensions, whose version is pinned.
 *
 * A table is made with all its attribute numbers: what was dropped is made and dropped again, since rows are stored by number.
 */
#include "postgres.h"

#include "access/htup_details.h"
#include "catalog/pg_class.h"
#include "catalog/pg_extension.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_type.h"
#include "executor/spi.h"
#include "utils/builtins.h"
#include "utils/fmgroids.h"
#include "utils/guc.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/syscache.h"

#include "ddl/capture.h"
#include "s3am.h"

/* $1: the table, $2: with what belongs to it.  One statement a row, in order. */
static const char *const table_query =
	"WITH t AS (SELECT c.oid::regclass::text AS q, c.* FROM pg_class c WHERE c.oid = $1),"
	" sequences AS ("
	"  SELECT d.objid, d.deptype, d.refobjsubid, d.objid::regclass::text AS q, s.*,"
	"   format('INCREMENT %s MINVALUE %s MAXVALUE %s START %s CACHE %s%s', s.seqincrement, s.seqmin, s.seqmax, "
	"s.seqstart,"
	"    s.seqcache, CASE WHEN s.seqcycle THEN ' CYCLE' ELSE '' END) AS options"
	"  FROM t JOIN pg_depend d ON d.refclassid = 'pg_class'::regclass AND d.refobjid = t.oid AND d.refobjsubid > 0"
	"   AND d.classid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')"
	"  JOIN pg_sequence s ON s.seqrelid = d.objid),"
	" indexes AS ("
	"  SELECT i.*, i.indexrelid::regclass AS iq, c.relname AS iname, c.reloptions AS options,"
	"   EXISTS (SELECT FROM pg_constraint k WHERE k.conindid = i.indexrelid AND k.conrelid = i.indrelid"
	"    AND k.contype IN ('p', 'u', 'x')) AS is_key"
	"  FROM t JOIN pg_index i ON i.indrelid = t.oid JOIN pg_class c ON c.oid = i.indexrelid),"
	" columns AS ("
	"  SELECT a.*, CASE WHEN a.attisdropped THEN format('........dropped.%s........', a.attnum) ELSE a.attname::text "
	"END AS name,"
	"   CASE WHEN a.attisdropped THEN 'int4' ELSE format_type(a.atttypid, a.atttypmod) END AS type,"
	"   CASE WHEN a.attcollation <> 0 AND a.attcollation <> y.typcollation"
	"    THEN ' COLLATE ' || a.attcollation::regcollation ELSE '' END AS collated,"
	"   CASE a.attcompression WHEN 'p' THEN ' COMPRESSION pglz' WHEN 'l' THEN ' COMPRESSION lz4' ELSE '' END AS "
	"compressed,"
	"   CASE WHEN NOT $2 OR a.attisdropped THEN ''"
	"    WHEN a.attidentity <> '' THEN format(' GENERATED %s AS IDENTITY (SEQUENCE NAME %s %s)',"
	"     CASE a.attidentity WHEN 'a' THEN 'ALWAYS' ELSE 'BY DEFAULT' END, s.q, s.options)"
	"    WHEN a.attgenerated <> '' THEN format(' GENERATED ALWAYS AS (%s) STORED', pg_get_expr(f.adbin, f.adrelid))"
	"    WHEN f.adbin IS NOT NULL THEN ' DEFAULT ' || pg_get_expr(f.adbin, f.adrelid) ELSE '' END AS def,"
	"   CASE WHEN a.attnotnull AND NOT a.attisdropped THEN ' NOT NULL' ELSE '' END AS nonnull,"
	"   CASE a.attstorage WHEN 'p' THEN 'PLAIN' WHEN 'm' THEN 'MAIN' WHEN 'e' THEN 'EXTERNAL' ELSE 'EXTENDED' END AS "
	"storage,"
	"   y.typstorage"
	"  FROM t JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum > 0"
	"  LEFT JOIN pg_type y ON y.oid = a.atttypid"
	"  LEFT JOIN pg_attrdef f ON f.adrelid = t.oid AND f.adnum = a.attnum"
	"  LEFT JOIN sequences s ON s.refobjsubid = a.attnum AND s.deptype = 'i')"
	" SELECT s FROM ("
	"  SELECT 1 AS o, 0 AS p, format('CREATE SEQUENCE %s AS %s %s', q, seqtypid::regtype, options) AS s"
	"   FROM sequences WHERE deptype = 'a' AND $2"
	"  UNION ALL"
	"  SELECT 2, 0, format('CREATE TABLE %s (%s)%s%s%s', q,"
	"    concat_ws(', ', (SELECT string_agg(format('%I %s%s%s%s%s', name, type, compressed, collated, def, nonnull), "
	"', '"
	"      ORDER BY attnum) FROM columns),"
	"     (SELECT string_agg(format('CONSTRAINT %I %s', conname, pg_get_constraintdef(k.oid)), ', ' ORDER BY conname)"
	"      FROM pg_constraint k WHERE k.conrelid = t.oid AND k.contype = 'c' AND $2)),"
	"    ' PARTITION BY ' || pg_get_partkeydef(t.oid),"
	"    (SELECT ' USING ' || quote_ident(amname) FROM pg_am m WHERE m.oid = t.relam),"
	"    (SELECT ' WITH (' || string_agg(format('%s = %L', option_name, option_value), ', ') || ')'"
	"      FROM pg_options_to_table(t.reloptions))) FROM t"
	"  UNION ALL"
	"  SELECT 3, attnum, format('ALTER TABLE %s DROP COLUMN %I', q, name) FROM t, columns WHERE attisdropped"
	"  UNION ALL"
	"  SELECT 4, refobjsubid, format('ALTER SEQUENCE %s OWNED BY %s.%I', s.q, t.q, a.attname) FROM t, sequences s"
	"   JOIN columns a ON a.attnum = s.refobjsubid WHERE s.deptype = 'a' AND $2"
	"  UNION ALL"
	"  SELECT 5, attnum, format('ALTER TABLE %s ALTER COLUMN %I SET STORAGE %s', q, name, storage) FROM t, columns"
	"   WHERE NOT attisdropped AND attstorage <> typstorage"
	"  UNION ALL"
	"  SELECT 5, attnum, format('ALTER TABLE %s ALTER COLUMN %I SET STATISTICS %s', q, name, attstattarget) FROM t, "
	"columns"
	"   WHERE NOT attisdropped AND attstattarget >= 0 AND $2"
	/* before the table becomes a partition, which takes what it finds */
	"  UNION ALL"
	"  SELECT 5, 10000, format('ALTER TABLE %s ADD CONSTRAINT %I %s', q, conname, pg_get_constraintdef(k.oid))"
	"   FROM t JOIN pg_constraint k ON k.conrelid = t.oid WHERE contype IN ('p', 'u', 'x') AND $2"
	"  UNION ALL"
	"  SELECT 5, 10001, pg_get_indexdef(indexrelid) FROM t JOIN indexes ON NOT is_key WHERE $2"
	"  UNION ALL"
	"  SELECT 5, 10002, format('ALTER INDEX %s SET (%s)', iq, string_agg(format('%s = %L', option_name, option_value), "
	"', '))"
	"   FROM indexes, pg_options_to_table(options) WHERE is_key AND $2 GROUP BY iq"
	"  UNION ALL"
	"  SELECT 5, 10003, format('ALTER INDEX %s ALTER COLUMN %s SET STATISTICS %s', iq, attnum, attstattarget)"
	"   FROM indexes JOIN pg_attribute ON attrelid = indexrelid WHERE attstattarget >= 0 AND $2"
	"  UNION ALL"
	"  SELECT 5, 10004, format('ALTER TABLE %s CLUSTER ON %I', q, iname) FROM t, indexes WHERE indisclustered AND $2"
	"  UNION ALL"
	"  SELECT 6, 0, format('ALTER TABLE %s REPLICA IDENTITY %s', q, CASE relreplident WHEN 'f' THEN 'FULL' ELSE "
	"'NOTHING' END)"
	"   FROM t WHERE relreplident IN ('f', 'n') AND $2"
	"  UNION ALL"
	"  SELECT 6, 0, format('ALTER TABLE %s REPLICA IDENTITY USING INDEX %I', q, iname) FROM t, indexes"
	"   WHERE relreplident = 'i' AND indisreplident AND $2"
	"  UNION ALL"
	"  SELECT 6, 1, format('ALTER TABLE %s ATTACH PARTITION %s %s', inhparent::regclass, q, pg_get_expr(relpartbound, "
	"t.oid))"
	"   FROM t JOIN pg_inherits i ON i.inhrelid = t.oid WHERE relispartition AND $2"
	"  UNION ALL"
	"  SELECT 6, 2, format('ALTER TABLE %s INHERIT %s', q, inhparent::regclass)"
	"   FROM t JOIN pg_inherits i ON i.inhrelid = t.oid WHERE NOT relispartition AND $2"
	"  UNION ALL"
	"  SELECT 6, 3, format('ALTER TABLE %s ADD CONSTRAINT %I %s', q, conname, pg_get_constraintdef(k.oid))"
	"   FROM t JOIN pg_constraint k ON k.conrelid = t.oid WHERE contype = 'f' AND conparentid = 0 AND $2"
	"  UNION ALL"
	"  SELECT 7, 0, pg_get_triggerdef(g.oid) FROM t JOIN pg_trigger g ON g.tgrelid = t.oid"
	"   WHERE NOT tgisinternal AND tgparentid = 0 AND $2"
	"  UNION ALL"
	"  SELECT 8, 0, format('ALTER TABLE %s %s TRIGGER %I', q, CASE tgenabled WHEN 'D' THEN 'DISABLE' WHEN 'A' THEN "
	"'ENABLE ALWAYS'"
	"    ELSE 'ENABLE REPLICA' END, tgname) FROM t JOIN pg_trigger g ON g.tgrelid = t.oid"
	"   WHERE NOT tgisinternal AND tgparentid = 0 AND tgenabled <> 'O' AND $2"
	"  UNION ALL"
	"  SELECT 9, 0, pg_get_ruledef(r.oid) FROM t JOIN pg_rewrite r ON r.ev_class = t.oid WHERE $2"
	"  UNION ALL"
	"  SELECT 10, 0, format('CREATE POLICY %I ON %s AS %s FOR %s TO %s%s%s', polname, q,"
	"    CASE WHEN polpermissive THEN 'PERMISSIVE' ELSE 'RESTRICTIVE' END,"
	"    CASE polcmd WHEN 'r' THEN 'SELECT' WHEN 'a' THEN 'INSERT' WHEN 'w' THEN 'UPDATE' WHEN 'd' THEN 'DELETE' ELSE "
	"'ALL' END,"
	"    (SELECT string_agg(CASE WHEN role = 0 THEN 'PUBLIC' ELSE role::regrole::text END, ', ') FROM unnest(polroles) "
	"role),"
	"    ' USING (' || pg_get_expr(polqual, polrelid) || ')', ' WITH CHECK (' || pg_get_expr(polwithcheck, polrelid) "
	"|| ')')"
	"   FROM t JOIN pg_policy p ON p.polrelid = t.oid WHERE $2"
	"  UNION ALL"
	"  SELECT 11, 0, format('ALTER TABLE %s ENABLE ROW LEVEL SECURITY', q) FROM t WHERE relrowsecurity AND $2"
	"  UNION ALL"
	"  SELECT 11, 1, format('ALTER TABLE %s FORCE ROW LEVEL SECURITY', q) FROM t WHERE relforcerowsecurity AND $2"
	"  UNION ALL"
	"  SELECT 12, 0, pg_get_statisticsobjdef(e.oid) FROM t JOIN pg_statistic_ext e ON e.stxrelid = t.oid WHERE $2"
	"  UNION ALL"
	"  SELECT 13, objsubid, CASE WHEN objsubid = 0 THEN format('COMMENT ON TABLE %s IS %L', q, description)"
	"    ELSE format('COMMENT ON COLUMN %s.%I IS %L', q, name, description) END"
	"   FROM t JOIN pg_description d ON d.classoid = 'pg_class'::regclass AND d.objoid = t.oid"
	"   LEFT JOIN columns a ON a.attnum = d.objsubid WHERE $2"
	"  UNION ALL"
	"  SELECT 13, 10000, format('COMMENT ON CONSTRAINT %I ON %s IS %L', conname, q, description)"
	"   FROM t JOIN pg_constraint k ON k.conrelid = t.oid"
	"   JOIN pg_description d ON d.classoid = 'pg_constraint'::regclass AND d.objoid = k.oid WHERE $2"
	"  UNION ALL"
	"  SELECT 13, 10001, format('COMMENT ON INDEX %s IS %L', iq, description) FROM indexes"
	"   JOIN pg_description d ON d.classoid = 'pg_class'::regclass AND d.objoid = indexrelid AND d.objsubid = 0 WHERE "
	"$2"
	"  UNION ALL"
	"  SELECT 14, 0, format('ALTER TABLE %s OWNER TO %s', q, relowner::regrole) FROM t WHERE $2"
	"  UNION ALL"
	"  SELECT 15, 0, format('REVOKE ALL ON %s FROM %s', q, relowner::regrole) FROM t WHERE relacl IS NOT NULL AND $2"
	"  UNION ALL"
	"  SELECT 16, 0, format('GRANT %s ON %s TO %s%s', privilege_type, q,"
	"    CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE grantee::regrole::text END,"
	"    CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) FROM t, aclexplode(relacl) WHERE $2"
	"  UNION ALL"
	"  SELECT 16, 1, format('GRANT %s (%I) ON %s TO %s%s', privilege_type, name, q,"
	"    CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE grantee::regrole::text END,"
	"    CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END) FROM t, columns, aclexplode(attacl) WHERE $2"
	" ) statements ORDER BY o, p, s";

/* For queries that describe something, until the settings' level ends. */
static void
plain_settings(void)
{
	/* so that every name comes out qualified */
	(void) set_config_option("search_path", "pg_catalog", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
	/* who has jit_above_cost = 0, or a plan type disabled, would have each of these queries compiled, for seconds */
	(void) set_config_option("jit", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0, false);
}

char *
deparse_table(Oid relid, bool full)
{
	MemoryContext caller = CurrentMemoryContext;
	StringInfoData text;
	Oid types[2] = {OIDOID, BOOLOID};
	Datum values[2] = {ObjectIdGetDatum(relid), BoolGetDatum(full)};
	int level = NewGUCNestLevel();

	initStringInfo(&text);
	plain_settings();
	(void) set_config_option("quote_all_identifiers", "off", PGC_USERSET, PGC_S_SESSION, GUC_ACTION_SAVE, true, 0,
							 false);
	if (SPI_connect() != SPI_OK_CONNECT ||
		SPI_execute_with_args(table_query, 2, types, values, NULL, false, 0) != SPI_OK_SELECT)
		elog(ERROR, "cannot describe table %u", relid);
	for (uint64 i = 0; i < SPI_processed; i++)
	{
		char *statement = SPI_getvalue(SPI_tuptable->vals[i], SPI_tuptable->tupdesc, 1);

		if (statement)
			appendStringInfo(&text, "%s%s", text.len ? "; " : "", statement);
	}
	SPI_finish();
	AtEOXact_GUC(true, level);
	MemoryContextSwitchTo(caller);
	return text.data;
}

/* The text that a query makes for an object. */
static char *
describe_by(const char *query, Oid object)
{
	MemoryContext caller = CurrentMemoryContext;
	Oid types[1] = {OIDOID};
	Datum values[1] = {ObjectIdGetDatum(object)};
	int level = NewGUCNestLevel();
	char *text;

	plain_settings();
	if (SPI_connect() != SPI_OK_CONNECT ||
		SPI_execute_with_args(query, 1, types, values, NULL, false, 1) != SPI_OK_SELECT || SPI_processed != 1)
		elog(ERROR, "cannot describe object %u", object);
	text = MemoryContextStrdup(caller, SPI_getvalue(SPI_tuptable->vals[0], SPI_tuptable->tupdesc, 1));
	SPI_finish();
	AtEOXact_GUC(true, level);
	MemoryContextSwitchTo(caller);
	return text;
}

char *
deparse_schema(Oid schema)
{
	return describe_by("SELECT concat_ws('; ', format('CREATE SCHEMA IF NOT EXISTS %I AUTHORIZATION %s', nspname,"
					   "   nspowner::regrole),"
					   "  (SELECT string_agg(format('GRANT %s ON SCHEMA %I TO %s%s', privilege_type, nspname,"
					   "    CASE WHEN grantee = 0 THEN 'PUBLIC' ELSE grantee::regrole::text END,"
					   "    CASE WHEN is_grantable THEN ' WITH GRANT OPTION' ELSE '' END), '; ')"
					   "   FROM aclexplode(nspacl)),"
					   "  format('COMMENT ON SCHEMA %I IS ', nspname)"
					   "   || quote_literal(obj_description(oid, 'pg_namespace')))"
					   " FROM pg_namespace WHERE oid = $1",
					   schema);
}

char *
deparse_matview(Oid view)
{
	return describe_by("SELECT format('CREATE MATERIALIZED VIEW %s USING %I%s AS %s%s', c.oid::regclass, amname,"
					   "  (SELECT ' WITH (' || string_agg(format('%s = %L', option_name, option_value), ', ') || ')'"
					   "   FROM pg_options_to_table(c.reloptions)),"
					   "  rtrim(pg_get_viewdef(c.oid), ';'), CASE WHEN relispopulated THEN '' ELSE ' WITH NO DATA' END)"
					   " FROM pg_class c JOIN pg_am m ON m.oid = c.relam WHERE c.oid = $1",
					   view);
}

/* Extensions that were made or updated, with their versions; NULL: none. */
char *
deparse_extensions(List *events)
{
	StringInfoData text;
	ListCell *lc;

	initStringInfo(&text);
	foreach (lc, events)
	{
		DdlEvent *event = lfirst(lc);
		bool create = event->access == OAT_POST_CREATE;
		HeapTuple tuple;

		if (event->object.classId == NamespaceRelationId && create)
			appendStringInfo(&text, "%sCREATE SCHEMA IF NOT EXISTS %s", text.len ? "; " : "",
							 quote_identifier(get_namespace_name(event->object.objectId)));
		if (event->object.classId != ExtensionRelationId || event->access == OAT_DROP)
			continue;
		/* there is no cache of extensions */
		if (SPI_connect() != SPI_OK_CONNECT)
			elog(ERROR, "SPI_connect failed");
		if (SPI_execute_with_args("SELECT pg_catalog.format(CASE WHEN $2"
								  " THEN 'CREATE EXTENSION %1$I WITH SCHEMA %2$s VERSION %3$L'"
								  " ELSE 'ALTER EXTENSION %1$I UPDATE TO %3$L' END,"
								  " e.extname, e.extnamespace::pg_catalog.regnamespace, e.extversion)"
								  " FROM pg_catalog.pg_extension e WHERE e.oid OPERATOR(pg_catalog.=) $1",
								  2, (Oid[]){OIDOID, BOOLOID},
								  (Datum[]){ObjectIdGetDatum(event->object.objectId), BoolGetDatum(create)}, NULL,
								  false, 1) == SPI_OK_SELECT &&
			SPI_processed == 1)
		{
			tuple = SPI_tuptable->vals[0];
			appendStringInfo(&text, "%s%s", text.len ? "; " : "", SPI_getvalue(tuple, SPI_tuptable->tupdesc, 1));
		}
		SPI_finish();
	}
	return text.len ? text.data : NULL;
}
