/*
 * hashcode.c: what s3hash keeps of a value: 64 bits that are the same for equal values, on every server.
 *
 * Entries travel, so another server must come to the same code.  Of types on the list of keybytes.c a code is the hash of their bytes.  The
 * hash functions of core would not do for all of them: that of enums hashes OIDs.  Other types have what the hash functions of their
 * operator class say.
 */
#include "postgres.h"

#include "access/hash.h"
#include "access/transam.h"
#include "fmgr.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/memutils.h"
#include "utils/rel.h"

#include "index/hashcode.h"
#include "index/keybytes.h"
#include "index/keyhash.h"
#include "segment/codec.h"

/* Codes are in segments: none of this ever changes. */
#define CODE_SEED 0
#define EXTENDED_SEED                                                                                                  \
	0 /* with it the lower half of what core's extended hash functions return is what the others return */

/* A hash function of an operator family. */
typedef struct CodeFunction
{
	FmgrInfo function;
	bool extended; /* of 64 bits */
} CodeFunction;

struct HashCoder
{
	Oid family, input, collation;
	KeyType *type; /* NULL: not on the list */
	CodeFunction own; /* if so */
	/* the same for values of another type: the last one that was asked for */
	Oid other;
	bool other_fits;
	KeyType *other_type;
	CodeFunction other_own;
};

static bool
find_function(Oid family, Oid type, CodeFunction *found)
{
	Oid function = get_opfamily_proc(family, type, type, HASHEXTENDED_PROC);

	found->extended = OidIsValid(function);
	if (!found->extended)
		function = get_opfamily_proc(family, type, type, HASHSTANDARD_PROC);
	if (OidIsValid(function))
		fmgr_info(function, &found->function);
	return OidIsValid(function);
}

/* How values of a type are written that the family's equality compares. */
static KeyType *
listed_type(Oid family, Oid input, Oid type, Oid collation)
{
	Oid equality = get_opfamily_member(family, input, input, HTEqualStrategyNumber);

	return OidIsValid(equality) ? key_type(type, get_opcode(equality), InvalidOid, collation) : NULL;
}

HashCoder *
hash_coder(Relation index)
{
	HashCoder *coder = palloc0(sizeof(HashCoder));

	coder->family = index->rd_opfamily[0];
	coder->input = index->rd_opcintype[0];
	coder->collation = index->rd_indcollation[0];
	coder->type = listed_type(coder->family, coder->input, key_column_type(index, 0), coder->collation);
	if (coder->type == NULL && !find_function(coder->family, coder->input, &coder->own))
		elog(ERROR, "missing support function %d(%u,%u) in opfamily %u", HASHSTANDARD_PROC, coder->input, coder->input,
			 coder->family);
	return coder;
}

/* Are values in memory the same on every server, or made of such? */
static bool
is_same_everywhere(const Codec *codec)
{
	switch (codec->kind)
	{
		case S3AM__STORED_TYPE__KIND__PLAIN:
			return true;
		case S3AM__STORED_TYPE__KIND__ARRAY:
		case S3AM__STORED_TYPE__KIND__RANGE:
		case S3AM__STORED_TYPE__KIND__MULTIRANGE:
			/* no hash is of the OID of what they are made of */
			return is_same_everywhere(codec->part);
		default:
			return false;
	}
}

void
hash_check_column(Relation index)
{
	Oid type = key_column_type(index, 0);
	MemoryContext cxt, old;
	HashCoder *coder;
	bool fits;

	cxt = AllocSetContextCreate(CurrentMemoryContext, "s3am hash column", ALLOCSET_SMALL_SIZES);
	old = MemoryContextSwitchTo(cxt);
	coder = hash_coder(index);
	fits = coder->type || is_same_everywhere(codec_for_writing(type, cxt));
	MemoryContextSwitchTo(old);
	MemoryContextDelete(cxt);
	if (!fits)
		ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
						errmsg("values of type %s cannot be in a hash index of an s3am table", format_type_be(type)),
						errdetail("Their hashes are others on each server."), errhint("Use btree.")));
}

static int64
code_by_type(const KeyType *type, Datum value)
{
	KeySink sink;

	key_sink_begin(&sink, CODE_SEED);
	key_put_byte(&sink, 1);
	key_put_value(&sink, type, value);
	return (int64) key_sink_hash(&sink);
}

static int64
code_by_function(const CodeFunction *of, Oid collation, Datum value)
{
	FmgrInfo *function = unconstify(FmgrInfo *, &of->function);

	if (of->extended)
		return DatumGetInt64(FunctionCall2Coll(function, collation, value, Int64GetDatum(EXTENDED_SEED)));
	return DatumGetUInt32(FunctionCall1Coll(function, collation, value));
}

int64
hash_code(const HashCoder *coder, Datum value)
{
	return coder->type ? code_by_type(coder->type, value) : code_by_function(&coder->own, coder->collation, value);
}

/* Looks at a type that the operator family compares with the column's; what is found stays as long as the coder. */
static void
find_other(HashCoder *coder, Oid type)
{
	MemoryContext old = MemoryContextSwitchTo(GetMemoryChunkContext(coder));

	coder->other = InvalidOid;
	if (coder->type)
	{
		coder->other_type = listed_type(coder->family, type, type, coder->collation);
		coder->other_fits = coder->other_type != NULL;
	}
	else
		coder->other_fits =
			find_function(coder->family, type, &coder->other_own) && coder->other_own.extended == coder->own.extended;
	coder->other = type;
	MemoryContextSwitchTo(old);
}

bool
hash_code_of_key(HashCoder *coder, ScanKey key, int64 *code)
{
	Oid type = key->sk_subtype;

	if (!OidIsValid(type) || type == coder->input)
	{
		*code = hash_code(coder, key->sk_argument);
		return true;
	}
	/* the families of core hold equal what has equal bytes; what others add to them may compare as it likes */
	if (coder->type && key->sk_func.fn_oid >= FirstNormalObjectId)
		return false;
	if (coder->other != type)
		find_other(coder, type);
	if (!coder->other_fits)
		return false;
	*code = coder->type ? code_by_type(coder->other_type, key->sk_argument)
						: code_by_function(&coder->other_own, coder->collation, key->sk_argument);
	return true;
}

uint64
hash_code_local(int64 code)
{
	return key_hash_proper((uint64) code);
}

uint64
hash_code_global(const HashCoder *coder, int64 code)
{
	return coder->type ? key_hash_proper((uint64) code) : KEY_HASH_INDEX;
}
