# s3am: tables in a bucket.  `make quickstart` and `make check` do everything; see README.md.
#
#   make, make install, make clean    the extension alone, for the PostgreSQL that $PG_CONFIG belongs to
#   make quickstart                   installs what is missing, builds, shows s3am on a throw-away server
#   make check                        installs what is missing, builds, runs every test that must pass
#   make bench                        the figures that s3am promises, each with what is wanted; fails if one is short
#   make soak                         the long forms of the tests, three and a half hours: simulator, differential, TPC-B and churn under kill -9, a million statements

PG_CONFIG ?= pg_config
export PG_CONFIG

SUDO := $(if $(filter 0,$(shell id -u)),,sudo)
EXTENSION_MAKE = $(MAKE) --no-print-directory -f extension.mk

.PHONY: all install uninstall clean installed deps check-deps quickstart check soak bench

all install uninstall clean:
	@$(EXTENSION_MAKE) $@

deps:
	scripts/install-deps
check-deps:
	scripts/install-deps check

# in makes of their own: PGXS may just have come with the packages
installed:
	@$(EXTENSION_MAKE) -s $(if $(findstring -j,$(MAKEFLAGS)),,-j2) all
	@$(SUDO) $(EXTENSION_MAKE) -s install PG_CONFIG="$(PG_CONFIG)"

quickstart: deps
	@$(MAKE) --no-print-directory -s installed
	scripts/quickstart

check: check-deps
	@$(MAKE) --no-print-directory -s installed WERROR=-Werror
	test/run

soak: check-deps
	@$(MAKE) --no-print-directory -s installed
	test/soak/run

bench: check-deps
	@$(MAKE) --no-print-directory -s installed
	status=0; for part in run scan index load compaction memory segments; do bench/$$part || status=1; done; exit $$status
