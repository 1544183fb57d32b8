/*
 * identity.c: see identity.h.
 *
 * The note is a file of the data directory, s3am/<database>.displaced: the identity in hexadecimal digits on the first line, by whom
 * on the second.  It counts only as long as the identity is the same.
 */
#include "postgres.h"

#include <sys/stat.h>
#include <unistd.h>
#include <xxhash.h>

#include "access/xlog.h"
#include "common/file_perm.h"
#include "miscadmin.h"
#include "storage/fd.h"
#include "utils/builtins.h"

#include "node/identity.h"

#define DIRECTORY "s3am"

char *s3am_node_name;

void
identity_of_node(NodeFacts *facts)
{
	uint64 system = GetSystemIdentifier();
	uint32 timeline = GetWALInsertionTimeLine();
	Oid database = MyDatabaseId;

	memcpy(facts->identity, &system, 8);
	memcpy(facts->identity + 8, &timeline, 4);
	memcpy(facts->identity + 12, &database, 4);
	facts->identity_len = 16;
	if (s3am_node_name && s3am_node_name[0])
	{
		uint64 name = XXH64(s3am_node_name, strlen(s3am_node_name), 0);

		memcpy(facts->identity + 16, &name, 8);
		facts->identity_len = 24;
	}
}

static void
note_path(char path[MAXPGPATH], Oid database)
{
	snprintf(path, MAXPGPATH, DIRECTORY "/%u.displaced", database);
}

static void
digits(char *hex, const uint8 *identity, uint32 len)
{
	hex[hex_encode((const char *) identity, len, hex)] = '\0';
}

void
identity_displaced(Oid database, const uint8 *identity, uint32 len, const char *by)
{
	char path[MAXPGPATH], new_path[MAXPGPATH + 8];
	char hex[NODE_IDENTITY_MAX * 2 + 1];
	FILE *file;

	note_path(path, database);
	snprintf(new_path, sizeof(new_path), "%s.new", path);
	digits(hex, identity, len);
	if (mkdir(DIRECTORY, pg_dir_create_mode) < 0 && errno != EEXIST)
	{
		ereport(LOG, (errcode_for_file_access(), errmsg("s3am: could not create directory \"%s\": %m", DIRECTORY)));
		return;
	}
	file = AllocateFile(new_path, PG_BINARY_W);
	if (file == NULL || fprintf(file, "%s\n%s\n", hex, by) < 0 || fflush(file) != 0 || pg_fsync(fileno(file)) != 0)
	{
		ereport(LOG, (errcode_for_file_access(), errmsg("s3am: could not write file \"%s\": %m", new_path)));
		if (file)
			(void) FreeFile(file);
		return;
	}
	(void) FreeFile(file);
	if (durable_rename(new_path, path, LOG) == 0)
		fsync_fname(DIRECTORY, true);
}

bool
identity_is_displaced(Oid database, const uint8 *identity, uint32 len, char *reason, Size size)
{
	char path[MAXPGPATH];
	char hex[NODE_IDENTITY_MAX * 2 + 1];
	char line[NODE_IDENTITY_MAX * 2 + 2], by[512] = "";
	FILE *file;
	bool same;

	note_path(path, database);
	file = AllocateFile(path, PG_BINARY_R);
	if (file == NULL)
		return false;
	digits(hex, identity, len);
	same = fgets(line, sizeof(line), file) && strncmp(line, hex, len * 2) == 0 && line[len * 2] == '\n';
	if (same && fgets(by, sizeof(by), file))
		by[strcspn(by, "\n")] = '\0';
	(void) FreeFile(file);
	if (same)
		snprintf(reason, size,
				 "%s.  Stop one of the two servers; if this one is to stay, remove \"%s\" from its data directory; "
				 "if both are, set s3am.node_name on one of them",
				 by[0] ? by : "another server with a copy of this data directory took this one's place", path);
	return same;
}
