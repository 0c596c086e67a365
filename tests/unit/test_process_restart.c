/* SPDX-License-Identifier: MIT */
/*
 * A stop is not seen: programs without signal handlers sit in every blocking call that we could
 * think of, are stopped and let go twenty times, and count the EINTRs. Timeouts end when they
 * should.
 */
#include "process/process.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/futex.h>
#include <linux/io_uring.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include <cmocka.h>

enum { TIMEOUT_MS = 1500, STOPS = 20 };

static const struct timespec timeout = {TIMEOUT_MS / 1000, TIMEOUT_MS % 1000 * 1000000};
static const struct timeval timeout_us = {TIMEOUT_MS / 1000, TIMEOUT_MS % 1000 * 1000};

/* ---- the calls: each is made in a process of its own --------------------------------------- */

static int epoll_fd(void)
{
	return epoll_create1(0);
}

static long do_epoll_wait(void)
{
	struct epoll_event event;
	return epoll_wait(epoll_fd(), &event, 1, TIMEOUT_MS);
}

static long do_epoll_wait_ever(void)
{
	struct epoll_event event;
	return epoll_wait(epoll_fd(), &event, 1, -1);
}

static long do_epoll_pwait(void)
{
	struct epoll_event event;
	sigset_t mask;
	sigemptyset(&mask);
	return epoll_pwait(epoll_fd(), &event, 1, TIMEOUT_MS, &mask);
}

static long do_epoll_pwait2(void)
{
	struct epoll_event event;
	return syscall(SYS_epoll_pwait2, epoll_fd(), &event, 1, &timeout, NULL, 8);
}

static long do_poll(void)
{
	return poll(NULL, 0, TIMEOUT_MS);
}

static long do_ppoll(void)
{
	sigset_t mask;
	sigemptyset(&mask);
	return ppoll(NULL, 0, &timeout, &mask);
}

static long do_select(void)
{
	struct timeval time = timeout_us;
	return select(0, NULL, NULL, NULL, &time);
}

static long do_pselect(void)
{
	return pselect(0, NULL, NULL, NULL, &timeout, NULL);
}

static long do_nanosleep(void)
{
	return nanosleep(&timeout, NULL);
}

static long do_clock_nanosleep(void)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += timeout.tv_sec;
	until.tv_nsec += timeout.tv_nsec;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	errno = clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, NULL);
	return errno ? -1 : 0;
}

static long do_pause(void)
{
	return pause();
}

static sigset_t one_signal(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigprocmask(SIG_BLOCK, &set, NULL);
	return set;
}

static long do_sigtimedwait(void)
{
	sigset_t set = one_signal();
	return syscall(SYS_rt_sigtimedwait, &set, NULL, &timeout, 8);
}

static long do_sigwaitinfo(void)
{
	sigset_t set = one_signal();
	return sigwaitinfo(&set, NULL);
}

static long do_sigsuspend(void)
{
	sigset_t set;
	sigemptyset(&set);
	return sigsuspend(&set);
}

static int semaphore(void)
{
	int id = semget(IPC_PRIVATE, 1, 0600);
	return id;
}

static long do_semop(void)
{
	struct sembuf operation = {0, -1, 0};
	return semop(semaphore(), &operation, 1);
}

static long do_semtimedop(void)
{
	struct sembuf operation = {0, -1, 0};
	return semtimedop(semaphore(), &operation, 1, &timeout);
}

static long do_msgrcv(void)
{
	char text[64];
	return msgrcv(msgget(IPC_PRIVATE, 0600), text, 8, 0, 0);
}

static long do_msgsnd(void)
{
	int id = msgget(IPC_PRIVATE, 0600);
	struct {
		long type;
		char text[8192];
	} message = {1, ""};
	while (msgsnd(id, &message, sizeof(message.text), IPC_NOWAIT) == 0)
		;
	return msgsnd(id, &message, sizeof(message.text), 0);
}

static long do_futex(void)
{
	uint32_t word = 0;
	return syscall(SYS_futex, &word, FUTEX_WAIT, 0, &timeout, NULL, 0);
}

static long do_futex_ever(void)
{
	uint32_t word = 0;
	return syscall(SYS_futex, &word, FUTEX_WAIT, 0, NULL, NULL, 0);
}

