/*
 * Foreign: what the beginnings of VMDK, VHD and VHDX files say, read by hand before any tool is let
 * near them: that the file stands alone (no extents, parents or data elsewhere), is of a form that
 * can be converted, and asks for nothing absurd. What is behind the header is qemu-img's to judge,
 * confined. Sources: VMware "Virtual Disk Format 5.0"; Microsoft "Virtual Hard Disk Image Format
 * Specification" 1.0 and [MS-VHDX].
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#define FOREIGN_REASON_MAX 160

/* QEMU's name of a format in the words of the API ("VMDK", "vhd"), NULL: none that can be
 * imported. "qcow2" and "raw" are among them. */
const char *foreign_format(const char *word);
/* 0, or -EINVAL with a sentence of why not; -errno of reading. `format` is "vmdk", "vpc" or "vhdx".
 */
int foreign_check(int fd, const char *format, uint64_t max_bytes,
		  char ret_reason[static FOREIGN_REASON_MAX]);
