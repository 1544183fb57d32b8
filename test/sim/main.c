/*
 * main.c: runs seeds.
 *
 *   sim --seed N | --seeds A-B  [--steps 1000] [--scenario NAME] [--off RULE[,RULE]] [--trace] [--all-faults]
 *
 * A seed chooses its scenario unless one is named.  Exit status 0: no violation; 1: one, which is printed with its seed and the
 * last events; 2: wrong usage, or with --all-faults a kind of fault that never happened.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "sim.h"

Scenario sc;
u64 counters[16];
unsigned char rule_off[NRULES];

static const char *const rule_names[] = {
#define RULE_NAME(name, text) #name,
	RULE_LIST(RULE_NAME)};
static const char *const fault_texts[] = {
#define FAULT_TEXT(name, text) text,
	FAULT_LIST(FAULT_TEXT)};
static const char *const counter_names[] = {"committed", "conflict", "aborted",     "fenced",    "versions",
											"probes",    "void",     "checkpoints", "collected", "marked",
											"restored",  "stalled",  "reread",      "refused"};

#define SLOW_COLLECTION .grace_ms = 1000, .retention_ms = 600, .pin_ms = 8000, .lease_ms = 1500, .every = 4
#define QUICK_COLLECTION .grace_ms = 120, .retention_ms = 100, .pin_ms = 3000, .lease_ms = 800, .every = 4
#define HASTY_COLLECTION .grace_ms = 30, .retention_ms = 20, .pin_ms = 1000, .lease_ms = 400, .every = 4

const Scenario scenarios[] = {
	{.name = "mixed",
	 .lost = 30,
	 .slow = 60,
	 .odd = 30,
	 .denied = 8,
	 .duplicate = 20,
	 .late_duplicate = 10,
	 .pause = 30,
	 .long_pause = 8,
	 .crash = 12,
	 .clone = 6,
	 .clock = 10,
	 .shared = 60,
	 .rows = 6,
	 .serializable = 300,
	 .ddl = 30,
	 .think_ms = 40,
	 .collect_ms = 1000,
	 .segments = 300,
	 SLOW_COLLECTION},
	{.name = "lossy",
	 .lost = 150,
	 .slow = 150,
	 .odd = 100,
	 .denied = 30,
	 .duplicate = 60,
	 .late_duplicate = 20,
	 .pause = 10,
	 .long_pause = 2,
	 .crash = 5,
	 .clone = 2,
	 .clock = 5,
	 .shared = 60,
	 .rows = 8,
	 .serializable = 200,
	 .ddl = 20,
	 .think_ms = 60,
	 .collect_ms = 2000,
	 .segments = 300,
	 SLOW_COLLECTION},
	{.name = "conflicts",
	 .lost = 10,
	 .slow = 100,
	 .odd = 10,
	 .duplicate = 5,
	 .pause = 30,
	 .crash = 3,
	 .shared = 20,
	 .rows = 3,
	 .serializable = 400,
	 .ddl = 50,
	 .think_ms = 60,
	 .collect_ms = 2000,
	 .segments = 200,
	 SLOW_COLLECTION},
	{.name = "parents",
	 .lost = 10,
	 .slow = 200,
	 .odd = 10,
	 .pause = 100,
	 .crash = 3,
	 .shared = 20,
	 .rows = 2,
	 .serializable = 0,
	 .ddl = 5,
	 .think_ms = 60,
	 .collect_ms = 2000,
	 .segments = 100,
	 SLOW_COLLECTION},
	{.name = "crashes",
	 .lost = 60,
	 .slow = 60,
	 .odd = 20,
	 .denied = 5,
	 .duplicate = 30,
	 .late_duplicate = 30,
	 .pause = 30,
	 .long_pause = 15,
	 .crash = 60,
	 .clone = 30,
	 .clock = 30,
	 .shared = 100,
	 .rows = 8,
	 .serializable = 100,
	 .ddl = 10,
	 .think_ms = 60,
	 .collect_ms = 1500,
	 .segments = 300,
	 SLOW_COLLECTION},
	{.name = "collect",
	 .lost = 60,
	 .slow = 40,
	 .odd = 10,
	 .duplicate = 60,
	 .late_duplicate = 100,
	 .pause = 20,
	 .long_pause = 40,
	 .crash = 10,
	 .clone = 5,
	 .clock = 10,
	 .shared = 60,
	 .rows = 10,
	 .serializable = 100,
	 .ddl = 40,
	 .think_ms = 150,
	 .collect_ms = 200,
	 .segments = 500,
	 QUICK_COLLECTION},
	{.name = "zombies",
	 .lost = 20,
	 .slow = 100,
	 .odd = 10,
	 .duplicate = 60,
	 .late_duplicate = 700,
	 .pause = 60,
	 .long_pause = 120,
	 .crash = 30,
	 .clone = 5,
	 .clock = 10,
	 .shared = 30,
	 .rows = 12,
	 .serializable = 50,
	 .ddl = 30,
	 .think_ms = 20,
	 .collect_ms = 30,
	 .segments = 500,
	 HASTY_COLLECTION},
	{.name = "leftovers",
	 .lost = 10,
	 .slow = 400,
	 .odd = 5,
	 .duplicate = 10,
	 .pause = 10,
	 .long_pause = 5,
	 .crash = 100,
	 .clone = 30,
	 .shared = 10,
	 .rows = 12,
	 .ddl = 60,
	 .think_ms = 30,
	 .collect_ms = 30,
	 .segments = 900,
	 HASTY_COLLECTION},
	{.name = "away",
	 .slow = 200,
	 .pause = 60,
	 .away = 60,
	 .shared = 10,
	 .rows = 12,
	 .ddl = 20,
	 .think_ms = 20,
	 .collect_ms = 20,
	 .segments = 900,
	 .grace_ms = 10,
	 .retention_ms = 20,
	 .pin_ms = 3000,
	 .lease_ms = 2000,
	 .every = 4},
	{.name = "attach",
	 .lost = 10,
	 .slow = 300,
	 .odd = 5,
	 .duplicate = 30,
	 .late_duplicate = 800,
	 .pause = 100,
	 .long_pause = 500,
	 .crash = 80,
	 .shared = 10,
	 .rows = 12,
	 .ddl = 20,
	 .think_ms = 20,
	 .collect_ms = 20,
	 .segments = 900,
	 .grace_ms = 30,
	 .retention_ms = 20,
	 .pin_ms = 1000,
	 .lease_ms = 1500,
	 .every = 4,
	 .hurried = true},
	{.name = "asleep",
	 .lost = 10,
	 .slow = 100,
	 .duplicate = 10,
	 .pause = 50,
	 .long_pause = 150,
	 .crash = 80,
	 .shared = 10,
	 .rows = 12,
	 .ddl = 40,
	 .think_ms = 20,
	 .collect_ms = 20,
	 .segments = 700,
	 .grace_ms = 30,
	 .retention_ms = 20,
	 .pin_ms = 300,
	 .lease_ms = 200,
	 .every = 4},
	{.name = "worst",
	 .lost = 10,
	 .slow = 100,
	 .odd = 5,
	 .duplicate = 30,
	 .pause = 60,
	 .long_pause = 30,
	 .crash = 200,
	 .clone = 30,
	 .shared = 10,
	 .rows = 12,
	 .ddl = 20,
	 .think_ms = 20,
	 .collect_ms = 20,
	 .segments = 900,
	 .adversary = 800,
	 .grace_ms = 30,
	 .retention_ms = 20,
	 .pin_ms = 3000,
	 .lease_ms = 1500,
	 .every = 0},
	{.name = "alone", .nodes = 1, .clients = 1, .put_ms = 28, .bench = true, SLOW_COLLECTION},
	{.name = "group", .nodes = 1, .clients = 64, .put_ms = 28, .bench = true, SLOW_COLLECTION},
	{.name = "starved",
	 .lost = 60,
	 .slow = 60,
	 .odd = 20,
	 .denied = 5,
	 .duplicate = 20,
	 .late_duplicate = 10,
	 .pause = 20,
	 .long_pause = 10,
	 .crash = 20,
	 .clone = 5,
	 .shared = 60,
	 .rows = 8,
	 .serializable = 100,
	 .ddl = 20,
	 .think_ms = 60,
	 .collect_ms = 400,
	 .segments = 300,
	 .memory = 150,
	 QUICK_COLLECTION},
	{.name = "refused",
	 .lost = 60,
	 .slow = 60,
	 .odd = 20,
	 .duplicate = 20,
	 .late_duplicate = 10,
	 .pause = 20,
	 .crash = 5,
	 .clone = 5,
	 .shared = 60,
	 .rows = 8,
	 .serializable = 100,
	 .ddl = 20,
	 .think_ms = 60,
	 .collect_ms = 400,
	 .segments = 300,
	 .refused = 500,
	 QUICK_COLLECTION},
	{.name = "forged",
	 .lost = 10,
	 .slow = 20,
	 .pause = 40,
	 .rows = 8,
	 .ddl = 10,
	 .think_ms = 60,
	 .tamper = 100,
	 .segments = 100,
	 SLOW_COLLECTION},
};
const int nscenarios = sizeof(scenarios) / sizeof(*scenarios);

/* ---------------------------------------------------------------- notes */

