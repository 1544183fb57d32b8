/*
 * footer.c: a segment read alone: its header and its footer.
 */
#include "postgres.h"

#include <xxhash.h>

#include "utils/memutils.h"

#include "messages.h"
#include "segment/batch.h"

void
segment_check_header(const char *object, const uint8 *bytes, Size len, const uint8 *uuid, uint64 epoch, uint64 number,
					 SegmentHeader *header)
{
	if (len < SEGMENT_HEADER_SIZE)
		segment_damaged(object, "cut off");
	memcpy(header, bytes, SEGMENT_HEADER_SIZE);
	if (memcmp(header->magic, SEGMENT_MAGIC, sizeof(header->magic)) != 0)
		segment_damaged(object, "it is not a segment");
	if (header->checksum != XXH3_64bits(bytes, offsetof(SegmentHeader, checksum)))
		segment_damaged(object, "the header's checksum does not fit");
	if (header->min_reader > SEGMENT_LEVEL)
		ereport(ERROR,
				(errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("segment \"%s\" was written in a newer format", object),
				 errhint("Upgrade s3am on this server.")));
	if (header->encryption != 0)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("segment \"%s\" is encrypted, which this version of s3am cannot read", object)));
	if (memcmp(header->uuid, uuid, sizeof(header->uuid)) != 0 || header->epoch != epoch || header->number != number)
		segment_damaged(object, "it was written under another name");
}

S3am__SegmentFooter *
segment_read_footer(const char *object, uint64 identity, const uint8 *bytes, Size len, uint64 object_size,
					uint32 *footer_size)
{
	SegmentTrailer trailer;
	S3am__SegmentFooter *footer;
	const uint8 *start;
	const char *wrong;
	uint64 rows = 0, end = SEGMENT_HEADER_SIZE / 8;

	if (len < sizeof(trailer))
		segment_damaged(object, "cut off");
	memcpy(&trailer, bytes + len - sizeof(trailer), sizeof(trailer));
	if (trailer.magic != TRAILER_MAGIC || trailer.footer > object_size - SEGMENT_HEADER_SIZE - sizeof(trailer))
		segment_damaged(object, "no trailer");
	*footer_size = trailer.footer + sizeof(trailer);
	if (*footer_size > len)
		return NULL;
	start = bytes + len - *footer_size;
	{
		/* in the order in which they were hashed: the footer, then the trailer but for its checksum */
		static XXH3_state_t *state; /* made once */
		uint64 h;

		if (state == NULL)
			state = XXH3_createState();
		if (state == NULL)
			ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
		XXH3_64bits_reset_withSeed(state, identity);
		XXH3_64bits_update(state, start, trailer.footer);
		XXH3_64bits_update(state, (char *) &trailer + sizeof(trailer.checksum),
						   sizeof(trailer) - sizeof(trailer.checksum));
		h = XXH3_64bits_digest(state);
		if (h != trailer.checksum)
			segment_damaged(object, "the footer's checksum does not fit");
	}
	footer = s3am__segment_footer__unpack(message_allocator(CurrentMemoryContext), trailer.footer, start);
	if (footer == NULL || footer->schema == NULL || footer->pages == NULL)
		segment_damaged(object, "the footer cannot be decoded");
	wrong = schema_check(footer->schema);
	if (wrong)
		segment_damaged(object, wrong);
	if (footer->pages->n_rows != footer->pages->n_size8 || footer->n_columns != footer->schema->n_columns)
		segment_damaged(object, "the footer's parts do not fit together");
	for (size_t i = 0; i < footer->pages->n_rows; i++)
	{
		rows += footer->pages->rows[i];
		end += footer->pages->size8[i];
	}
	if (rows != footer->nrows || end * 8 != object_size - *footer_size)
		segment_damaged(object, "the directory of pages does not fit");
	return footer;
}
