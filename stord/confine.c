/* The confined child: gives up what it can, then becomes the tool. */
#include "confine.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <inttypes.h>
#include <linux/landlock.h>
#include <sched.h>
#include <seccomp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "own.h"
#include "run.h"

#define MEMORY_MAX    (UINT64_C(2) << 30)
#define CPU_SEC_MAX   1800
#define TIMEOUT_USEC  (UINT64_C(3600) * 1000000)
#define ARGUMENTS_MAX 32
/* Of what is ours at least so much is done: a slow disk that is read and written. */
#define BYTES_A_SEC (UINT64_C(4) << 20)

/* What qemu-img needs to read, map, write and compute in threads. Everything else fails as if the
 * kernel lacked it, so that the C library falls back where it can. */
static const char *const permitted[] = {
	"access",
	"arch_prctl",
	"brk",
	"clock_getres",
	"clock_gettime",
	"clock_nanosleep",
	"close",
	"dup",
	"dup2",
	"dup3",
	"epoll_create1",
	"epoll_ctl",
	"epoll_pwait",
	"epoll_wait",
	"eventfd2",
	"execve",
	"exit",
	"exit_group",
	"faccessat",
	"faccessat2",
	"fadvise64",
	"fallocate",
	"fcntl",
	"fdatasync",
	"fstat",
	"fstatfs",
	"fsync",
	"ftruncate",
	"futex",
	"getcwd",
	"getdents64",
	"getegid",
	"geteuid",
	"getgid",
	"getpid",
	"getrandom",
	"getrlimit",
	"getrusage",
	"gettid",
	"gettimeofday",
	"getuid",
	"ioctl",
	"lseek",
	"lstat",
	"madvise",
	"membarrier",
	"mmap",
	"mprotect",
	"mremap",
	"munmap",
	"nanosleep",
	"newfstatat",
	"open",
	"openat",
	"pipe2",
	"poll",
	"ppoll",
	"pread64",
	"preadv",
	"prlimit64",
	"pwrite64",
	"pwritev",
	"read",
	"readlink",
	"readlinkat",
	"readv",
	"restart_syscall",
	"rseq",
	"rt_sigaction",
	"rt_sigpending",
	"rt_sigprocmask",
	"rt_sigreturn",
	"rt_sigtimedwait",
	"sched_getaffinity",
	"sched_yield",
	"set_robust_list",
	"set_tid_address",
	"sigaltstack",
	"signalfd4",
	"stat",
	"statfs",
	"statx",
	"sync_file_range",
	"sysinfo",
	"tgkill",
	"time",
	"timerfd_create",
	"timerfd_settime",
	"uname",
	"write",
	"writev",
};

/* Threads, no processes. clone3() hides its flags from filters: it "does not exist", and the C
 * library uses clone(). */
static int permit_threads(scmp_filter_ctx ctx)
{
	return seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(clone), 1,
				SCMP_A0(SCMP_CMP_MASKED_EQ, CLONE_THREAD, CLONE_THREAD));
}

/* "prctl" is permitted for names and the like, never to loosen what was tied. */
static int permit_prctl(scmp_filter_ctx ctx)
{
	static const int harmless[] = {PR_SET_NAME, PR_GET_NAME, PR_SET_TIMERSLACK};
	int r = 0;

	for (size_t i = 0; r == 0 && i < sizeof harmless / sizeof *harmless; i++)
		r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, SCMP_SYS(prctl), 1,
				     SCMP_A0(SCMP_CMP_EQ, (scmp_datum_t)harmless[i]));
	return r;
}

static int restrict_system_calls(void)
{
	scmp_filter_ctx ctx = seccomp_init(SCMP_ACT_ERRNO(ENOSYS));
	int r = ctx ? 0 : -ENOMEM;

	for (size_t i = 0; r == 0 && i < sizeof permitted / sizeof *permitted; i++) {
		int call = seccomp_syscall_resolve_name(permitted[i]);

		/* Calls of other architectures ("open" on arm64) have no number here. */
		if (call >= 0)
			r = seccomp_rule_add(ctx, SCMP_ACT_ALLOW, call, 0);
	}
	if (r == 0)
		r = permit_threads(ctx);
	if (r == 0)
		r = permit_prctl(ctx);
	if (r == 0)
		r = seccomp_load(ctx);
	seccomp_release(ctx);
	return r;
}

