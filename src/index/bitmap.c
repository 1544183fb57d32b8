/*
 * bitmap.c: bitmap scans do not read ahead in a file, but in the bucket (table/scan.c).
 *
 * Core reads ahead for the blocks of a bitmap by PrefetchBuffer(), which fails for a block that is more than a segment of a file behind the file's
 * end; an s3am table's file is empty, and its own rows have blocks far up.  How far it reads ahead stands in the node's state, which is
 * changed once the plan is initialized.  EvalPlanQual initializes its copy of a plan while it runs, so for a plan with such a scan that
 * may get there the setting says, as long as it runs, that nothing is read ahead.
 */
#include "postgres.h"

#include "executor/execdesc.h"
#include "nodes/execnodes.h"
#include "nodes/nodeFuncs.h"
#include "storage/bufmgr.h"

#include "index/index.h"
#include "s3am.h"
#include "table/table.h"

static bool
stop_reading_ahead(PlanState *state, void *found)
{
	if (state == NULL)
		return false;
	if (IsA(state, BitmapHeapScanState))
	{
		BitmapHeapScanState *scan = (BitmapHeapScanState *) state;

		if (relation_is_s3am(scan->ss.ss_currentRelation))
		{
			scan->prefetch_maximum = 0;
			scan_set_bitmap(scan->ss.ss_currentScanDesc, scan);
			*(bool *) found = true;
		}
	}
	return planstate_tree_walker(state, stop_reading_ahead, found);
}

bool
bitmap_executor_start(QueryDesc *query)
{
	bool found = false;
	ListCell *lc;

	(void) stop_reading_ahead(query->planstate, &found);
	/* those of initplans that are not below, and of CTEs */
	foreach (lc, query->estate->es_subplanstates)
		(void) stop_reading_ahead(lfirst(lc), &found);
	return found;
}

int
bitmap_executor_run(QueryDesc *query)
{
	PlannedStmt *stmt = query->plannedstmt;
	int saved = -1;

	if ((stmt->rowMarks || query->operation != CMD_SELECT || stmt->hasModifyingCTE) && bitmap_executor_start(query))
	{
		saved = effective_io_concurrency;
		effective_io_concurrency = 0;
	}
	return saved;
}

void
bitmap_executor_end(int saved)
{
	/* unless the statement has set it */
	if (saved > 0 && effective_io_concurrency == 0)
		effective_io_concurrency = saved;
}
