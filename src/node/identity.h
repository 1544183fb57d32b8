/*
 * identity.h: which node this server is, and whether another one claims to be the same (rule 12).
 */
#ifndef S3AM_NODE_IDENTITY_H
#define S3AM_NODE_IDENTITY_H

#include "node/node.h"

extern char *s3am_node_name;

/* Fills in what tells this node from all others: system identifier, timeline, database, and s3am.node_name. */
extern void identity_of_node(NodeFacts *facts);

/*
 * Another server with this identity took our epoch: that is kept in the data directory, so that after a restart this one does not
 * take it back in its turn, and so on for ever.  Logs what goes wrong.
 */
extern void identity_displaced(Oid database, const uint8 *identity, uint32 len, const char *by);

/* Whether that has happened to this identity; then what to tell people is in reason. */
extern bool identity_is_displaced(Oid database, const uint8 *identity, uint32 len, char *reason, Size size);

#endif
