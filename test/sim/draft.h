/*
 * draft.h: a transaction that is being made (draft.c).
 */
#ifndef DRAFT_H
#define DRAFT_H

#include "sim.h"

#define MAX_ROWS 24

typedef struct Edit
{
	u64 storage;
	int table;
	TestRow rows[MAX_ROWS];
	int nrows;
	u64 ended[MAX_ROWS];
	int successor[MAX_ROWS]; /* index of a row, -1 none */
	bool key[MAX_ROWS];
	int nended;
	u64 segment; /* number; 0: inline */
	u64 drop[2]; /* batches that it merges */
	int ndrop;
	u64 first; /* row of the merged one */
} Edit;

typedef struct Draft
{
	Edit edits[NTABLES + 2];
	int nedits;
	u32 touched[16]; /* table << 16 | key */
	int ntouched;
	bool serializable;
	u64 base, look; /* of the operation at hand */
} Draft;

extern void draft_begin(Draft *d, u64 base);
extern void draft_operate(ClientTxn *ct, Draft *d); /* one more thing at random, as the database is at d->look */
extern void
draft_schema(ClientTxn *ct, Draft *d); /* the one thing it does: a name, a rewritten table, merged batches */
extern void draft_insert(ClientTxn *ct, Draft *d); /* a row with a key that nobody has */
extern void
draft_finish(ClientTxn *ct, Draft *d, Proc *proc); /* puts its segments, and its edits into the transaction */
extern void draft_reset(void);

#endif
