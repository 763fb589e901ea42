/*
 * Probe: can this machine run stock guests under KVM? Facts, not flags: there are machines where
 * /dev/kvm opens, every capability looks right, and each guest instruction is emulated at about 1
 * MIPS. So a 64-bit guest with paging and SSE is run through raw ioctls for at most
 * PROBE_BUDGET_MSEC: its result must be right and its speed that of hardware. One that is fast but
 * starved gets up to PROBE_PATIENCE_MSEC.
 *
 * It runs in a process of its own ("hvd --probe", which anyone may run by hand): a misbehaving KVM
 * hangs or kills that, not the daemon.
 */
#pragma once

#define PROBE_BUDGET_MSEC 500
#define PROBE_PATIENCE_MSEC                                                                        \
	5000 /* for a guest that runs at MIPS_MIN at least but has not ended yet */

struct probe {
	int is_usable;
	char reason[192];			     /* one sentence, always set */
	int has_flag;				     /* vmx or svm in /proc/cpuinfo */
	int has_kvm_intel, has_kvm_amd, has_kvm_pvm; /* modules */
	double mips;				     /* as measured, 0 if it did not come so far */
};

/* In this process; blocks for at most about PROBE_BUDGET_MSEC. Uses SIGALRM. */
void probe_run(struct probe *ret_probe);
/* (fiber) In a child process. A child that fails or hangs means not usable. */
void probe_wait(struct probe *ret_probe);
/* main() of "hvd --probe": prints the facts as one JSON object; exit status 0 usable, 1 not. */
int probe_main(void);
