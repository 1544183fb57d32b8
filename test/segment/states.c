/*
 * states.c: batches of an edit that share a schema have one each when they stand in the state of a checkpoint.
 */
#include <stdio.h>
#include <stdlib.h>

#include "manifest/delta.h"

int
main(void)
{
	S3am__Manifest made = S3AM__MANIFEST__INIT;
	S3am__Step step = S3AM__STEP__INIT;
	S3am__Txn txn = S3AM__TXN__INIT;
	S3am__TableEdit edit = S3AM__TABLE_EDIT__INIT;
	S3am__Batch batches[4] = {S3AM__BATCH__INIT, S3AM__BATCH__INIT, S3AM__BATCH__INIT, S3AM__BATCH__INIT};
	S3am__BatchSchema schemas[2] = {S3AM__BATCH_SCHEMA__INIT, S3AM__BATCH_SCHEMA__INIT};
	S3am__StoredColumn columns[2] = {S3AM__STORED_COLUMN__INIT, S3AM__STORED_COLUMN__INIT};
	S3am__StoredColumn *lists[2] = {&columns[0], &columns[1]};
	S3am__Step *steps = &step;
	S3am__Txn *txns = &txn;
	S3am__TableEdit *edits = &edit;
	S3am__Batch *list[4];
	bool voided[1] = {false};
	unsigned char *bytes;
	size_t len;
	Delta *delta = delta_create();
	static const unsigned wanted[4] = {1, 1, 2, 2};

	for (int i = 0; i < 2; i++)
	{
		columns[i].id = i + 1;
		schemas[i].n_columns = 1;
		schemas[i].columns = &lists[i];
		batches[i * 2].schema = &schemas[i];
	}
	for (int i = 0; i < 4; i++)
	{
		batches[i].nrows = 10;
		list[i] = &batches[i];
	}
	edit.storage = 7;
	edit.n_batches = 4;
	edit.batches = list;
	txn.n_tables = 1;
	txn.tables = &edits;
	step.n_txns = 1;
	step.txns = &txns;
	made.version = 3;
	made.n_steps = 1;
	made.steps = &steps;
	len = s3am__manifest__get_packed_size(&made);
	bytes = malloc(len);
	(void) s3am__manifest__pack(&made, bytes);
	if (!delta_add(delta, s3am__manifest__unpack(NULL, len, bytes), voided) || delta->ntables != 1 ||
		delta->tables[0]->nbatches != 4)
		return puts("the batches are not there"), 1;
	for (int i = 0; i < 4; i++)
	{
		S3am__BatchSchema *schema = delta->tables[0]->batches[i]->batch->schema;

		if (schema == NULL || schema->n_columns != 1 || schema->columns[0]->id != wanted[i])
			return printf("batch %d has not its schema\n", i), 1;
	}
	delta_free(delta);
	return 0;
}
