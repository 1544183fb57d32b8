/*
 * stand_ins.c: functions of core's in whose place ours answer.
 *
 * They ask about relations in ways that only core's own storage has an answer to, and have no hook.  So where a statement calls one
 * of them, ours is planned in its place; it asks core's for whatever is not s3am's.  Nothing that is stored (a view, a function's body)
 * names ours; a call that comes up only while the planner puts the body of an SQL function in the place of its call stays core's.  Who may not
 * call core's may not call ours.
 */
#include "postgres.h"

#include "catalog/dependency.h"
#include "catalog/pg_proc.h"
#include "catalog/pg_type.h"
#include "commands/extension.h"
#include "nodes/nodeFuncs.h"
#include "optimizer/planner.h"
#include "parser/parse_func.h"
#include "utils/fmgroids.h"

#include "s3am.h"

static planner_hook_type prev_planner;

static const struct
{
	const char *name; /* of ours, in the extension's schema, with the same arguments */
	Oid core;
	int nargs;
} stand_ins[] = {
	{"relation_size", F_PG_RELATION_SIZE_REGCLASS, 1},
	{"relation_size", F_PG_RELATION_SIZE_REGCLASS_TEXT, 2},
	{"table_size", F_PG_TABLE_SIZE, 1},
	{"indexes_size", F_PG_INDEXES_SIZE, 1},
	{"total_relation_size", F_PG_TOTAL_RELATION_SIZE, 1},
	{"sequence_last_value", F_PG_SEQUENCE_LAST_VALUE, 1},
};

/* Somebody else's function of that name would get the rights of whoever calls core's. */
static Oid
our_function(int i)
{
	const Oid types[] = {REGCLASSOID, TEXTOID};
	Oid function = LookupFuncName(list_make2(makeString("s3am"), makeString(unconstify(char *, stand_ins[i].name))),
								  stand_ins[i].nargs, types, true);
	Oid extension = get_extension_oid("s3am", true);

	if (!OidIsValid(function) || !OidIsValid(extension) ||
		getExtensionOfObject(ProcedureRelationId, function) != extension)
		return InvalidOid;
	return function;
}

static bool
replace(Node *node, void *context)
{
	if (node == NULL)
		return false;
	if (IsA(node, Query))
		return query_tree_walker((Query *) node, replace, context, 0);
	if (IsA(node, FuncExpr))
	{
		FuncExpr *call = (FuncExpr *) node;

		for (int i = 0; i < lengthof(stand_ins); i++)
			if (call->funcid == stand_ins[i].core)
			{
				Oid function = our_function(i);

				if (OidIsValid(function))
					call->funcid = function;
				break;
			}
	}
	return expression_tree_walker(node, replace, context);
}

static PlannedStmt *
plan_stand_ins(Query *parse, const char *text, int options, ParamListInfo params)
{
	if (OidIsValid(s3am_am_oid()))
		(void) replace((Node *) parse, NULL);
	return prev_planner ? prev_planner(parse, text, options, params) : standard_planner(parse, text, options, params);
}

void
stand_ins_init(void)
{
	prev_planner = planner_hook;
	planner_hook = plan_stand_ins;
}