#define LANDLOCK_READ	 (LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR)
#define LANDLOCK_PROGRAM (LANDLOCK_READ | LANDLOCK_ACCESS_FS_EXECUTE)
/* Version 1 of the interface: what every kernel with Landlock knows. */
#define LANDLOCK_ALL ((LANDLOCK_ACCESS_FS_MAKE_SYM << 1) - 1)

static int landlock_allow_fd(int ruleset, int fd, uint64_t access)
{
	struct landlock_path_beneath_attr rule = {.allowed_access = access, .parent_fd = fd};

	return syscall(SYS_landlock_add_rule, ruleset, LANDLOCK_RULE_PATH_BENEATH, &rule, 0) < 0
		       ? -errno
		       : 0;
}

static int landlock_allow(int ruleset, const char *path, uint64_t access)
{
	OWN(fd_close) int fd = open(path, O_PATH | O_CLOEXEC);

	if (fd < 0)
		return errno == ENOENT ? 0 : -errno;
	return landlock_allow_fd(ruleset, fd, access);
}

/* The two files the program may touch: opened while we still may, handed on as /proc/self/fd/N, so
 * that the directories above them may be closed to the program's user. */
struct handed {
	int fd; /* -1: none */
	char path[32];
};

static int hand_file(const char *path, int flags, struct handed *h)
{
	h->fd = -1;
	if (strcmp(path, "-") == 0)
		return 0;
	h->fd = open(path, flags | O_NOFOLLOW);
	snprintf(h->path, sizeof h->path, "/proc/self/fd/%d", h->fd);
	return h->fd < 0 ? -errno : 0;
}

/* What may be touched: the two handed files, or a chain's. */
struct tie {
	const struct handed *source, *target;
	char *const *chain; /* "r/path" or "w/path" */
	int n_chain;
	int parent;	  /* who started us */
	uint64_t cpu_sec; /* beyond CPU_SEC_MAX */
};

static int landlock_allow_files(int ruleset, const struct tie *tie, uint64_t read_write)
{
	int r = 0;

	if (tie->source && tie->source->fd >= 0)
		r = landlock_allow_fd(ruleset, tie->source->fd, LANDLOCK_ACCESS_FS_READ_FILE);
	if (r == 0 && tie->target && tie->target->fd >= 0)
		r = landlock_allow_fd(ruleset, tie->target->fd, read_write);
	for (int i = 0; r == 0 && i < tie->n_chain; i++)
		r = landlock_allow(ruleset, tie->chain[i] + 1,
				   tie->chain[i][0] == 'w' ? read_write
							   : LANDLOCK_ACCESS_FS_READ_FILE);
	return r;
}

static int restrict_files(const struct tie *tie)
{
	static const char *const programs[] = {"/usr", "/lib", "/lib64", "/bin"};
	static const char *const readable[] = {"/etc/ld.so.cache", "/dev/urandom"};
	static const uint64_t read_write =
		LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_WRITE_FILE;
	struct landlock_ruleset_attr attr = {.handled_access_fs = LANDLOCK_ALL};
	OWN(fd_close)
	int ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof attr, 0);
	int r = 0;

	if (ruleset < 0) /* EPERM: a filter around us forbids it */
		return errno == ENOSYS || errno == EOPNOTSUPP || errno == EPERM ? 0 : -errno;
	for (size_t i = 0; r == 0 && i < sizeof programs / sizeof *programs; i++)
		r = landlock_allow(ruleset, programs[i], LANDLOCK_PROGRAM);
	for (size_t i = 0; r == 0 && i < sizeof readable / sizeof *readable; i++)
		r = landlock_allow(ruleset, readable[i], LANDLOCK_ACCESS_FS_READ_FILE);
	if (r == 0)
		r = landlock_allow(ruleset, "/etc/ssl", LANDLOCK_READ);
	if (r == 0)
		r = landlock_allow(ruleset, "/proc/self", LANDLOCK_READ);
	if (r == 0)
		r = landlock_allow(ruleset, "/dev/null", read_write);
	if (r == 0)
		r = landlock_allow_files(ruleset, tie, read_write);
	return r == 0 && syscall(SYS_landlock_restrict_self, ruleset, 0) < 0 ? -errno : r;
}

