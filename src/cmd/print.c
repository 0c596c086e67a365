// SPDX-License-Identifier: MIT
// Everything that the tool tells on a terminal goes through here.
#include "cmd/command.h"

#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

void print_escaped(FILE *file, const char *string)
{
	for (const unsigned char *byte = (const unsigned char *)string; *byte; byte++) {
		// C1 controls (U+0080 to U+009F) are 0xc2 0x80 and on in UTF-8.
		bool c1 = byte[0] == 0xc2 && byte[1] >= 0x80 && byte[1] <= 0x9f;
		if (c1)
			fprintf(file, "\\x%02x", *++byte);
		else if (*byte < 0x20 || *byte == 0x7f)
			fprintf(file, "\\x%02x", *byte);
		else
			fputc(*byte, file);
	}
}

// As print_escaped(), but a line end is one; lines after the first are indented.
static void print_lines(FILE *file, const char *text, const char *indent)
{
	for (;;) {
		size_t size = strcspn(text, "\n");
		_cleanup_free_ char *line = xstrndup(text, size);
		print_escaped(file, line);
		fputc('\n', file);
		text += size;
		if (!*text || !*++text)
			return;
		fputs(indent, file);
	}
}

static void say(const char *format, va_list args)
{
	_cleanup_free_ char *text = xvasprintf(format, args);
	cmd_progress_clear();
	print_lines(stderr, text, "");
}

void cmd_say(const struct command_context *context, const char *format, ...)
{
	if (context->quiet)
		return;
	va_list args;
	va_start(args, format);
	say(format, args);
	va_end(args);
}

void cmd_say_verbose(const struct command_context *context, const char *format, ...)
{
	if (!context->verbose)
		return;
	va_list args;
	va_start(args, format);
	say(format, args);
	va_end(args);
}

void print_failure(const struct error *error)
{
	cmd_progress_clear();
	fputs("suture: ", stderr);
	print_lines(stderr, error->message, "  ");
}

void print_findings(FILE *file, const struct findings *findings, bool with_notes)
{
	cmd_progress_clear();
	for (size_t i = 0; i < findings->list.count; i++) {
		const struct finding *finding = &findings->list.items[i];
		// What a person accepted is a note that everybody should see.
		if (finding->severity == FINDING_NOTE && !finding->accepted && !with_notes)
			continue;
		fprintf(file, "%s: %s: ",
			finding->accepted ? "accepted" : finding_severity_word(finding->severity),
			finding_kind_word(finding->kind));
		print_escaped(file, finding->subject);
		fputs(": ", file);
		print_lines(file, finding->text, "    ");
		fprintf(file, "    %s\n", finding_kind_advice(finding->kind));
		if (finding->severity != FINDING_REFUSAL || !finding_kind_acceptable(finding->kind))
			continue;
		fprintf(file, "    or accept it: --accept='%s:", finding_kind_word(finding->kind));
		print_escaped(file, finding->subject);
		fputs("'\n", file);
	}
}

/* ---- progress ----------------------------------------------------------------------------- */

// One line, because there is one terminal.
static struct {
	bool drawn;
	char stage[64];
	uint64_t drawn_at; // nanoseconds, CLOCK_MONOTONIC
} line;

static uint64_t now(void)
{
	struct timespec time;
	clock_gettime(CLOCK_MONOTONIC, &time);
	return (uint64_t)time.tv_sec * 1000000000 + (uint64_t)time.tv_nsec;
}

static void progress_draw(void *context, const char *stage, size_t done, size_t total)
{
	(void)context;
	// A new stage and the end of one are drawn at once, anything else ten times a second.
	uint64_t time = now();
	bool news = strncmp(stage, line.stage, sizeof(line.stage) - 1) != 0 || done == total;
	if (!news && time - line.drawn_at < 100000000)
		return;
	line.drawn_at = time;
	snprintf(line.stage, sizeof(line.stage), "%s", stage);

	_cleanup_buffer_ struct buffer text = {0};
	buffer_puts(&text, stage);
	if (total)
		buffer_printf(&text, "  %zu/%zu", done, total);
	else if (done)
		buffer_printf(&text, "  %zu", done);
	// A line that wraps could not be drawn over.
	struct winsize window;
	size_t columns = 80;
	if (ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col)
		columns = window.ws_col;
	_cleanup_free_ char *shown = xstrndup(text.bytes, columns - 1);
	fputs("\r\033[K", stderr);
	print_escaped(stderr, shown);
	fflush(stderr);
	line.drawn = true;
}

void cmd_progress_init(struct progress *progress, bool quiet)
{
	const char *terminal = getenv("TERM");
	bool draw = !quiet && isatty(STDERR_FILENO) && terminal && !string_equal(terminal, "dumb");
	*progress = (struct progress){.report = draw ? progress_draw : NULL};
}

void cmd_progress_clear(void)
{
	if (!line.drawn)
		return;
	fputs("\r\033[K", stderr);
	fflush(stderr);
	line.drawn = false;
	line.stage[0] = '\0';
}

FILE *cmd_output(void)
{
	cmd_progress_clear();
	return stdout;
}
