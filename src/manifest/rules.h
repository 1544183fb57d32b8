/*
 * rules.h: the rules of the commit protocol as switches.
 *
 * In the extension RULE(x) is true, and the other branch is not compiled.  The simulator (test/sim) compiles the same files with
 * S3AM_SIM and turns one rule off at a time, to show that it finds out what the rule is there for.  The other branch
 * is what somebody would write who does not know the rule.
 */
#ifndef S3AM_RULES_H
#define S3AM_RULES_H

#define RULE_LIST(X)                                                                                                   \
	X(P1_READ_BACK, "412: the slot is read back")                                                                      \
	X(P1_UNDECIDED, "timeout, reset, 409, 5xx: the same PUT is repeated")                                              \
	X(P1_EVERY_ATTEMPT, "a hard error is a verdict only if every attempt had one")                                     \
	X(P1_READ_BACK_404, "404 on read-back after a 412 decides nothing")                                                \
	X(P2_PUT, "a 200 counts only above the boundary")                                                                  \
	X(P2_APPLY, "a manifest that was read counts only above the boundary")                                             \
	X(P3_FRESH_COPY, "the copy of the boundary is younger than G, by the store's clock")                               \
	X(P3_GRACE, "the collector waits 2G between advancing the boundary and deleting")                                  \
	X(P4_COMPARE_AND_SET, "the boundary moves by compare-and-set")                                                     \
	X(P5_FILL, "a slot is given up by filling it")                                                                     \
	X(P6_DIGEST, "a manifest must name its predecessor's digest")                                                      \
	X(P7_LOOK_UP, "commit ids are looked up before each PUT")                                                          \
	X(P7_CHECKPOINT, "checkpoints carry the decided commit ids")                                                       \
	X(P7_VOID, "appliers void a commit id's second occurrence")                                                        \
	X(P8_EACH, "outcomes are told per transaction, not per manifest")                                                  \
	X(P9_MARK, "what others may put is given up by an abort mark only")                                                \
	X(P12_FENCE_OWN, "a new epoch fences the node's earlier one")                                                      \
	X(P12_REFUSE, "nothing of a fenced epoch is applied")                                                              \
	X(P13_FENCED, "unreferenced objects are deleted only if their epoch is fenced")                                    \
	X(P13_ONE_STATE, "fences and references are those of one version")                                                 \
	X(P15_CLAIM_BASE, "a claim is held against everything after its own base")                                         \
	X(P16_FOLLOW, "a weak claim follows compatible updates")                                                           \
	X(P16_FOLLOW_OUT, "the manifest states claims as they are after following")                                        \
	X(P17_GROUP, "members of a group are held against those before them")                                              \
	X(P18_REMOVED, "rows read are held against rows removed and replaced")                                             \
	X(P18_ADDED, "scans are held against rows added")                                                                  \
	X(P18_RANGES, "keys added to an index are held against the ranges that were read")                                 \
	X(P20_SCHEMA, "schema and name claims are validated")                                                              \
	X(P20_KEYS, "key claims are validated")                                                                            \
	X(P22_WINDOW, "a transaction older than the window is refused")                                                    \
	X(P30_HEAD, "a 404 means head only above the boundary")                                                            \
	X(P31_PROBE, "a waiter uses only probes sent after it began to wait")                                              \
	X(P34_LIVE, "an edit that replaces batches that went away is void")                                                \
	X(P35_PARENT, "a checkpoint whose parent is stale loses")                                                          \
	X(P35_COVERED, "the boundary never passes the newest checkpoint")                                                  \
	X(P36_PIN_CHECK, "the boundary is read again after a pin was written")                                             \
	X(P36_PINS_LAST, "pins are read after the boundary was advanced")                                                  \
	X(P36_OLDEST, "a node's sign of life names the oldest version that its snapshots see")                             \
	X(P36_SILENCE, "pins that are too old are read again when others could be heard, after the store was away")        \
	X(P36_RESTORING, "a checkpoint counts as read until the publisher has read its pages")                             \
	X(P13_IN_USE, "what running transactions uploaded is noted before the state is taken")

typedef enum Rule
{
#define RULE_ENUM(name, text) name,
	RULE_LIST(RULE_ENUM)
#undef RULE_ENUM
		NRULES
} Rule;

#ifdef S3AM_SIM
extern unsigned char rule_off[NRULES];
#define RULE(x) (!rule_off[x])
#else
#define RULE(x) 1
#endif

#endif