/* Root becomes nobody; in a container that has no such user it stays, tied by the rest. */
static int leave_root(void)
{
	if (geteuid() != 0 || (setgroups(0, NULL) < 0 && errno != EPERM))
		return geteuid() == 0 ? -errno : 0;
	if (setresgid(CONFINED_UID, CONFINED_UID, CONFINED_UID) < 0 ||
	    setresuid(CONFINED_UID, CONFINED_UID, CONFINED_UID) < 0)
		return errno == EINVAL || errno == EPERM ? 0 : -errno;
	return 0;
}

int confine_is(int argc, char **argv)
{
	return argc > 1 &&
	       (strcmp(argv[1], "--confined") == 0 || strcmp(argv[1], "--confined-chain") == 0);
}

static int fail(const char *what, int error)
{
	fprintf(stderr, "confine: %s: %s\n", what, strerror(-error));
	return 126;
}

/* A number of ours, ":" and the process that started us. */
static int parent_of(const char *number)
{
	const char *colon = strchr(number, ':');

	return colon ? atoi(colon + 1) : 0;
}

/* What stands behind the second colon. */
static uint64_t seconds_of(const char *number)
{
	const char *colon = strrchr(number, ':');

	return colon ? strtoull(colon + 1, NULL, 10) : 0;
}

/* Gives up everything but the files, in the order in which each step is still allowed. Returns what
 * failed, or NULL. */
static const char *give_up(uint64_t max_file_bytes, const struct tie *tie, int *ret_error)
{
	struct rlimit file = {max_file_bytes, max_file_bytes}, core = {0, 0};
	rlim_t cpu_max = CPU_SEC_MAX + tie->cpu_sec;
	struct rlimit memory = {MEMORY_MAX, MEMORY_MAX}, cpu = {cpu_max, cpu_max};

	*ret_error = setrlimit(RLIMIT_FSIZE, &file) < 0 || setrlimit(RLIMIT_CORE, &core) < 0
			     ? -errno
			     : 0;
	if (*ret_error < 0)
		return "limits of files";
	*ret_error = tie->n_chain ? 0 : leave_root();
	if (*ret_error < 0)
		return "user";
	/* A tool that outlived us would hold the files that our successor hands to guests. After
	 * the change of user, which takes it away. */
	*ret_error = prctl(PR_SET_PDEATHSIG, SIGKILL) < 0 ? -errno : 0;
	if (*ret_error == 0 && getppid() != tie->parent)
		*ret_error = -ESRCH; /* it died before we said so */
	if (*ret_error < 0)
		return "life";
	*ret_error = prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 ? -errno : 0;
	if (*ret_error < 0)
		return "privileges";
	*ret_error = restrict_files(tie);
	if (*ret_error < 0)
		return "files";
	*ret_error = restrict_system_calls();
	if (*ret_error < 0)
		return "system calls";
	/* Last: what makes this very process large (sanitizers) is no business of the tool. */
	*ret_error =
		setrlimit(RLIMIT_AS, &memory) < 0 || setrlimit(RLIMIT_CPU, &cpu) < 0 ? -errno : 0;
	return *ret_error < 0 ? "limits of memory and time" : NULL;
}

/* "stord --confined-chain N:PARENT:SECONDS r/PATH w/PATH … PROGRAM ARGS…" */
static int chain_main(int argc, char **argv)
{
	int n = argc > 2 ? atoi(argv[2]) : 0, r;
	struct tie tie = {.chain = argv + 3, .n_chain = n};

	tie.parent = argc > 2 ? parent_of(argv[2]) : 0;
	tie.cpu_sec = argc > 2 ? seconds_of(argv[2]) : 0;
	if (n < 1 || argc < 4 + n)
		return fail("usage", -EINVAL);
	const char *failed = give_up(RLIM_INFINITY, &tie, &r);

	if (failed)
		return fail(failed, r);
	execvp(argv[3 + n], argv + 3 + n);
	return fail(argv[3 + n], -errno);
}