#define NNOTES 60
static char notes[NNOTES][200];
static u64 nnotes;
static bool trace;
static u64 seed;
static u64 steps_run;

void
note(const char *format, ...)
{
	va_list args;
	char *text = notes[nnotes++ % NNOTES];
	int used = snprintf(text, 200, "%10.3f ms, step %llu: ", now_us / 1000.0, (unsigned long long) steps);

	va_start(args, format);
	vsnprintf(text + used, 200 - used, format, args);
	va_end(args);
	if (trace)
		puts(text);
}

void
violation(const char *format, ...)
{
	va_list args;

	if (!trace)
		for (u64 i = nnotes > NNOTES ? nnotes - NNOTES : 0; i < nnotes; i++)
			puts(notes[i % NNOTES]);
	printf("VIOLATION: seed %llu, scenario %s, step %llu: ", (unsigned long long) seed, sc.name,
		   (unsigned long long) steps);
	va_start(args, format);
	vprintf(format, args);
	va_end(args);
	putchar('\n');
	fflush(stdout);
	_Exit(1);
}

/* ---------------------------------------------------------------- a run */

static void
run(const Scenario *scenario, u64 nsteps)
{
	u64 calm_at, limit;

	world_reset(seed);
	truth_reset();
	client_reset();
	do
		sc = scenario ? *scenario : scenarios[rnd_below(nscenarios)];
	while (scenario == NULL && sc.bench);
	if (sc.nodes == 0)
	{
		sc.nodes = NNODES;
		sc.clients = 8;
	}
	proc_start_all();
	client_start_all();
	while (steps < nsteps && !tamper_found && world_step())
		;
	if (tamper_found)
	{
		/* it was noticed, and nobody goes on from there */
		proc_reset();
		world_reset(seed);
		proc_free();
		return;
	}
	/* everything must come to an end once the faults do */
	calm = true;
	proc_calm();
	calm_at = now_us;
	limit = now_us + 60000000;
	while (now_us < limit && !tamper_found && world_step())
		if ((steps & 63) == 0 && client_pending() == 0 && !proc_questions() && !proc_background(calm_at) &&
			client_resolve(false))
			break;
	if (client_pending() > 0 || proc_questions())
		proc_report();
	if (!tamper_found && (client_pending() > 0 || proc_questions()))
		violation("STALLED: %d transactions have no answer a minute after the last fault%s", client_pending(),
				  proc_questions() ? ", and there are probes without one" : "");
	if (!tamper_found && proc_background(calm_at))
		violation("STALLED: a checkpoint or a collection has not come to an end a minute after the last fault");
	steps_run = steps;
	if (!tamper_found && !client_resolve(true))
		violation("STALLED: no node is ready");
	proc_reset();
	world_reset(seed);
	proc_free();
}

