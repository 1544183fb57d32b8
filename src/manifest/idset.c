/*
 * idset.c: an open-addressing table.
 */
#include <stdlib.h>

#include "manifest/idset.h"
#include "manifest/memory.h"

typedef struct Id
{
	uint64_t epoch, /* 0: free */
		number;
} Id;

struct IdSet
{
	Id *ids;
	size_t size, /* a power of two */
		used;
};

IdSet *
idset_create(void)
{
	IdSet *s = memory_need_zeroed(1, sizeof(*s));

	s->ids = memory_need_zeroed(64, sizeof(Id));
	s->size = 64;
	return s;
}

void
idset_free(IdSet *s)
{
	if (s == NULL)
		return;
	free(s->ids);
	free(s);
}

static Id *
find(const IdSet *s, uint64_t epoch, uint64_t number)
{
	uint64_t h = (epoch * 0x9E3779B97F4A7C15ULL) ^ (number * 0xD6E8FEB86659FD93ULL);
	size_t i = (h ^ (h >> 31)) & (s->size - 1);

	while (s->ids[i].epoch != 0 && (s->ids[i].epoch != epoch || s->ids[i].number != number))
		i = (i + 1) & (s->size - 1);
	return &s->ids[i];
}

bool
idset_contains(const IdSet *s, uint64_t epoch, uint64_t number)
{
	return epoch != 0 && find(s, epoch, number)->epoch != 0;
}

bool
idset_add(IdSet *s, uint64_t epoch, uint64_t number)
{
	Id *id;

	if (s->used * 2 >= s->size)
	{
		Id *old = s->ids;
		size_t n = s->size;

		s->ids = memory_need_zeroed(2 * n, sizeof(Id));
		s->size = 2 * n;
		for (size_t i = 0; i < n; i++)
			if (old[i].epoch)
				*find(s, old[i].epoch, old[i].number) = old[i];
		free(old);
	}
	id = find(s, epoch, number);
	if (id->epoch)
		return false;
	*id = (Id){epoch, number};
	s->used++;
	return true;
}
