/* The acceleration probe: a tiny 64-bit guest by raw KVM ioctls, judged by its result and its
 * speed. */
#include "probe.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <time.h>
#include <jansson.h>
#include "jsonx.h"
#include "own.h"
#include "run.h"

#define MEMORY_BYTES (2u << 20)
#define CODE_AT	     0x4000
#define SUM_AT	     0x8000
#define N_LOOPS	     10000000u
#define LOOP_LENGTH  4 /* instructions */
/* measured: emulated 0.1 to 1; real KVM nested in TCG on a crowded host 20 to 64 */
#define MIPS_MIN 10.0

/* clang-format off */
static const uint8_t guest_code[] = {
	0xb9, 0x80, 0x96, 0x98, 0x00,			/* mov ecx, N_LOOPS */
	0x31, 0xc0,					/* xor eax, eax */
	0x48, 0x01, 0x0c, 0x25, 0x00, 0x80, 0x00, 0x00, /* loop: add [SUM_AT], rcx */
	0x48, 0xff, 0xc0,				/* inc rax */
	0xff, 0xc9, 0x75, 0xf1,				/* dec ecx; jnz loop */
	0x66, 0x0f, 0xef, 0xc0,				/* pxor xmm0, xmm0 */
	0xba, 0xf8, 0x03, 0x00, 0x00, 0xb0, 0x4b, 0xee, /* mov edx, 0x3f8; mov al, 'K'; out dx, al */
	0xf4,						/* hlt */
};
/* clang-format on */

struct guest_vm {
	int kvm, vm, cpu;
	uint8_t *memory;
	struct kvm_run *run;
	int run_bytes;
};

static int no(struct probe *p, const char *format, ...) __attribute__((format(printf, 2, 3)));

static int no(struct probe *p, const char *format, ...)
{
	va_list ap;

	p->is_usable = 0;
	va_start(ap, format);
	vsnprintf(p->reason, sizeof(p->reason), format, ap);
	va_end(ap);
	return -1;
}

static double now_msec(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec * 1e3 + (double)t.tv_nsec / 1e6;
}

static void look_for_hints(struct probe *p)
{
	OWN(fclose) FILE *f = fopen("/proc/cpuinfo", "re");
	OWN(free) char *line = NULL;
	size_t n = 0;

	while (f && getline(&line, &n, f) > 0)
		if (strncmp(line, "flags", 5) == 0) {
			p->has_flag = strstr(line, " vmx") || strstr(line, " svm");
			break;
		}
	p->has_kvm_intel = access("/sys/module/kvm_intel", F_OK) == 0;
	p->has_kvm_amd = access("/sys/module/kvm_amd", F_OK) == 0;
	p->has_kvm_pvm = access("/sys/module/kvm_pvm", F_OK) == 0;
}

static void guest_close(struct guest_vm *g)
{
	if (g->run && g->run != MAP_FAILED)
		munmap(g->run, (size_t)g->run_bytes);
	if (g->memory && g->memory != MAP_FAILED)
		munmap(g->memory, MEMORY_BYTES);
	own_fd_close(&g->cpu);
	own_fd_close(&g->vm);
	own_fd_close(&g->kvm);
}