int confine_main(int argc, char **argv)
{
	struct handed source, target;
	struct tie tie = {.source = &source, .target = &target};
	int r;

	if (argc > 1 && strcmp(argv[1], "--confined-chain") == 0)
		return chain_main(argc, argv);
	if (argc < 6)
		return fail("usage", -EINVAL);
	tie.parent = parent_of(argv[4]);
	r = hand_file(argv[2], O_RDONLY, &source);
	if (r == 0)
		r = hand_file(argv[3], O_RDWR, &target);
	if (r < 0)
		return fail("files", r);
	for (int i = 6; i < argc; i++) {
		if (source.fd >= 0 && strcmp(argv[i], argv[2]) == 0)
			argv[i] = source.path;
		else if (target.fd >= 0 && strcmp(argv[i], argv[3]) == 0)
			argv[i] = target.path;
	}
	const char *failed = give_up(strtoull(argv[4], NULL, 10), &tie, &r);

	if (failed)
		return fail(failed, r);
	execvp(argv[5], argv + 5);
	return fail(argv[5], -errno);
}

int confine_qemu_img(const char *read_path, const char *write_path, uint64_t max_file_bytes,
		     const char *const *arguments, struct run_result *ret_result)
{
	char bytes[32];
	const char *argv[ARGUMENTS_MAX] = {"/proc/self/exe", "--confined", read_path,
					   write_path,	     bytes,	   "qemu-img"};
	size_t n = 6;

	snprintf(bytes, sizeof bytes, "%" PRIu64 ":%d", max_file_bytes, (int)getpid());
	while (*arguments && n < ARGUMENTS_MAX - 1)
		argv[n++] = *arguments++;
	if (*arguments)
		return -E2BIG;
	struct run run = {.argv = argv, .timeout_usec = TIMEOUT_USEC, .confine = 1};

	return run_wait(&run, ret_result);
}

uint64_t confine_seconds(const struct confined_file *files, size_t n_files)
{
	uint64_t bytes = 0;
	struct stat st;

	for (size_t i = 0; i < n_files; i++)
		if (stat(files[i].path, &st) == 0)
			bytes += (uint64_t)st.st_blocks * 512;
	return bytes / BYTES_A_SEC;
}

int confine_qemu_img_chain(const struct confined_file *files, size_t n_files, int key_fd,
			   int stop_fd, const char *const *arguments, struct run_result *ret_result)
{
	uint64_t more_sec = confine_seconds(files, n_files);
	char number[48], (*paths)[512] = calloc(n_files, sizeof *paths);
	OWN(free) void *owned = paths;
	const char *argv[ARGUMENTS_MAX + CONFINE_CHAIN_MAX] = {"/proc/self/exe", "--confined-chain",
							       number};
	size_t n = 3;

	if (!paths)
		return -ENOMEM;
	if (n_files > CONFINE_CHAIN_MAX)
		return -E2BIG;
	snprintf(number, sizeof number, "%zu:%d:%" PRIu64, n_files, (int)getpid(), more_sec);
	for (size_t i = 0; i < n_files; i++) {
		snprintf(paths[i], sizeof paths[i], "%c%s", files[i].is_written ? 'w' : 'r',
			 files[i].path);
		argv[n++] = paths[i];
	}
	argv[n++] = "qemu-img";
	for (size_t i = 0; arguments[i]; i++) {
		if (i == ARGUMENTS_MAX - 5)
			return -E2BIG;
		argv[n++] = arguments[i];
	}
	struct run run = {.argv = argv,
			  .timeout_usec = TIMEOUT_USEC + more_sec * 1000000,
			  .stop_fd = stop_fd,
			  .confine = 1,
			  .pass_fds = &key_fd,
			  .n_pass_fds = key_fd >= 0};

	return run_wait(&run, ret_result);
}