static long do_pthread_cond_timedwait(void)
{
	pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
	pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += timeout.tv_sec;
	until.tv_nsec += timeout.tv_nsec;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	pthread_mutex_lock(&mutex);
	errno = pthread_cond_timedwait(&condition, &mutex, &until);
	return -1;
}

static int socket_with(int option)
{
	int pair[2];
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair) != 0)
		return -1;
	if (option)
		setsockopt(pair[0], SOL_SOCKET, option, &timeout_us, sizeof(timeout_us));
	return pair[0];
}

static long do_recv_ever(void)
{
	char byte;
	return recv(socket_with(0), &byte, 1, 0);
}

static long do_recv(void)
{
	char byte;
	return recv(socket_with(SO_RCVTIMEO), &byte, 1, 0);
}

static long do_recvmsg(void)
{
	char byte;
	struct iovec vector = {&byte, 1};
	struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
	return recvmsg(socket_with(SO_RCVTIMEO), &message, 0);
}

static long do_recvmmsg(void)
{
	char byte;
	struct iovec vector = {&byte, 1};
	struct mmsghdr message = {.msg_hdr = {.msg_iov = &vector, .msg_iovlen = 1}};
	return recvmmsg(socket_with(SO_RCVTIMEO), &message, 1, 0, NULL);
}

static long do_read_socket(void)
{
	char byte;
	return read(socket_with(SO_RCVTIMEO), &byte, 1);
}

static void fill(int fd)
{
	static char bytes[4096];
	while (send(fd, bytes, sizeof(bytes), MSG_DONTWAIT) > 0)
		;
}

static long do_send(void)
{
	int fd = socket_with(SO_SNDTIMEO);
	fill(fd);
	return send(fd, "x", 1, 0);
}

static long do_write_socket(void)
{
	int fd = socket_with(SO_SNDTIMEO);
	fill(fd);
	return write(fd, "x", 1);
}

static int listener(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	bind(fd, (struct sockaddr *)&address, sizeof(address.sun_family)); // an abstract name
	listen(fd, 0);
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &timeout_us, sizeof(timeout_us));
	return fd;
}

static long do_accept(void)
{
	return accept(listener(), NULL, NULL);
}

static long do_connect(void)
{
	int fd = listener();
	struct sockaddr_un address;
	socklen_t size = sizeof(address);
	getsockname(fd, (struct sockaddr *)&address, &size);
	for (;;) { // until the backlog is full
		int client = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
		if (connect(client, (struct sockaddr *)&address, size) != 0)
			break;
	}
	int client = socket(AF_UNIX, SOCK_STREAM, 0);
	setsockopt(client, SOL_SOCKET, SO_SNDTIMEO, &timeout_us, sizeof(timeout_us));
	return connect(client, (struct sockaddr *)&address, size);
}

static long do_read_pipe(void)
{
	int fds[2];
	char byte;
	if (pipe(fds) != 0)
		return -1;
	return read(fds[0], &byte, 1);
}

static long do_write_pipe(void)
{
	static char bytes[1 << 20];
	int fds[2];
	if (pipe(fds) != 0)
		return -1;
	return write(fds[1], bytes, sizeof(bytes));
}

static long do_splice(void)
{
	int from[2], to[2];
	if (pipe(from) != 0 || pipe(to) != 0)
		return -1;
	return splice(from[0], NULL, to[1], NULL, 1, 0);
}

static long do_read_eventfd(void)
{
	uint64_t value;
	return read(eventfd(0, 0), &value, 8);
}

static long do_read_timerfd(void)
{
	int fd = timerfd_create(CLOCK_MONOTONIC, 0);
	struct itimerspec time = {.it_value = timeout};
	uint64_t value;
	timerfd_settime(fd, 0, &time, NULL);
	return read(fd, &value, 8) == 8 ? 0 : -1;
}

static long do_read_signalfd(void)
{
	sigset_t set = one_signal();
	struct signalfd_siginfo info;
	return read(signalfd(-1, &set, 0), &info, sizeof(info));
}

static long do_read_inotify(void)
{
	char event[512];
	int fd = inotify_init1(0);
	inotify_add_watch(fd, "/proc/self", IN_DELETE);
	return read(fd, event, sizeof(event));
}

static long do_read_terminal(void)
{
	char byte;
	int fd = posix_openpt(O_RDWR | O_NOCTTY);
	grantpt(fd);
	unlockpt(fd);
	int terminal = open(ptsname(fd), O_RDWR | O_NOCTTY);
	return read(terminal, &byte, 1);
}

