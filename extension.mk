# extension.mk: builds and installs the extension with PostgreSQL's own rules (PGXS); the Makefile calls it.

PG_CONFIG ?= pg_config

MODULE_big = s3am
EXTENSION = s3am
DATA = sql/s3am--0.1.sql

PARTS = cache store manifest segment node txn ddl table index worker compact inspect verify
GENERATED = src/manifest/s3am.pb-c.c $(patsubst %.proto,%.pb-c.c,$(wildcard src/segment/*.proto))
SOURCES = $(sort $(filter-out %.pb-c.c,$(wildcard src/*.c $(foreach part,$(PARTS),src/$(part)/*.c))) $(GENERATED))
OBJS = $(SOURCES:.c=.o)

# PostgreSQL 15 exports nothing by itself when visibility is hidden
# -MMD -MP: an object is made anew when a header that it includes has changed
PG_CPPFLAGS = -Isrc -MMD -MP -D_GNU_SOURCE '-DPGDLLEXPORT=__attribute__((visibility("default")))'
PG_CFLAGS = -std=gnu11 -Wall -Wextra -Werror=implicit-function-declaration -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers \
	-Wno-declaration-after-statement -Wno-cast-function-type -Wno-clobbered -fvisibility=hidden $(WERROR)
SHLIB_LINK = -lcurl -lcrypto -lzstd -lxxhash -lroaring -lprotobuf-c
EXTRA_CLEAN = $(GENERATED) $(GENERATED:.c=.h) $(OBJS:.o=.d)

override with_llvm = no
PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

$(OBJS): | $(GENERATED)
.PHONY: generated
generated: $(GENERATED) $(GENERATED:.c=.h)
$(OBJS): $(GENERATED:.c=.h)

-include $(OBJS:.o=.d)

%.pb-c.c %.pb-c.h: %.proto
	protoc-c --c_out=$(dir $@) -I$(dir $<) $(notdir $<)
