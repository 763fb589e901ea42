// The agent's verbs.
#include "agent.h"

#include <stdio.h>
#include <string.h>

static int usage(FILE *out, int status)
{
	(void)fputs(
		"gureum-agent setup            at boot: host name, SSH keys, size of the root file "
		"system\n"
		"gureum-agent user-data        run the instance's script, once per instance\n"
		"gureum-agent run              heartbeats, the host's commands, the power button\n"
		"gureum-agent metadata PATH    print what instance metadata has at PATH\n"
		"gureum-agent --version\n",
		out); /* nowhere to tell that this failed */
	return status;
}

int main(int argc, char **argv)
{
	const char *verb = argc > 1 ? argv[1] : "";
	const char *slash = argc > 0 ? strrchr(argv[0], '/') : NULL;

	/* Under the name that scripts on other clouds know. */
	if (argc > 0 && strcmp(slash ? slash + 1 : argv[0], "ec2-metadata") == 0)
		return metadata_main(argc > 1 ? verb : "meta-data/");
	if (strcmp(verb, "setup") == 0 && argc == 2)
		return setup_main();
	if (strcmp(verb, "user-data") == 0 && argc == 2)
		return user_data_main();
	if (strcmp(verb, "run") == 0 && argc == 2)
		return run_main();
	if (strcmp(verb, "metadata") == 0 && (argc == 2 || argc == 3))
		return metadata_main(argc == 3 ? argv[2] : "meta-data/");
	if (strcmp(verb, "--version") == 0)
		return puts("gureum-agent " GUREUM_VERSION) < 0;
	if (strcmp(verb, "--help") == 0)
		return usage(stdout, 0);
	return usage(stderr, 2);
}