static int locked_file(void)
{
	char path[] = "/tmp/suture-test-XXXXXX";
	int fd = mkstemp(path), other = open(path, O_RDWR);
	unlink(path);
	flock(other, LOCK_EX);
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	fcntl(other, F_OFD_SETLK, &lock);
	return fd;
}

static long do_flock(void)
{
	return flock(locked_file(), LOCK_EX);
}

static long do_fcntl(void)
{
	struct flock lock = {.l_type = F_WRLCK, .l_whence = SEEK_SET};
	return fcntl(locked_file(), F_OFD_SETLKW, &lock);
}

static long do_wait4(void)
{
	if (fork() == 0)
		for (prctl(PR_SET_PDEATHSIG, SIGKILL);;)
			pause();
	return wait4(-1, NULL, 0, NULL);
}

static long do_waitid(void)
{
	siginfo_t info;
	if (fork() == 0)
		for (prctl(PR_SET_PDEATHSIG, SIGKILL);;)
			pause();
	return waitid(P_ALL, 0, &info, WEXITED);
}

static long do_mq_timedreceive(void)
{
	char name[64], text[8192];
	snprintf(name, sizeof(name), "/suture-test-%d", getpid());
	mqd_t queue = mq_open(name, O_RDWR | O_CREAT, 0600, NULL);
	mq_unlink(name);
	if (queue == (mqd_t)-1)
		return -2;
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 1;
	until.tv_nsec += 500000000;
	if (until.tv_nsec >= 1000000000) {
		until.tv_sec++;
		until.tv_nsec -= 1000000000;
	}
	return mq_timedreceive(queue, text, sizeof(text), NULL, &until);
}

static long do_io_getevents(void)
{
	aio_context_t context = 0;
	struct io_event event;
	if (syscall(SYS_io_setup, 1, &context) != 0)
		return -2;
	struct timespec time = timeout;
	return syscall(SYS_io_getevents, context, 1, 1, &event, &time);
}

static long do_io_pgetevents(void)
{
	aio_context_t context = 0;
	struct io_event event;
	if (syscall(SYS_io_setup, 1, &context) != 0)
		return -2;
	struct timespec time = timeout;
	return syscall(SYS_io_pgetevents, context, 1, 1, &event, &time, NULL);
}

static long do_io_uring_enter(void)
{
	struct io_uring_params parameters = {0};
	int fd = (int)syscall(SYS_io_uring_setup, 4, &parameters);
	if (fd < 0)
		return -2;
	return syscall(SYS_io_uring_enter, fd, 0, 1, IORING_ENTER_GETEVENTS, NULL, 0);
}

static long do_open_fifo(void)
{
	char path[64];
	snprintf(path, sizeof(path), "/tmp/suture-test-fifo-%d", getpid());
	mkfifo(path, 0600);
	int fd = open(path, O_RDONLY);
	return fd;
}

static long do_futex_lock_pi(void)
{
	static uint32_t word;
	word = (uint32_t)getppid(); // a lock whose owner lives
	return syscall(SYS_futex, &word, FUTEX_LOCK_PI, 0, NULL, NULL, 0);
}

enum kind {
	TIMED,   /* ends after TIMEOUT_MS */
	INEXACT, /* not earlier, and no later than its whole time after the last stop */
	ENDLESS,
	PARTIAL, /* returns the short count of what was moved already, as after SIGSTOP and SIGCONT */
};

