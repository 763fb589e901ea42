/* Metadata: the socket at which instances ask about themselves. Who answers is another daemon. */
#pragma once

#include "netns.h"

/* A new listening TCP socket in the namespace, at 169.254.169.254:80 (AF_INET) or
 * [fd00:ec2::254]:80 (AF_INET6), whether the address is there yet or not. The fd or -errno. */
int metadata_listen(const struct netns *n, int family);
