/*
 * endfile.c: see endfile.h.
 *
 * Entries are in blocks of the size that a BufFile reads.  The first row of each block is in memory, 8 bytes for 341 entries: finding
 * a row reads one block.
 */
#include "postgres.h"

#include "commands/tablespace.h"
#include "storage/buffile.h"
#include "utils/memutils.h"
#include "utils/resowner.h"

#include "txn/endfile.h"
#include "txn/ownends.h"

StaticAssertDecl(sizeof(EndRun) == 24, "an entry is packed");

#define PER_BLOCK (BLCKSZ / sizeof(EndRun))
#define NO_BLOCK PG_UINT64_MAX

struct EndFile
{
	BufFile *file;
	uint64 nruns;
	uint64 *first; /* row that each block begins with */
	uint64 nblocks, capacity;
	uint64 loaded; /* the block in `block` */
	EndRun block[PER_BLOCK + 1]; /* a whole BLCKSZ */
};

struct EndCursor
{
	EndFile *file;
	uint64 n; /* of the next entry */
	uint64 loaded;
	EndRun block[PER_BLOCK + 1];
};

/*
 * Owns the files.  Not that of a portal or a subtransaction, which ends before they are done with; and not the transaction's itself, which
 * would have them closed, and so perhaps written, before it commits.
 */
static ResourceOwner owner;

BufFile *
endfiles_open(void)
{
	ResourceOwner old = CurrentResourceOwner;
	BufFile *file;

	PrepareTempTablespaces();
	if (owner == NULL)
		owner = ResourceOwnerCreate(TopTransactionResourceOwner, "s3am temporary files");
	CurrentResourceOwner = owner;
	file = BufFileCreateTemp(false);
	CurrentResourceOwner = old;
	return file;
}

EndFile *
endfile_create(MemoryContext cxt)
{
	MemoryContext old = MemoryContextSwitchTo(cxt);
	EndFile *file = palloc0(sizeof(EndFile));

	file->file = endfiles_open();
	file->capacity = 64;
	file->first = palloc(file->capacity * sizeof(uint64));
	file->loaded = NO_BLOCK;
	MemoryContextSwitchTo(old);
	return file;
}

static void
write_block(EndFile *file)
{
	if (file->nblocks == file->capacity)
		file->first = repalloc_huge(file->first, (file->capacity *= 2) * sizeof(uint64));
	file->first[file->nblocks] = file->block[0].row;
	BufFileWrite(file->file, file->block, BLCKSZ);
	file->nblocks++;
}

void
endfile_append(EndFile *file, const EndRun *run)
{
	uint32 i = file->nruns % PER_BLOCK;

	if (i > 0)
	{
		EndRun *last = &file->block[i - 1];

		/* neighbours that came one by one */
		if (last->row + last->count == run->row && last->cmax == run->cmax && last->key == run->key &&
			run->next == (NEXT_IS_ROW(last->next) ? last->next + last->count : last->next) &&
			last->count < PG_INT32_MAX - run->count)
		{
			last->count += run->count;
			return;
		}
	}
	else if (file->nruns > 0)
		write_block(file);
	file->block[i] = *run;
	file->nruns++;
}

void
endfile_finish(EndFile *file)
{
	if (file->nruns > 0)
		write_block(file);
}

void
endfile_close(EndFile *file)
{
	BufFileClose(file->file);
	pfree(file->first);
	pfree(file);
}

static uint32
read_block(EndFile *file, uint64 n, EndRun *block)
{
	if (BufFileSeekBlock(file->file, (long) n) != 0)
		ereport(ERROR, (errcode_for_file_access(),
						errmsg("could not seek to block " UINT64_FORMAT " of a temporary file", n)));
	if (BufFileRead(file->file, block, BLCKSZ) != BLCKSZ)
		ereport(ERROR,
				(errcode_for_file_access(), errmsg("could not read block " UINT64_FORMAT " of a temporary file", n)));
	return Min(file->nruns - n * PER_BLOCK, PER_BLOCK);
}

/* The last block that begins at or before the row; false: none does. */
static bool
find_block(const EndFile *file, uint64 row, uint64 *block)
{
	uint64 low = 0, high = file->nblocks;

	while (low < high)
	{
		uint64 mid = low + (high - low) / 2;

		if (file->first[mid] <= row)
			low = mid + 1;
		else
			high = mid;
	}
	*block = low - 1;
	return low > 0;
}

/* The first of n entries that ends after the row. */
static uint32
find_run(const EndRun *block, uint32 n, uint64 row)
{
	uint32 low = 0, high = n;

	while (low < high)
	{
		uint32 mid = low + (high - low) / 2;

		if (block[mid].row + block[mid].count <= row)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}

bool
endfile_get(EndFile *file, uint64 row, EndRun *run)
{
	uint64 block;
	uint32 n, i;

	if (!find_block(file, row, &block))
		return false;
	if (file->loaded != block)
	{
		file->loaded = NO_BLOCK;
		(void) read_block(file, block, file->block);
		file->loaded = block;
	}
	n = Min(file->nruns - block * PER_BLOCK, PER_BLOCK);
	i = find_run(file->block, n, row);
	if (i == n || file->block[i].row > row)
		return false;
	*run = file->block[i];
	return true;
}

EndCursor *
endfile_seek(EndFile *file, uint64 first)
{
	EndCursor *cursor = palloc(sizeof(EndCursor));
	uint64 block;

	cursor->file = file;
	cursor->n = 0;
	cursor->loaded = NO_BLOCK;
	if (find_block(file, first, &block))
	{
		uint32 n = read_block(file, block, cursor->block);

		cursor->loaded = block;
		cursor->n = block * PER_BLOCK + find_run(cursor->block, n, first);
	}
	return cursor;
}

bool
endfile_next(EndCursor *cursor, EndRun *run)
{
	uint64 block = cursor->n / PER_BLOCK;

	if (cursor->n == cursor->file->nruns)
		return false;
	if (cursor->loaded != block)
	{
		cursor->loaded = NO_BLOCK;
		(void) read_block(cursor->file, block, cursor->block);
		cursor->loaded = block;
	}
	*run = cursor->block[cursor->n++ % PER_BLOCK];
	return true;
}

void
endfile_end(EndCursor *cursor)
{
	pfree(cursor);
}

/* As after an error: closing a BufFile writes what it has not yet written, and that may fail. */
void
endfiles_release(void)
{
	if (owner == NULL)
		return;
	ResourceOwnerRelease(owner, RESOURCE_RELEASE_BEFORE_LOCKS, false, false);
	ResourceOwnerRelease(owner, RESOURCE_RELEASE_LOCKS, false, false);
	ResourceOwnerRelease(owner, RESOURCE_RELEASE_AFTER_LOCKS, false, false);
	ResourceOwnerDelete(owner);
	owner = NULL;
}