static const struct call {
	const char *name;
	long (*make)(void);
	enum kind kind;
} calls[] = {
	{"epoll_wait", do_epoll_wait, TIMED},
	{"epoll_wait without end", do_epoll_wait_ever, ENDLESS},
	{"epoll_pwait", do_epoll_pwait, TIMED},
	{"epoll_pwait2", do_epoll_pwait2, TIMED},
	{"poll", do_poll, TIMED},
	{"ppoll", do_ppoll, TIMED},
	{"select", do_select, TIMED},
	{"pselect", do_pselect, TIMED},
	{"nanosleep", do_nanosleep, TIMED},
	{"clock_nanosleep", do_clock_nanosleep, TIMED},
	{"pause", do_pause, ENDLESS},
	{"sigtimedwait", do_sigtimedwait, TIMED},
	{"sigwaitinfo", do_sigwaitinfo, ENDLESS},
	{"sigsuspend", do_sigsuspend, ENDLESS},
	{"semop", do_semop, ENDLESS},
	{"semtimedop", do_semtimedop, TIMED},
	{"msgrcv", do_msgrcv, ENDLESS},
	{"msgsnd", do_msgsnd, ENDLESS},
	{"futex", do_futex, TIMED},
	{"futex without end", do_futex_ever, ENDLESS},
	{"futex, PI lock", do_futex_lock_pi, ENDLESS},
	{"pthread_cond_timedwait", do_pthread_cond_timedwait, TIMED},
	{"recv", do_recv_ever, ENDLESS},
	{"recv, SO_RCVTIMEO", do_recv, INEXACT},
	{"recvmsg, SO_RCVTIMEO", do_recvmsg, INEXACT},
	{"recvmmsg, SO_RCVTIMEO", do_recvmmsg, INEXACT},
	{"read, SO_RCVTIMEO", do_read_socket, INEXACT},
	{"send, SO_SNDTIMEO", do_send, INEXACT},
	{"write, SO_SNDTIMEO", do_write_socket, INEXACT},
	{"accept, SO_RCVTIMEO", do_accept, INEXACT},
	{"connect, SO_SNDTIMEO", do_connect, INEXACT},
	{"read of a pipe", do_read_pipe, ENDLESS},
	{"write to a pipe", do_write_pipe, PARTIAL},
	{"splice", do_splice, ENDLESS},
	{"read of an eventfd", do_read_eventfd, ENDLESS},
	{"read of a timerfd", do_read_timerfd, TIMED},
	{"read of a signalfd", do_read_signalfd, ENDLESS},
	{"read of inotify", do_read_inotify, ENDLESS},
	{"read of a terminal", do_read_terminal, ENDLESS},
	{"flock", do_flock, ENDLESS},
	{"fcntl, F_OFD_SETLKW", do_fcntl, ENDLESS},
	{"wait4", do_wait4, ENDLESS},
	{"waitid", do_waitid, ENDLESS},
	{"mq_timedreceive", do_mq_timedreceive, TIMED},
	{"io_getevents", do_io_getevents, TIMED},
	{"io_pgetevents", do_io_pgetevents, TIMED},
	{"io_uring_enter", do_io_uring_enter, ENDLESS},
	{"open of a fifo", do_open_fifo, ENDLESS},
};

struct outcome {
	pid_t pid;
	volatile bool begun, done;
	volatile long result;
	volatile int errnum;
	volatile uint64_t took_ms;
	volatile uint64_t stops;
};

static struct outcome *outcomes_create(void)
{
	struct outcome *outcomes = mmap(NULL, sizeof(*outcomes) * (ARRAY_SIZE(calls) + 1),
					PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	assert_true(outcomes != MAP_FAILED);
	return outcomes;
}

static void call_start(struct outcome *outcome, const struct call *call)
{
	pid_t pid = fork();
	assert_true(pid >= 0);
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		uint64_t start = monotonic_ns();
		outcome->begun = true;
		errno = 0;
		outcome->result = call->make();
		outcome->errnum = outcome->result < 0 ? errno : 0;
		outcome->took_ms = (monotonic_ns() - start) / 1000000;
		outcome->done = true;
		for (;;)
			pause();
	}
	outcome->pid = pid;
}

static void succeed(struct error *error)
{
	if (error)
		fail_msg("%s", error->message);
}

