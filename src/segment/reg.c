/*
 * reg.c: regclass and its kin, and aclitem, by the names of what they refer to.
 *
 * Names are always qualified, functions and operators with their argument types, so that neither search_path nor a namesake decides.
 * A value that refers to nothing (any more) keeps its number, as it does in PostgreSQL, unless the number means something
 * else on the server that reads it.
 */
#include "postgres.h"

#include "catalog/namespace.h"
#include "catalog/pg_authid.h"
#include "catalog/pg_collation.h"
#include "catalog/pg_namespace.h"
#include "catalog/pg_ts_config.h"
#include "catalog/pg_ts_dict.h"
#include "catalog/pg_type.h"
#include "miscadmin.h"
#include "utils/acl.h"
#include "utils/builtins.h"
#include "utils/lsyscache.h"
#include "utils/regproc.h"
#include "utils/syscache.h"

#include "segment/codec.h"
#include "segment/format.h"

/* The name of an object with a schema, from the syscache. */
static char *
qualified(int cache, Oid object, int name_attribute, int schema_attribute)
{
	HeapTuple tuple = SearchSysCache1(cache, ObjectIdGetDatum(object));
	bool isnull;
	char *schema, *result = NULL;

	if (!HeapTupleIsValid(tuple))
		return NULL;
	schema = get_namespace_name(DatumGetObjectId(SysCacheGetAttr(cache, tuple, schema_attribute, &isnull)));
	if (schema)
		result = quote_qualified_identifier(
			schema, NameStr(*DatumGetName(SysCacheGetAttr(cache, tuple, name_attribute, &isnull))));
	ReleaseSysCache(tuple);
	return result;
}

static char *
class_name(Oid relid)
{
	char *name = get_rel_name(relid);
	char *schema = name ? get_namespace_name(get_rel_namespace(relid)) : NULL;

	return schema ? quote_qualified_identifier(schema, name) : NULL;
}

static char *
quoted(char *name)
{
	return name ? pstrdup(quote_identifier(name)) : NULL;
}

char *
reg_name(Oid reg_type, Oid object)
{
	switch (reg_type)
	{
		case REGCLASSOID:
			return class_name(object);
		case REGPROCOID:
		case REGPROCEDUREOID:
			return format_procedure_extended(object, FORMAT_PROC_FORCE_QUALIFY | FORMAT_PROC_INVALID_AS_NULL);
		case REGOPEROID:
		case REGOPERATOROID:
			return format_operator_extended(object, FORMAT_OPERATOR_FORCE_QUALIFY | FORMAT_OPERATOR_INVALID_AS_NULL);
		case REGTYPEOID:
			return format_type_extended(object, -1, FORMAT_TYPE_FORCE_QUALIFY | FORMAT_TYPE_INVALID_AS_NULL);
		case REGROLEOID:
			return quoted(GetUserNameFromId(object, true));
		case REGNAMESPACEOID:
			return quoted(get_namespace_name(object));
		case REGCONFIGOID:
			return qualified(TSCONFIGOID, object, Anum_pg_ts_config_cfgname, Anum_pg_ts_config_cfgnamespace);
		case REGDICTIONARYOID:
			return qualified(TSDICTOID, object, Anum_pg_ts_dict_dictname, Anum_pg_ts_dict_dictnamespace);
		case REGCOLLATIONOID:
			return qualified(COLLOID, object, Anum_pg_collation_collname, Anum_pg_collation_collnamespace);
		default:
			elog(ERROR, "unexpected type %u", reg_type);
	}
	return NULL;
}

/* The to_reg* function: answers NULL where there is no such object. */
static PGFunction
finder(Oid reg_type)
{
	switch (reg_type)
	{
		case REGCLASSOID:
			return to_regclass;
		case REGPROCOID:
		case REGPROCEDUREOID:
			return to_regprocedure;
		case REGOPEROID:
		case REGOPERATOROID:
			return to_regoperator;
		case REGTYPEOID:
			return to_regtype;
		case REGROLEOID:
			return to_regrole;
		case REGNAMESPACEOID:
			return to_regnamespace;
		case REGCOLLATIONOID:
			return to_regcollation;
		default:
			return NULL;
	}
}

static Oid
find(Oid reg_type, const char *name)
{
	PGFunction function = finder(reg_type);
	LOCAL_FCINFO(fcinfo, 1);
	Datum result;

	if (function == NULL)
	{
		List *names = stringToQualifiedNameList(name);

		return reg_type == REGCONFIGOID ? get_ts_config_oid(names, true) : get_ts_dict_oid(names, true);
	}
	InitFunctionCallInfoData(*fcinfo, NULL, 1, InvalidOid, NULL, NULL);
	fcinfo->args[0].value = CStringGetTextDatum(name);
	fcinfo->args[0].isnull = false;
	result = function(fcinfo);
	return fcinfo->isnull ? InvalidOid : DatumGetObjectId(result);
}

Oid
reg_object(Oid reg_type, const char *name, Oid written)
{
	Oid object = InvalidOid;

	if (name)
	{
		Oid user;
		int context;

		/* reading a value needs no USAGE on the schema of what it names; an error restores the user, too */
		GetUserIdAndSecContext(&user, &context);
		SetUserIdAndSecContext(BOOTSTRAP_SUPERUSERID, context | SECURITY_LOCAL_USERID_CHANGE);
		object = find(reg_type, name);
		SetUserIdAndSecContext(user, context);
	}
	if (!OidIsValid(object) && OidIsValid(written) && reg_name(reg_type, written) == NULL)
		object = written;
	return object;
}

/* ------------------------------------------------------------------------------------ aclitem */

/* privileges (8 bytes), then the names of grantee (empty: PUBLIC) and grantor, each with its terminating zero */
void
reg_append_aclitem(StringInfo buf, Datum value)
{
	AclItem *item = (AclItem *) DatumGetPointer(value);
	uint64 privileges = item->ai_privs;
	const char *grantee = item->ai_grantee == ACL_ID_PUBLIC ? "" : GetUserNameFromId(item->ai_grantee, true);
	const char *grantor = GetUserNameFromId(item->ai_grantor, true);

	if (grantee == NULL || grantor == NULL)
		ereport(ERROR, (errcode(ERRCODE_UNDEFINED_OBJECT),
						errmsg("role with OID %u does not exist", grantee ? item->ai_grantor : item->ai_grantee),
						errdetail("An aclitem is stored by the names of its roles.")));
	appendBinaryStringInfo(buf, (char *) &privileges, sizeof(privileges));
	appendBinaryStringInfo(buf, grantee, strlen(grantee) + 1);
	appendBinaryStringInfo(buf, grantor, strlen(grantor) + 1);
}

Datum
reg_read_aclitem(const uint8 *data, Size len, const char *object)
{
	AclItem *item = palloc0(sizeof(AclItem));
	uint64 privileges;
	const char *grantee = (const char *) data + sizeof(privileges);
	const char *end = (const char *) data + len;
	const char *grantor;

	if (len < sizeof(privileges) + 2 || end[-1] != '\0')
		segment_damaged(object, "an aclitem is cut off");
	grantor = grantee + strlen(grantee) + 1;
	if (grantor >= end || grantor + strlen(grantor) + 1 != end)
		segment_damaged(object, "an aclitem is cut off");
	memcpy(&privileges, data, sizeof(privileges));
	item->ai_privs = privileges;
	/* these throw where the role does not exist: nobody else can stand for it */
	item->ai_grantee = *grantee ? get_role_oid(grantee, false) : ACL_ID_PUBLIC;
	item->ai_grantor = get_role_oid(grantor, false);
	return PointerGetDatum(item);
}
