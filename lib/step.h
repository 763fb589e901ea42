/*
 * Steps: where a daemon may be killed on purpose, to prove that dying there does no harm. A step
 * stands before each act that changes something outside the process (a transaction, a file's place,
 * a call to another daemon or to libvirt, a netlink request, a command, a mount) and after a
 * transaction or such a call. Off unless GUREUM_STEPS names a file when the daemon starts, or a
 * directory, which is for the file there with the program's name: then each step reads a number
 * from the file, if it is there, and writes one less; at 1 the file is removed and the process
 * kills itself as by kill -9, or another process instead, whose id is the second number in the
 * file; if a step's name follows, only steps of this name count. Who tests writes the file, lets
 * the daemon work, and finds in it how many steps were left.
 */
#pragma once

/* The thread is about to do `what`. Any thread. */
void step(const char *what);
/* Another daemon has answered `method`, and nobody here has heard it yet: the step's name is "what
 * follows METHOD". Any thread. */
void step_after(const char *method);
