/*
 * chain.h: what follows from the manifests alone, the same on every node that has applied the same version.
 */
#ifndef S3AM_CHAIN_H
#define S3AM_CHAIN_H

#include "manifest/outcomes.h"
#include "manifest/rows.h"
#include "manifest/s3am.pb-c.h"

typedef struct ChainState
{
	uint64_t version;
	uint8_t digest[16]; /* of manifest `version` */
	uint64_t time_ms; /* of manifest `version`: by the store's clock */
	Outcomes *outcomes;
	NextRows *rows;
	S3am__CheckpointRef *checkpoint; /* the published one, NULL: none */
	uint64_t retention_ms; /* of outcomes of fenced epochs */
} ChainState;

extern void chain_init(ChainState *state, uint64_t outcome_retention_ms);
extern void chain_clear(ChainState *state);

/* Opens the object of the version after `state`.  NULL: it is damaged or does not follow; *error says so (malloc'ed). */
extern S3am__Manifest *
chain_open(const ChainState *state, const uint8_t uuid[16], const uint8_t *object, size_t len, char **error);

/*
 * Applies it.  Returns for each transaction, counted over all steps, whether it is void (malloc'ed): its id was decided before or
 * its epoch is fenced (rules 7, 12).
 */
extern bool *chain_apply(ChainState *state, const S3am__Manifest *manifest, const uint8_t digest[16]);

/* Would a manifest after `state` publish this checkpoint validly (rule 35)? */
extern bool chain_checkpoint_fits(const ChainState *state, const S3am__CheckpointRef *ref);

extern S3am__CheckpointRef *checkpoint_ref_copy(const S3am__CheckpointRef *ref);

/* Opens a checkpoint's root: NULL: damaged, or not the one that is meant. */
extern S3am__Checkpoint *chain_open_checkpoint(const S3am__CheckpointRef *ref, const uint8_t uuid[16],
											   const uint8_t *object, size_t len, char **error);

#endif