static int guest_open(struct guest_vm *g, struct probe *p)
{
	g->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
	if (g->kvm < 0)
		return no(p, "/dev/kvm cannot be opened: %s", strerror(errno));
	int version = ioctl(g->kvm, KVM_GET_API_VERSION, 0);
	if (version != KVM_API_VERSION)
		return no(p, "KVM's API version is %d, not %d", version, KVM_API_VERSION);
	g->vm = ioctl(g->kvm, KVM_CREATE_VM, 0);
	if (g->vm < 0)
		return no(p, "KVM makes no virtual machine: %s", strerror(errno));
	/* needed by old Intel processors only */
	(void)ioctl(g->vm, KVM_SET_TSS_ADDR, 0xfffbd000UL);
	g->memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
	if (g->memory == MAP_FAILED)
		return no(p, "no memory");
	struct kvm_userspace_memory_region region = {.memory_size = MEMORY_BYTES,
						     .userspace_addr = (uintptr_t)g->memory};
	if (ioctl(g->vm, KVM_SET_USER_MEMORY_REGION, &region) < 0)
		return no(p, "KVM takes no memory: %s", strerror(errno));
	g->cpu = ioctl(g->vm, KVM_CREATE_VCPU, 0);
	g->run_bytes = ioctl(g->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
	if (g->cpu < 0 || g->run_bytes <= 0)
		return no(p, "KVM makes no virtual processor: %s", strerror(errno));
	g->run = mmap(NULL, (size_t)g->run_bytes, PROT_READ | PROT_WRITE, MAP_SHARED, g->cpu, 0);
	if (g->run == MAP_FAILED)
		return no(p, "KVM's run area cannot be mapped: %s", strerror(errno));
	return 0;
}

static int guest_set_cpuid(struct guest_vm *g, struct probe *p)
{
	struct {
		struct kvm_cpuid2 head;
		struct kvm_cpuid_entry2 entries[256]; /* as many as the kernel ever tells */
	} cpuid = {.head.nent = 256};

	if (ioctl(g->kvm, KVM_GET_SUPPORTED_CPUID, &cpuid) < 0 ||
	    ioctl(g->cpu, KVM_SET_CPUID2, &cpuid) < 0)
		return no(p, "KVM refuses its own CPUID: %s", strerror(errno));
	return 0;
}

/* 64-bit mode with one identity-mapped 2 MiB page. */
static int guest_set_long_mode(struct guest_vm *g, struct probe *p)
{
	struct kvm_sregs s;
	struct kvm_segment segment = {
		.limit = ~0u, .selector = 8, .type = 11, .present = 1, .s = 1, .l = 1, .g = 1};
	struct kvm_regs regs = {.rip = CODE_AT, .rsp = 0x9000, .rflags = 2};
	const uint64_t tables[][2] = {{0x1000, 0x2003}, {0x2000, 0x3003}, {0x3000, 0x83}};

	for (size_t i = 0; i < sizeof(tables) / sizeof(tables[0]); i++)
		memcpy(g->memory + tables[i][0], &tables[i][1], sizeof(uint64_t));
	memcpy(g->memory + CODE_AT, guest_code, sizeof(guest_code));
	if (ioctl(g->cpu, KVM_GET_SREGS, &s) < 0)
		return no(p, "KVM gives no registers: %s", strerror(errno));
	s.cr3 = 0x1000;
	s.cr4 = 0x20 | 0x200; /* PAE, OSFXSR */
	s.cr0 = 0x80050033;   /* paging, protection, write protect */
	s.efer = 0x500;	      /* long mode */
	s.cs = segment;
	segment.type = 3;
	segment.selector = 16;
	segment.l = 0;
	s.ds = s.es = s.fs = s.gs = s.ss = segment;
	if (ioctl(g->cpu, KVM_SET_SREGS, &s) < 0)
		return no(p, "KVM refuses 64-bit mode: %s", strerror(errno));
	if (ioctl(g->cpu, KVM_SET_REGS, &regs) < 0)
		return no(p, "KVM refuses registers: %s", strerror(errno));
	return 0;
}

static void on_alarm(int signal)
{
	(void)signal; /* it only has to interrupt KVM_RUN */
}

static void set_alarm(long usec)
{
	struct itimerval t = {.it_value.tv_usec = usec, .it_interval.tv_usec = usec ? 20000 : 0};

	setitimer(ITIMER_REAL, &t, NULL);
}

static double loops_done(struct guest_vm *g)
{
	struct kvm_regs regs;

	if (ioctl(g->cpu, KVM_GET_REGS, &regs) < 0)
		return 0;
	return (double)(N_LOOPS - (uint32_t)regs.rcx);
}

static int guest_run(struct guest_vm *g, struct probe *p)
{
	struct sigaction action = {.sa_handler = on_alarm};
	const uint64_t expected = (uint64_t)N_LOOPS * (N_LOOPS + 1u) / 2;
	uint64_t sum;
	char said = 0;

	sigaction(SIGALRM, &action, NULL);
	double start = now_msec();
	set_alarm(PROBE_BUDGET_MSEC * 1000L / 2);
	for (;;) {
		int r = ioctl(g->cpu, KVM_RUN, 0);
		double spent = now_msec() - start;
		if (r < 0 && errno != EINTR)
			return no(p, "KVM does not run: %s", strerror(errno));
		if (r < 0 && spent < PROBE_BUDGET_MSEC)
			continue;
		if (r < 0) {
			p->mips = loops_done(g) * LOOP_LENGTH / 1e3 / spent;
			/* Real but starved, as in a nested or crowded host: it may finish.
			 * Emulation is far below this. */
			if (p->mips >= MIPS_MIN && spent < PROBE_PATIENCE_MSEC)
				continue;
			return no(p,
				  "KVM emulates each instruction (%.1f MIPS): stock guests would "
				  "not boot in useful time",
				  p->mips);
		}
		if (g->run->exit_reason == KVM_EXIT_HLT) {
			p->mips = (double)N_LOOPS * LOOP_LENGTH / 1e3 /
				  (spent > 0.001 ? spent : 0.001);
			break;
		}
		if (g->run->exit_reason != KVM_EXIT_IO)
			return no(p, "the probe's guest stopped for reason %u",
				  g->run->exit_reason);
		said = *((char *)g->run + g->run->io.data_offset);
	}
	memcpy(&sum, g->memory + SUM_AT, sizeof(sum));
	if (said != 'K' || sum != expected)
		return no(p, "KVM computes wrongly");
	p->is_usable = 1;
	snprintf(p->reason, sizeof(p->reason), "KVM runs at %.0f MIPS", p->mips);
	return 0;
}

void probe_run(struct probe *ret_probe)
{
	struct guest_vm g = {.kvm = -1, .vm = -1, .cpu = -1};

	*ret_probe = (struct probe){0};
	look_for_hints(ret_probe);
	if (guest_open(&g, ret_probe) == 0 && guest_set_cpuid(&g, ret_probe) == 0 &&
	    guest_set_long_mode(&g, ret_probe) == 0)
		(void)guest_run(&g, ret_probe); /* the answer is in the probe */
	set_alarm(0);
	guest_close(&g);
}

int probe_main(void)
{
	struct probe p;

	probe_run(&p);
	json_t *facts =
		json_pack("{s:b, s:s, s:b, s:b, s:b, s:b, s:f}", "usable", p.is_usable, "reason",
			  p.reason, "cpu_flag", p.has_flag, "kvm_intel", p.has_kvm_intel, "kvm_amd",
			  p.has_kvm_amd, "kvm_pvm", p.has_kvm_pvm, "mips", p.mips);
	if (!facts)
		return 1;
	/* a closed stdout is the reader's choice */
	(void)json_dumpf(facts, stdout, JSON_REAL_PRECISION(6));
	(void)putchar('\n');
	json_decref(facts);
	return p.is_usable ? 0 : 1;
}

void probe_wait(struct probe *ret_probe)
{
	const char *const argv[] = {"/proc/self/exe", "--probe", NULL};
	/* A busy host may take seconds to start it; the guest itself is bounded by
	 * PROBE_BUDGET_MSEC. */
	struct run run = {.argv = argv, .timeout_usec = 60000000};
	OWN(run_result_clear) struct run_result result = {0};

	*ret_probe = (struct probe){.reason = "the probe did not end"};
	int r = run_wait(&run, &result);
	if (r < 0) {
		snprintf(ret_probe->reason, sizeof(ret_probe->reason), "the probe did not end: %s",
			 strerror(-r));
		return;
	}
	OWN(json_decref) json_t *facts = result.out ? json_loads(result.out, 0, NULL) : NULL;
	if (!facts) {
		snprintf(ret_probe->reason, sizeof(ret_probe->reason), "the probe died (status %d)",
			 result.status);
		return;
	}
	ret_probe->is_usable = jbool(facts, "usable", 0);
	snprintf(ret_probe->reason, sizeof(ret_probe->reason), "%s",
		 jstr_or(facts, "reason", "no reason"));
	ret_probe->has_flag = jbool(facts, "cpu_flag", 0);
	ret_probe->has_kvm_intel = jbool(facts, "kvm_intel", 0);
	ret_probe->has_kvm_amd = jbool(facts, "kvm_amd", 0);
	ret_probe->has_kvm_pvm = jbool(facts, "kvm_pvm", 0);
	ret_probe->mips = json_number_value(json_object_get(facts, "mips"));
}
