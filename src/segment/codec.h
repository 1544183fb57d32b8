/*
 * codec.h: datums that mean the same on every server, and the dictionary that says what they mean.
 *
 * A codec knows one type, both as this server has it and as it is stored.  README.md says which types are stored how, and why.
 */
#ifndef S3AM_SEGMENT_CODEC_H
#define S3AM_SEGMENT_CODEC_H

#include "postgres.h"

#include "lib/stringinfo.h"

#include "manifest/s3am.pb-c.h"

typedef struct Codec Codec;

typedef struct CodecField
{
	uint32 number; /* of the composite type's attribute */
	Codec *codec;
} CodecField;

struct Codec
{
	S3am__StoredType__Kind kind;
	Oid type; /* here; domains are gone.  InvalidOid: nothing here has it, it can only be skipped */
	int16 typlen; /* as stored in a row: of the type if it is plain */
	bool byval;
	char align;
	uint32 reg; /* REG: type OID of the catalog's own reg* type */
	Codec *part;
	CodecField *fields;
	int nfields;
	uint64 row_type; /* COMPOSITE: tupDesc_identifier that `fields` were made for */
	MemoryContext cxt; /* where it lives */
	const S3am__BatchSchema *dictionary; /* reading */
	const S3am__StoredType *stored;
	int index; /* writing: in the dictionary being made, or -1 */
};

/* ---- writing */

/* How values of a type are stored.  Refuses pseudo-types. */
extern Codec *codec_for_writing(Oid type, MemoryContext cxt);

/* A value as a row holds it.  Plain ones are only detoasted.  palloc'ed in the current context. */
extern Datum codec_encode(Codec *codec, Datum value);

/* Adds the type, and those it is made of, to a dictionary under construction; returns its index. */
typedef struct DictionaryBuilder
{
	S3am__BatchSchema *schema;
	int capacity;
	bool labels; /* with enum labels: for a footer */
} DictionaryBuilder;
extern uint32 codec_describe(Codec *codec, DictionaryBuilder *builder);

/* ---- reading */

/*
 * How stored values of dictionary entry `index` become values of a local type (InvalidOid: none; they are skipped).
 * `dictionary` must live as long as the codec, and have passed schema_check().
 */
extern Codec *codec_for_reading(const S3am__BatchSchema *dictionary, uint32 index, Oid type, MemoryContext cxt);

/* A local value from what a row holds (a flat datum); palloc'ed in the current context unless it is plain. */
extern Datum codec_decode(Codec *codec, Datum stored, const char *object);

/* Must codec_decode() be called at all? */
static inline bool
codec_is_plain(const Codec *codec)
{
	return codec->kind == S3AM__STORED_TYPE__KIND__PLAIN;
}

/* ---- reg.c: names of objects that reg* values and aclitems refer to */

/* The qualified name of an object, or NULL if it does not exist; palloc'ed. */
extern char *reg_name(Oid reg_type, Oid object);
/* The object of that name, or `written`, the number it had for the writer, if nothing else has it; else InvalidOid. */
extern Oid reg_object(Oid reg_type, const char *name, Oid written);
extern void reg_append_aclitem(StringInfo buf, Datum aclitem);
extern Datum reg_read_aclitem(const uint8 *data, Size len, const char *object);

/* ---- labels.c: numbers of enum labels */

extern uint32 enum_label_number(Oid type, Oid label);
/* Throws if there is no such label. */
extern Oid enum_number_label(Oid type, uint32 number);
/* Names of labels 1 to n; palloc'ed. */
extern char **enum_label_names(Oid type, int *n);
/* Before a label is added to a type: keeps the numbers of those it has. */
extern void enum_labels_freeze(Oid type);
/* A type is about to be dropped. */
extern void enum_labels_drop(Oid type);

#endif
