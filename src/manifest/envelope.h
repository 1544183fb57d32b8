/*
 * envelope.h: what stands around every object but a segment.
 *
 *   offset  bytes
 *        0      4  "S3AM"
 *        4      1  kind (EnvelopeKind)
 *        5      1  compression of the payload: 0 none, 1 zstd
 *        6      2  format level of the writer, little-endian like all numbers here
 *        8      2  oldest reader that may open it (format level)
 *       10      2  encryption id, 0 none
 *       12      4  bytes of MAC after the payload, 0 none
 *       16      8  stored length of the payload
 *       24      8  length of the payload when decompressed
 *       32     16  uuid of the repository; zero in the repository object's own predecessor checks
 *       48      8  XXH3-64 of the object's key, relative to the prefix
 *       56      8  XXH3-64 of bytes 0 to 55 followed by the stored payload
 *       64      .  payload, then MAC
 */
#ifndef S3AM_ENVELOPE_H
#define S3AM_ENVELOPE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define S3AM_FORMAT_LEVEL 1
#define ENVELOPE_SIZE 64

typedef enum EnvelopeKind
{
	ENVELOPE_REPOSITORY = 1,
	ENVELOPE_MANIFEST = 2,
	ENVELOPE_CHECKPOINT = 3,
	ENVELOPE_BOUNDARY = 4,
	ENVELOPE_ROOT = 5,
	ENVELOPE_NODE = 6,
	ENVELOPE_PIN = 7,
	ENVELOPE_PAGE = 8 /* of a checkpoint's tree */
} EnvelopeKind;

/* Makes an object; malloc'ed.  Payloads of 4 kB and more are compressed if that helps. */
extern uint8_t *envelope_seal(EnvelopeKind kind, const uint8_t uuid[16], const char *key, const void *payload,
							  size_t len, size_t *object_len);

/*
 * Opens one: verifies all, returns the payload (malloc'ed).  NULL: *error says what is wrong with which object (malloc'ed).
 * uuid NULL: any; its own is copied to found_uuid if that is not NULL.
 */
extern uint8_t *envelope_open(EnvelopeKind kind, const uint8_t *uuid, const char *key, const uint8_t *object,
							  size_t object_len, size_t *len, uint8_t *found_uuid, char **error);

/* XXH3-128 of a whole object, by which its successor names it. */
extern void envelope_digest(const uint8_t *object, size_t len, uint8_t digest[16]);

#endif
