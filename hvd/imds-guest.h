/*
 * What one guest may ask of IMDS: connections at a time and requests in time. hvd has one thread:
 * without this a single guest in a tight loop would slow everybody's API down. A guest over its
 * rate is answered later, not refused: its programs see a slow service instead of errors. A guest
 * that only opens connections is hung up on.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define IMDS_GUEST_CONNECTIONS_MAX 16
#define IMDS_GUEST_RATE		   50  /* requests a second, for long */
#define IMDS_GUEST_BURST	   400 /* and at once: a booting cloud-init makes a hundred */

struct imds_guest;

/* One more connection of the guest at this address of this VPC; NULL: it may not have it (or out of
 * memory). */
struct imds_guest *imds_guest_enter(const char *vpc_id, const char *address, uint64_t now_usec);
/* The connection ended. NULL is fine. */
void imds_guest_leave(struct imds_guest *g);
/* Counts a request; how long its answer must wait. */
uint64_t imds_guest_delay_usec(struct imds_guest *g, uint64_t now_usec);
/* Forgets guests without connections whose allowance is whole again. How many are left. */
size_t imds_guest_sweep(uint64_t now_usec);
