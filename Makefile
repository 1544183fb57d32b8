# s3am: tables in a bucket.  `make quickstart` and `make check` do everything; see README.md.

PG_CONFIG ?= pg_config

MODULE_big = s3am
EXTENSION = s3am
DATA = sql/s3am--0.1.sql

PARTS = store manifest segment node txn ddl table worker
GENERATED = src/manifest/s3am.pb-c.c $(patsubst %.proto,%.pb-c.c,$(wildcard src/segment/*.proto))
SOURCES = $(sort $(filter-out %.pb-c.c,$(wildcard src/*.c $(foreach part,$(PARTS),src/$(part)/*.c))) $(GENERATED))
OBJS = $(SOURCES:.c=.o)

# PostgreSQL 15 exports nothing by itself when visibility is hidden
PG_CPPFLAGS = -Isrc -D_GNU_SOURCE '-DPGDLLEXPORT=__attribute__((visibility("default")))'
PG_CFLAGS = -std=gnu11 -Wall -Wextra -Wno-unused-parameter -Wno-sign-compare -Wno-missing-field-initializers \
	-Wno-declaration-after-statement -Wno-cast-function-type -Wno-clobbered -fvisibility=hidden $(WERROR)
SHLIB_LINK = -lcurl -lcrypto -lzstd -lxxhash -lroaring -lprotobuf-c
EXTRA_CLEAN = $(GENERATED) $(GENERATED:.c=.h)

ifneq ($(shell command -v $(PG_CONFIG)),)
PGXS := $(shell $(PG_CONFIG) --pgxs)
ifneq ($(wildcard $(PGXS)),)
override with_llvm = no
include $(PGXS)
endif
endif

$(OBJS): | $(GENERATED)
$(OBJS): $(GENERATED:.c=.h)

%.pb-c.c %.pb-c.h: %.proto
	protoc-c --c_out=$(dir $@) -I$(dir $<) $(notdir $<)

# ---------------------------------------------------------------- the two commands

SUDO := $(if $(filter 0,$(shell id -u)),,sudo)

.PHONY: deps check-deps installed quickstart check

deps:
	scripts/install-deps
check-deps:
	scripts/install-deps check

# in a make of its own: what PGXS says is read when a makefile is, and the packages may just have come
installed:
	$(MAKE) --no-print-directory all
	$(SUDO) $(MAKE) --no-print-directory -s install

quickstart: deps
	$(MAKE) --no-print-directory -s installed
	scripts/quickstart

check: check-deps
	$(MAKE) --no-print-directory -s installed
	test/run