static void test_blocking_calls(void **state)
{
	(void)state;
	enum { COUNT = ARRAY_SIZE(calls) };
	struct outcome *outcomes = outcomes_create();
	struct process *processes[COUNT];
	struct process_stop *stops[COUNT];
	uint64_t start = monotonic_ns();
	for (size_t i = 0; i < COUNT; i++)
		call_start(&outcomes[i], &calls[i]);
	// One that is never stopped: how late is this machine by itself?
	static const struct call left_alone = {"left alone", do_nanosleep, TIMED};
	struct outcome *control = &outcomes[COUNT];
	call_start(control, &left_alone);
	for (size_t i = 0; i < COUNT; i++) {
		while (!outcomes[i].begun)
			usleep(100);
		succeed(process_open(outcomes[i].pid, &processes[i]));
		succeed(process_seize(processes[i], &stops[i]));
	}
	usleep(20000);
	for (int round = 0; round < STOPS; round++) {
		for (size_t i = 0; i < COUNT; i++) {
			if (outcomes[i].done)
				continue;
			succeed(process_stop_all(stops[i], 1000000000));
			process_resume_all(stops[i]);
			outcomes[i].stops++;
		}
		usleep(10000);
	}
	uint64_t last_stop_ms = (monotonic_ns() - start) / 1000000;
	usleep(2 * TIMEOUT_MS * 1000);
	while (!control->done)
		usleep(1000);
	uint64_t late_ms = 100 + 3 * (control->took_ms - TIMEOUT_MS);
	size_t failures = 0;
	for (size_t i = 0; i < COUNT; i++) {
		const struct outcome *outcome = &outcomes[i];
		uint64_t took = outcome->took_ms;
		const char *wrong = NULL;
		if (outcome->done && outcome->result == -2)
			print_message("  %s: skipped, the kernel has no such call\n", calls[i].name);
		else if (outcome->done && outcome->errnum == EINTR)
			wrong = "EINTR";
		else if (calls[i].kind == PARTIAL)
			wrong = outcome->done && outcome->result <= 0 ? "no count" : NULL;
		else if (outcome->stops < (calls[i].kind == ENDLESS ? STOPS : 3))
			wrong = "too few stops";
		else if (outcome->done != (calls[i].kind != ENDLESS))
			wrong = outcome->done ? "it ended" : "it did not end";
		else if (calls[i].kind != ENDLESS &&
			 (took + 2 < TIMEOUT_MS ||
			  took > (calls[i].kind == INEXACT ? last_stop_ms : 0) + TIMEOUT_MS + late_ms))
			wrong = "the time";
		if (wrong) {
			failures++;
			print_message("  %s: %s (result %ld, errno %d, %lu ms, %lu stops)\n",
				      calls[i].name, wrong, outcome->result, outcome->errnum,
				      (unsigned long)took, (unsigned long)outcome->stops);
		}
		process_release(stops[i]);
		process_close(processes[i]);
		kill(outcome->pid, SIGKILL);
		waitpid(outcome->pid, NULL, 0);
	}
	kill(control->pid, SIGKILL);
	waitpid(control->pid, NULL, 0);
	assert_int_equal(failures, 0);
}

/* A signal with a handler still interrupts a call that was issued again, and one in the stop too. */
static volatile sig_atomic_t handled;

static void handler(int signal)
{
	(void)signal;
	handled++;
}

static void test_signals_still_interrupt(void **state)
{
	(void)state;
	struct outcome *outcome = outcomes_create();
	for (int in_stop = 0; in_stop <= 1; in_stop++) {
		outcome->done = false;
		pid_t pid = fork();
		if (pid == 0) {
			prctl(PR_SET_PDEATHSIG, SIGKILL);
			struct sigaction action = {.sa_handler = handler};
			sigaction(SIGUSR1, &action, NULL);
			struct epoll_event event;
			int fd = epoll_fd();
			outcome->begun = true;
			outcome->result = epoll_wait(fd, &event, 1, -1);
			outcome->errnum = errno;
			outcome->stops = (uint64_t)handled;
			outcome->done = true;
			for (;;)
				pause();
		}
		outcome->pid = pid;
		while (!outcome->begun)
			usleep(100);
		usleep(20000);
		struct process *process;
		struct process_stop *stop;
		succeed(process_open(outcome->pid, &process));
		succeed(process_seize(process, &stop));
		for (int i = 0; i < 3; i++) {
			succeed(process_stop_all(stop, 1000000000));
			if (in_stop && i == 2)
				kill(outcome->pid, SIGUSR1);
			process_resume_all(stop);
			usleep(1000);
		}
		if (!in_stop) {
			assert_false(outcome->done);
			kill(outcome->pid, SIGUSR1);
		}
		for (int i = 0; i < 1000 && !outcome->done; i++)
			usleep(1000);
		assert_true(outcome->done);
		assert_int_equal(outcome->result, -1);
		assert_int_equal(outcome->errnum, EINTR);
		assert_int_equal(outcome->stops, 1);
		process_release(stop);
		process_close(process);
		kill(outcome->pid, SIGKILL);
		waitpid(outcome->pid, NULL, 0);
		outcome->begun = false;
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_blocking_calls),
		cmocka_unit_test(test_signals_still_interrupt),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
