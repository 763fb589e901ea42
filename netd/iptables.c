/* Chains of a namespace, by the save and restore of iptables-nft and ip6tables-nft. */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/netfilter/nf_tables.h>
#include <linux/netfilter/nfnetlink.h>
#include <string.h>
#include "netns.h"

static const char *const save[RULES_FAMILIES][2] = {{"iptables-nft-save"}, {"ip6tables-nft-save"}};
static const char *const restore[RULES_FAMILIES][3] = {{"iptables-nft-restore", "--noflush"},
						       {"ip6tables-nft-restore", "--noflush"}};

static int on_generation(struct nlmsghdr *h, void *arg)
{
	struct nlattr *a[NFTA_GEN_MAX + 1];

	if (nlmsg_parse(h, sizeof(struct nfgenmsg), a, NFTA_GEN_MAX, NULL) == 0 && a[NFTA_GEN_ID])
		*(uint32_t *)arg = ntohl(nla_get_u32(a[NFTA_GEN_ID]));
	return 0;
}

uint32_t nftables_generation(const struct netns *n)
{
	struct nfgenmsg h = {.nfgen_family = AF_UNSPEC, .version = NFNETLINK_V0};
	uint32_t id = 0;

	if (netlink_get(
		    n->filter,
		    netlink_message(NFNL_SUBSYS_NFTABLES << 8 | NFT_MSG_GETGEN, 0, &h, sizeof h),
		    on_generation, &id) < 0)
		return 0;
	return id;
}

int iptables_dump(struct netns *n, enum rules_family family, int (*keep)(const struct chain *c))
{
	uint32_t before = nftables_generation(n);
	OWN(free) char *out = NULL;
	struct ruleset chains;
	int r;

	if (before && before == n->generation[family])
		return 0;
	r = netns_command(n, save[family], NULL, &out);
	if (r == 0)
		r = ruleset_parse(out, &chains);
	if (r < 0)
		return r;
	if (keep)
		ruleset_keep(&chains, keep);
	ruleset_free(&n->chains[family]);
	n->chains[family] = chains;
	n->generation[family] = before;
	return 0;
}

/* One per table. */
static uint32_t count_transactions(const char *text)
{
	uint32_t n = 0;

	for (const char *c = text; (c = strstr(c, "COMMIT\n")); c++)
		n++;
	return n;
}

int iptables_restore(struct netns *n, enum rules_family family, const char *text)
{
	uint32_t ours = nftables_generation(n) + count_transactions(text), now;
	int r;

	n->generation[family] = 0;
	/* The watch may hear of them before the command has ended. */
	__atomic_store_n(&n->own_generation, ours, __ATOMIC_RELAXED);
	r = netns_command(n, restore[family], text, NULL);
	now = nftables_generation(n);
	if (now != ours)
		n->is_disturbed = 1;
	if (r < 0 || now < ours)
		__atomic_store_n(&n->own_generation, now, __ATOMIC_RELAXED);
	return r;
}

/* What our own transactions have made need not be read again. One of somebody else, before or in
 * between, shows in the number, and then it is. */
static void remember(struct netns *n, enum rules_family family, uint32_t before, uint32_t after,
		     const struct ruleset *wanted)
{
	if (!before || nftables_generation(n) != after ||
	    ruleset_follow(&n->chains[family], wanted) < 0)
		return;
	for (size_t f = 0; f < RULES_FAMILIES; f++)
		if (f == (size_t)family || n->generation[f] == before)
			n->generation[f] = after;
}

int iptables_apply(struct netns *n, enum rules_family family, const struct ruleset *wanted,
		   size_t *ret_n, int *ret_is_nat)
{
	OWN(free) char *text = NULL;
	uint32_t before;
	int r = iptables_dump(n, family, NULL);

	*ret_n = 0;
	*ret_is_nat = 0;
	if (r == 0)
		r = ruleset_transaction(wanted, &n->chains[family], &text, ret_n);
	if (r < 0 || !text)
		return r;
	*ret_is_nat = strstr(text, "*nat\n") != NULL;
	before = n->generation[family];
	r = iptables_restore(n, family, text);
	if (r == 0)
		remember(n, family, before, before + count_transactions(text), wanted);
	return r;
}

int nftables_commit(struct netns *host, uint32_t generation, struct nl_msg *const *messages,
		    size_t n)
{
	int r;

	/* The watch may hear of it before the answer is here. */
	__atomic_store_n(&host->own_generation, generation + 1, __ATOMIC_RELAXED);
	r = netlink_batch(generation, messages, n);
	if (r < 0) {
		/* What is not ours is heard of again: it may have been taken for ours. */
		__atomic_store_n(&host->own_generation, generation, __ATOMIC_RELAXED);
		return r;
	}
	for (size_t f = 0; f < RULES_FAMILIES; f++)
		if (host->generation[f] == generation)
			host->generation[f] = generation + 1;
	return 0;
}
