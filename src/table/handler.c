/*
 * handler.c: the table access method's routine, and which relations use it.
 */
#include "postgres.h"

#include "access/tableam.h"
#include "commands/defrem.h"
#include "fmgr.h"
#include "utils/inval.h"
#include "utils/rel.h"
#include "utils/syscache.h"

#include "compat.h"
#include "s3am.h"
#include "table/table.h"

S3AM_FUNCTION(s3am_handler);

static TableAmRoutine routine = {.type = T_TableAmRoutine};
static Oid am_oid;
static bool am_known;

/* A handler must never fail: relations are opened where no error may be thrown. */
Datum
s3am_handler(PG_FUNCTION_ARGS)
{
	if (routine.slot_callbacks == NULL)
	{
		modify_callbacks(&routine);
		scan_callbacks(&routine);
		fetch_callbacks(&routine);
		maintain_callbacks(&routine);
		routine.slot_callbacks = slot_callbacks;
	}
	PG_RETURN_POINTER(&routine);
}

static void
forget_am(Datum arg, int cacheid, uint32 hash)
{
	am_known = false;
}

Oid
s3am_am_oid(void)
{
	static bool registered = false;

	if (!registered)
	{
		CacheRegisterSyscacheCallback(AMNAME, forget_am, (Datum) 0);
		registered = true;
	}
	if (!am_known)
	{
		am_oid = get_table_am_oid("s3am", true);
		am_known = true;
	}
	return am_oid;
}

bool
relation_is_s3am(Relation rel)
{
	return rel->rd_tableam == &routine;
}
