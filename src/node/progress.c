/*
 * progress.c: s3am.progress(): long tasks of this database's sessions.
 */
#include "postgres.h"

#include "fmgr.h"
#include "funcapi.h"
#include "miscadmin.h"
#include "nodes/execnodes.h"
#include "storage/proc.h"
#include "utils/builtins.h"
#include "utils/timestamp.h"

#include "compat.h"
#include "node/progress.h"

S3AM_FUNCTION(s3am_progress);

NodeProgress *
progress_mine(void)
{
	return &node_backend(MyProc->pgprocno)->progress;
}

void
progress_phase(const char *phase)
{
	progress_mine()->phase = phase;
}

void
progress_begin(const char *command, const char *phase)
{
	NodeProgress *p = progress_mine();

	p->command = command;
	p->phase = phase;
	p->since = GetCurrentTimestamp();
	pg_atomic_write_u64(&p->objects, 0);
	pg_atomic_write_u64(&p->objects_total, 0);
	pg_atomic_write_u64(&p->bytes, 0);
	pg_atomic_write_u64(&p->bytes_total, 0);
	pg_atomic_write_u64(&p->problems, 0);
	pg_write_barrier();
	pg_atomic_write_u32(&p->pid, MyProcPid);
}

void
progress_end(void)
{
	pg_atomic_write_u32(&progress_mine()->pid, 0);
}

Datum
s3am_progress(PG_FUNCTION_ARGS)
{
	ReturnSetInfo *rsinfo = (ReturnSetInfo *) fcinfo->resultinfo;

	InitMaterializedSRF(fcinfo, 0);
	for (int i = 0; i < MaxBackends; i++)
	{
		PGPROC *proc = &ProcGlobal->allProcs[i];
		NodeProgress *p = &node_backend(i)->progress;
		uint32 pid = pg_atomic_read_u32(&p->pid);
		Datum values[9];
		bool nulls[9] = {false};

		if (pid == 0 || proc->pid != pid || proc->databaseId != MyDatabaseId)
			continue;
		pg_read_barrier();
		values[0] = Int32GetDatum(pid);
		values[1] = CStringGetTextDatum(p->command);
		values[2] = CStringGetTextDatum(p->phase);
		values[3] = Int64GetDatum(pg_atomic_read_u64(&p->objects));
		values[4] = Int64GetDatum(pg_atomic_read_u64(&p->objects_total));
		values[5] = Int64GetDatum(pg_atomic_read_u64(&p->bytes));
		values[6] = Int64GetDatum(pg_atomic_read_u64(&p->bytes_total));
		values[7] = Int64GetDatum(pg_atomic_read_u64(&p->problems));
		values[8] = TimestampTzGetDatum(p->since);
		tuplestore_putvalues(rsinfo->setResult, rsinfo->setDesc, values, nulls);
	}
	return (Datum) 0;
}
