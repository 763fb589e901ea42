/*
 * DNS inside a VPC, at the VPC's base address + 2, at 169.254.169.253 and (over IPv6) at
 * fd00:ec2::253: the private names of its
 * interfaces, both ways; the public names of its own addresses lead inside; all else is asked of
 * the upstream from the host's namespace, one socket with a random port and id for each question.
 * Without an upstream the answer is SERVFAIL. Source: VPC user guide, "Amazon DNS server".
 */
#pragma once

#include <systemd/sd-event.h>
#include "netns.h"
#include "plan.h"

struct dns;

/* Opens the sockets in the namespace. `plan` is borrowed until dns_set_plan() or dns_free();
 * `upstream` is an address, "" to follow resolv.conf. 0 or -errno. */
int dns_new(sd_event *loop, const struct netns *n, const struct plan *plan, const char *upstream,
	    struct dns **ret_dns);
/* It was opened with a plan that has IPv6: otherwise it is to be opened anew. */
int dns_has_ipv6(const struct dns *d);
void dns_set_plan(struct dns *d, const struct plan *plan);
/* Questions under way are dropped. */
void dns_free(struct dns *d);
OWN_DEFINE(struct dns *, dns_free);

enum dns_verdict {
	DNS_ANSWER,  /* the answer is ready */
	DNS_FORWARD, /* the question is fit to be asked of the upstream */
	DNS_DROP,    /* not a question at all */
};
/* Pure: what `plan` knows of this message. *ret_answer is malloced. */
enum dns_verdict dns_answer(const struct plan *plan, const uint8_t *message, size_t n_message,
			    uint8_t **ret_answer, size_t *ret_n);
/* Turns a question into the answer SERVFAIL in place; its length may shrink to header and question.
 */
size_t dns_fail(uint8_t *message, size_t n_message);
/* Turns an answer that is cut short into one that says so (TC), in place: it is asked again over
 * TCP. Its length shrinks to header and question. */
size_t dns_truncate(uint8_t *message, size_t n_message);