static void
usage(void)
{
	fprintf(
		stderr,
		"usage: sim --seed N | --seeds A-B [--steps N] [--scenario NAME] [--off RULE,...] [--trace] [--all-faults]\n");
	exit(2);
}

int
main(int argc, char **argv)
{
	u64 first = 0, last = 0, nsteps = 1000, total = 0;
	const Scenario *scenario = NULL;
	bool all_faults = false;
	clock_t began = clock();

	for (int i = 1; i < argc; i++)
	{
		const char *next = i + 1 < argc ? argv[i + 1] : "";

		if (strcmp(argv[i], "--seed") == 0)
			first = last = strtoull(next, NULL, 10), i++;
		else if (strcmp(argv[i], "--seeds") == 0)
		{
			if (sscanf(next, "%llu-%llu", (unsigned long long *) &first, (unsigned long long *) &last) != 2)
				usage();
			i++;
		}
		else if (strcmp(argv[i], "--steps") == 0)
			nsteps = strtoull(next, NULL, 10), i++;
		else if (strcmp(argv[i], "--scenario") == 0)
		{
			for (int s = 0; s < nscenarios; s++)
				if (strcmp(scenarios[s].name, next) == 0)
					scenario = &scenarios[s];
			if (scenario == NULL)
				usage();
			i++;
		}
		else if (strcmp(argv[i], "--off") == 0)
		{
			char *list = strdup(next);

			for (char *name = strtok(list, ","); name; name = strtok(NULL, ","))
			{
				int r = 0;

				while (r < NRULES && strcmp(rule_names[r], name) != 0)
					r++;
				if (r == NRULES)
					usage();
				rule_off[r] = 1;
			}
			free(list);
			i++;
		}
		else if (strcmp(argv[i], "--trace") == 0)
			trace = true;
		else if (strcmp(argv[i], "--all-faults") == 0)
			all_faults = true;
		else
			usage();
	}
	for (seed = first; seed <= last; seed++)
	{
		run(scenario, nsteps);
		total += steps_run;
	}
	printf("%llu seeds of %llu steps and what it takes to come to an end, %llu in all: no violation, %.1f s of "
		   "processor time\n",
		   (unsigned long long) (last - first + 1), (unsigned long long) nsteps, (unsigned long long) total,
		   (double) (clock() - began) / CLOCKS_PER_SEC);
	for (size_t i = 0; i < sizeof(counter_names) / sizeof(*counter_names); i++)
		printf("  %-12s %12llu\n", counter_names[i], (unsigned long long) counters[i]);
	for (int i = 0; i < NFAULTS; i++)
		printf("  %-42s %12llu\n", fault_texts[i], (unsigned long long) fault_count[i]);
	if (sc.bench)
		printf("  median of a commit %.1f ms, a PUT takes %d ms; %.1f commits per version\n",
			   client_median_us() / 1000.0, sc.put_ms,
			   (double) counters[N_COMMITTED] / (double) (counters[N_VERSIONS] ? counters[N_VERSIONS] : 1));
	if (all_faults)
		for (int i = 0; i < NFAULTS; i++)
			if (fault_count[i] == 0)
			{
				printf("a kind of fault never happened: %s\n", fault_texts[i]);
				return 2;
			}
	truth_reset();
	client_reset();
	return 0;
}
