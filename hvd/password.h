/*
 * GetPasswordData: the administrator's password as the guest itself said it. EC2Launch, the agent in
 * AWS's Windows images, encrypts it with the instance's public key (which IMDS tells) and writes
 *
 *	<Password>
 *	BASE64
 *	</Password>
 *
 * to the first serial port. hvd finds it in the console's file and hands it on; only the holder of
 * the private key can read it. It is the guest's own text: whatever it writes there is what its owner
 * gets, and nobody else.
 */
#pragma once

#include <stddef.h>

#define PASSWORD_BASE64_MAX 2048 /* of RSA with 4,096 bits: 684 */

/* The last element in n bytes of a console that is whole and holds base64, without white space. 1: it
 * is there; 0: none. Linear in n, whatever the bytes are. */
int password_find(const char *console, size_t n, char ret_base64[static PASSWORD_BASE64_MAX + 1]);
