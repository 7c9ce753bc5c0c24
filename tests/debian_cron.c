/* Reads a user's crontab as Debian's cron does, with its own load_env and load_entry, and prints what it took. */
#define MAIN_PROGRAM
#include "cron.h"
#include <pwd.h>

static void bad(char *why) { printf("bad %s\n", why); }

static void bits(char *name, bitstr_t *set, int low, int high) {
	int i;
	printf(" %s", name);
	for (i = low; i <= high; i++)
		if (bit_test(set, i - low))
			printf(",%d", i);
}

int main(int argc, char **argv) {
	char envstr[MAX_ENVSTR], **envp = env_init(), **p;
	FILE *file = fopen(argv[1], "r");
	entry *e;
	int status;
	Set_LineNum(1)
	while ((status = load_env(envstr, file)) >= OK) {
		if (status == TRUE) {
			envp = env_set(envp, envstr);
			continue;
		}
		if (!(e = load_entry(file, bad, getpwuid(getuid()), envp)))
			return 0;
		printf("entry %d", e->flags);
		bits("minute", e->minute, 0, 59);
		bits("hour", e->hour, 0, 23);
		bits("dom", e->dom, 1, 31);
		bits("month", e->month, 1, 12);
		bits("dow", e->dow, 0, 7);
		putchar('\n');
		for (p = e->envp; *p; p++)
			printf("env %s\n", *p);
		printf("cmd %s\n", e->cmd);
	}
	if (envstr[0])
		printf("bad no newline\n");
	return 0;
}
