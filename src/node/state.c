/*
 * state.c: tables in shared memory, and how their memory is given back; batches.c and deletes.c have their rows.
 *
 * The publisher is the only writer.  Readers take no lock: whatever they can reach is either never changed, or grows at its end
 * and says so by a counter that is written last, or is replaced as a whole by one pointer.  What was replaced is freed when
 * every process that might still look at it has ended its transaction (retire epochs).
 */
#include "postgres.h"

#include "miscadmin.h"
#include "storage/proc.h"

#include "node/state.h"
#include "segment/batch.h"

#define TABLE_BUCKETS 4096

typedef struct Retired
{
	dsa_pointer next;
	dsa_pointer block;
	uint64 epoch;
} Retired;

typedef struct TableHash
{
	pg_atomic_uint64 buckets[TABLE_BUCKETS];
} TableHash;

/* ------------------------------------------------------------------------------------ pins */

void
state_pin(S3Node *node)
{
	NodeBackend *me = node_backend(MyProc->pgprocno);

	if (pg_atomic_read_u64(&me->pin) == 0)
	{
		pg_atomic_write_u64(&me->pin, *(volatile uint64 *) &node->retire_epoch);
		pg_memory_barrier();
	}
}

void
state_unpin_all(void)
{
	if (MyProc)
		pg_atomic_write_u64(&node_backend(MyProc->pgprocno)->pin, 0);
}

void
state_retire(S3Node *node, dsa_pointer block)
{
	dsa_area *area = node_dsa(node);
	dsa_pointer item = dsa_allocate(area, sizeof(Retired));
	Retired *r = dsa_get_address(area, item);

	r->block = block;
	r->epoch = node->retire_epoch;
	r->next = InvalidDsaPointer;
	/* in the order of their epochs, so that those that must wait are not looked at again and again */
	if (DsaPointerIsValid(node->retired))
		((Retired *) dsa_get_address(area, node->retired_last))->next = item;
	else
		node->retired = item;
	node->retired_last = item;
	pg_memory_barrier();
	node->retire_epoch++;
}

void
state_retire_fresh(S3Node *node, TableState *table)
{
	dsa_pointer p = pg_atomic_exchange_u64(&table->fresh, InvalidDsaPointer);

	if (DsaPointerIsValid(p))
		state_retire(node, p);
}

/* What readers have replaced is retired as if the publisher had done it now. */
static void
retire_for_readers(S3Node *node)
{
	dsa_pointer p = node_take_all(node, &node->retired_by_readers);

	while (DsaPointerIsValid(p))
	{
		dsa_pointer next = *(dsa_pointer *) dsa_get_address(node_dsa(node), p);

		state_retire(node, p);
		p = next;
	}
}

void
state_reclaim(S3Node *node)
{
	dsa_area *area;

	uint64 oldest;

	retire_for_readers(node);
	area = node_dsa(node);
	oldest = node->retire_epoch;

	if (!DsaPointerIsValid(node->retired))
		return;
	pg_memory_barrier();
	for (int i = 0; i < ProcGlobal->allProcCount; i++)
	{
		uint64 pin = pg_atomic_read_u64(&node_backend(i)->pin);

		if (pin != 0 && pin < oldest)
			oldest = pin;
	}
	while (DsaPointerIsValid(node->retired))
	{
		dsa_pointer item = node->retired;
		Retired *r = dsa_get_address(area, item);

		if (r->epoch >= oldest)
			break;
		node->retired = r->next;
		dsa_free(area, r->block);
		dsa_free(area, item);
	}
}

/* ------------------------------------------------------------------------------------ tables */

void
state_create(S3Node *node)
{
	dsa_area *area = node_dsa(node);

	if (DsaPointerIsValid(node->tables))
		return;
	node->retire_epoch = 1;
	node->tables = dsa_allocate_extended(area, sizeof(TableHash), DSA_ALLOC_ZERO);
}

TableState *
state_table(S3Node *node, uint64 storage)
{
	dsa_area *area = node_dsa(node);
	TableHash *hash;
	dsa_pointer p;

	if (!DsaPointerIsValid(node->tables))
		return NULL;
	hash = dsa_get_address(area, node->tables);
	p = pg_atomic_read_u64(&hash->buckets[state_hash(storage) % TABLE_BUCKETS]);
	while (DsaPointerIsValid(p))
	{
		TableState *table = dsa_get_address(area, p);

		if (table->storage == storage)
			return table;
		p = table->next;
	}
	return NULL;
}

TableState *
state_add_table(S3Node *node, uint64 storage, uint64 table_id, uint64 pos)
{
	dsa_area *area = node_dsa(node);
	TableHash *hash = dsa_get_address(area, node->tables);
	pg_atomic_uint64 *bucket = &hash->buckets[state_hash(storage) % TABLE_BUCKETS];
	TableState *table = state_table(node, storage);
	dsa_pointer p;

	if (table)
		return table;
	p = dsa_allocate_extended(area, sizeof(TableState), DSA_ALLOC_ZERO);
	table = dsa_get_address(area, p);
	table->self = p;
	table->storage = storage;
	table->table = table_id;
	table->created = pos;
	table->next = pg_atomic_read_u64(bucket);
	pg_write_barrier();
	pg_atomic_write_u64(bucket, p);
	return table;
}

void
state_drop_table(S3Node *node, uint64 storage, uint64 pos)
{
	TableState *table = state_table(node, storage);

	if (table && table->dropped == 0)
	{
		table->dropped = pos;
		pg_atomic_write_u64(&table->changed, pos);
		state_retire_fresh(node, table);
	}
}

void
state_each(S3Node *node, StateEach each, void *arg)
{
	dsa_area *area = node_dsa(node);
	TableHash *hash;

	if (!DsaPointerIsValid(node->tables))
		return;
	hash = dsa_get_address(area, node->tables);
	for (int i = 0; i < TABLE_BUCKETS; i++)
	{
		dsa_pointer p = pg_atomic_read_u64(&hash->buckets[i]);

		while (DsaPointerIsValid(p))
		{
			TableState *table = dsa_get_address(area, p);

			each(arg, table);
			p = table->next;
		}
	}
}
