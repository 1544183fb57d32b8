/*
 * verify.h: between the files of verify.
 */
#ifndef S3AM_VERIFY_H
#define S3AM_VERIFY_H

#include "postgres.h"

#include "funcapi.h"

#include "manifest/chain.h"
#include "manifest/envelope.h"
#include "manifest/idset.h"
#include "manifest/keys.h"
#include "manifest/s3am.pb-c.h"
#include "store/store.h"

/* What is counted, and how far it is. */
typedef enum VerifyKind
{
	VERIFY_SMALL, /* repository, boundary, root, nodes, pins */
	VERIFY_MANIFESTS,
	VERIFY_CHECKPOINTS,
	VERIFY_PAGES,
	VERIFY_SEGMENTS,
	VERIFY_KINDS
} VerifyKind;

typedef struct VerifyCount
{
	uint64 objects, bytes;
} VerifyCount;

/* A read in flight. */
typedef struct Fetch
{
	struct Fetch *next;
	StoreOp *op;
	bool done, abandoned;
	StoreStatus status;
	uint8 *data; /* malloc'ed */
	size_t len;
	uint64 object_size; /* 0 unknown */
	char key[KEY_SIZE];
	char error[512];
} Fetch;

typedef struct SegmentQueue SegmentQueue;

typedef struct Verify
{
	Store *store;
	bool separate; /* a store for this call alone: the database has no entry */
	bool directory;
	bool strict; /* what is wrong is an error */
	bool deep; /* read segments */
	ReturnSetInfo *rsinfo;
	MemoryContext cxt; /* of this run */
	MemoryContext object_cxt; /* of the object at hand */
	Fetch *fetches;
	uint64 problems;
	VerifyCount counts[VERIFY_KINDS];
	VerifyCount listed; /* objects in the bucket when it began */

	uint8 uuid[16];
	uint64 boundary;
	S3am__CheckpointRef *start; /* that the boundary names */
	bool pinned;
	uint8 nonce[16];
	TimestampTz pinned_at;
	uint64 known, lowest; /* greatest version that must be there, and smallest that is */
	NextRows *rows; /* of the checkpoint that the boundary names, until the state has them */
	ChainState state; /* at H, in the end */
	bool blind; /* the state before the first manifest is not known: nothing is void, and no row id can be judged */
	bool quiet; /* a second look at what was told already */
	bool restart; /* it was collected under our feet */
	IdSet *named; /* segments that anything names */
	IdSet *segments; /* looked into */
	IdSet *pages, *roots; /* referred to; roots: (version, epoch) */
	SegmentQueue *queue;
} Verify;

/* ---- verify.c */
/* Something is wrong with an object.  what: kind of object, for people. */
extern void
verify_problem(Verify *v, const char *object, const char *what, const char *format, ...) pg_attribute_printf(4, 5);
extern void verify_counted(Verify *v, VerifyKind kind, uint64 objects, uint64 bytes);
extern void verify_summary(Verify *v, const char *what, uint64 objects, uint64 bytes);

/* ---- fetch.c */
extern Fetch *fetch_begin(Verify *v, const char *key, uint64 offset, int64 length); /* length < 0: all */
extern void fetch_wait(Verify *v, Fetch *f);
extern void fetch_free(Verify *v, Fetch *f);
extern void fetch_abandon(Verify *v); /* all of them */
extern void verify_wait(Verify *v, volatile bool *done);

/*
 * The message in an object of the chain; palloc'ed in object_cxt.  NULL: it is damaged or missing, and that was told, unless `absent` is
 * not NULL and it just is not there (*absent).  `f`: the read, or NULL; freed.
 */
extern ProtobufCMessage *
verify_object(Verify *v, Fetch *f, const char *key, EnvelopeKind kind, const ProtobufCMessageDescriptor *message,
			  const char *what, bool *absent, uint8 digest[16]);

typedef void (*VerifyListed)(Verify *v, void *arg, const StoreEntry *entry);
extern void verify_list(Verify *v, const char *prefix, const char *after, VerifyListed each, void *arg);
/* false: it was refused, and *error (palloc'ed) says why */
extern bool verify_put(Verify *v, const char *key, const void *data, size_t len, char **error);
extern bool verify_remove(Verify *v, const char *key, char **error);

/* ---- chain.c */
extern bool verify_repository(Verify *v); /* false: nothing else can be judged */
extern void verify_boundary(Verify *v);
extern bool verify_boundary_passed(Verify *v, uint64 version); /* is it above that now? */
extern void verify_pin(Verify *v); /* before anything is read that could be collected */
extern void verify_pin_renew(Verify *v);
extern void verify_unpin(Verify *v);
extern void verify_unpin_quietly(Verify *v); /* after an error: nobody waits for it */
/* All manifests to the head.  root: of the checkpoint that the boundary names, or NULL. */
extern void verify_chain(Verify *v, const S3am__Checkpoint *root);
/* What those after the published checkpoint (root; NULL: none) add to tables. */
extern void verify_recent(Verify *v, const S3am__Checkpoint *root);

/* ---- tree.c */
/* The root of a checkpoint, in v->cxt; NULL: that was told, unless *absent. */
extern S3am__Checkpoint *verify_root(Verify *v, const S3am__CheckpointRef *ref, bool *absent);
/* Next row ids of all tables at a checkpoint. */
extern void verify_next_rows(Verify *v, const S3am__Checkpoint *root); /* to v->rows */
/* All pages below, once.  batches: what they name must be there, and is looked into. */
extern void verify_tree(Verify *v, const S3am__Checkpoint *root, bool batches);
extern bool
verify_rowset(const S3am__RowSet *set, uint64 first, uint64 end); /* can be decoded, and lies in the range */

/* ---- segments.c */
extern void verify_batch(Verify *v, const char *object, const S3am__Batch *batch);
extern void verify_segments_end(Verify *v); /* waits for those in flight */

/* ---- orphans.c */
extern void verify_small(Verify *v, const char *prefix, EnvelopeKind kind, const ProtobufCMessageDescriptor *message);
extern void verify_listed(Verify *v); /* counts what nothing refers to */
extern void verify_orphans(Verify *v, bool remove);
extern void
verify_leftovers(Verify *v, bool remove); /* of a directory; before anything is written to it, which removes them */

#endif
