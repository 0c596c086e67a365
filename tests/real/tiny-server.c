// SPDX-License-Identifier: MIT
// A small threaded server for `make demo` where no redis can be had: a thread per
// connection, a line in, a line out. "version" answers with the version, anything else is
// sent back.
//
//   tiny-server PORT

#define _GNU_SOURCE
#include <arpa/inet.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

static int run_version(char *out, size_t size, const char *line)
{
	(void)line;
	return snprintf(out, size, "tiny 1.0\n");
}

static int run_echo(char *out, size_t size, const char *line)
{
	return snprintf(out, size, "%s\n", line);
}

// Handlers are reached through this table only, so that the compiler cannot fold them into
// serve(), which a connection's thread does not leave while the connection lasts.
static const struct command {
	const char *name;
	int (*run)(char *out, size_t size, const char *line);
} commands[] = {
	{ "version", run_version },
	{ "", run_echo },
};

static void *serve(void *arg)
{
	FILE *in = fdopen((int)(intptr_t)arg, "r");
	char line[512], out[600];

	while (fgets(line, sizeof(line), in)) {
		line[strcspn(line, "\r\n")] = '\0';
		const struct command *c = commands;
		while (*c->name && strcmp(c->name, line))
			c++;
		int n = c->run(out, sizeof(out), line);
		if (send(fileno(in), out, (size_t)n, MSG_NOSIGNAL) != n)
			break;
	}
	fclose(in);
	return NULL;
}

int main(int argc, char **argv)
{
	struct sockaddr_in at = { .sin_family = AF_INET,
				  .sin_port = htons((uint16_t)atoi(argc > 1 ? argv[1] : "7007")),
				  .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int listener = socket(AF_INET, SOCK_STREAM, 0);

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &(int){ 1 }, sizeof(int));
	if (bind(listener, (struct sockaddr *)&at, sizeof(at)) || listen(listener, 128)) {
		perror("tiny-server");
		return 1;
	}
	for (;;) {
		int fd = accept(listener, NULL, NULL);
		pthread_t thread;
		if (fd < 0)
			continue;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &(int){ 1 }, sizeof(int));
		if (!pthread_create(&thread, NULL, serve, (void *)(intptr_t)fd))
			pthread_detach(thread);
	}
}
