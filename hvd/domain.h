/*
 * Domain: what a guest is to libvirt. A spec in, libvirt's domain XML out; nothing here talks to
 * libvirt. The golden tests (tests/golden/domain/) hold the result.
 *
 * Choices that others rely on:
 *  - q35, virtio everything. What is there from the start and never leaves (root disk, first
 *    interface, agent's port, rng) sits on the root bus. What may come and go (further volumes and
 *    interfaces) has one conventional PCI bus behind a bridge, with DOMAIN_PLUG_SLOTS places that
 *    ACPI plugs: as many as an instance may have, for the boot time of two bridges. (A root port
 *    for each, q35's usual way, costs a guest 0.2 s a port under TCG; virtio-scsi would need no
 *    places, but names the same volume differently and is slower.)
 *  - The domain's name is the instance id. SMBIOS uuid and serial start with "ec2" and the
 *    manufacturer is "Amazon EC2": cloud-init knows EC2 by that (ds-identify, "EC2
 * identification").
 *  - A disk's serial is its volume id without the dash, as on AWS; virtio-blk holds 20 bytes,
 *    exactly that.
 *  - A write for which the host has no room stops the guest and is done again when it goes on;
 *    any other failure is the guest's to see.
 *  - The console is a file opened for appending: earlier boots stay in it. It keeps its owner (no
 *    relabelling).
 *  - The agent's port is a socket to which QEMU connects, and connects anew when it was cut off. A
 *    guest starts and runs without whoever listens there, too.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <jansson.h>
#include "own.h"

#define DOMAIN_DISKS_MAX                                                                           \
	28 /* what a Nitro instance may have; with the interfaces no more either                   \
	    */
#define DOMAIN_NICS_MAX	  8
#define DOMAIN_PLUG_BUS	  2
#define DOMAIN_PLUG_SLOTS 31 /* numbered from 1 */
#define DOMAIN_TARGETS	  52 /* vda…vdz, vdaa…vdaz */
#define DOMAIN_UUID_BYTES 37
#define DOMAIN_AGENT_PORT "io.gureum.agent.0"

/* libvirt's iotune, in the order of domain_limit_names; 0: no such limit. */
#define DOMAIN_LIMITS 7
struct domain_limits {
	int64_t of[DOMAIN_LIMITS];
};
extern const char *const domain_limit_names[DOMAIN_LIMITS];
/* From stord's _Limits: an object with those names. */
void domain_limits_read(struct domain_limits *limits, const json_t *given);

struct domain_disk {
	const char *path;
	const char *format;	/* "qcow2", "raw" */
	const char *target;	/* "vda": the order of the targets is the order on the bus */
	const char *volume_id;	/* "vol-0…" */
	int is_shared;		/* other guests have it too (Multi-Attach) */
	const char *passphrase; /* of an encrypted one; only whether there is one is said in XML */
	const json_t *chain; /* what an encrypted one stands on (stord's _Chain): NULL: nothing */
	struct domain_limits limits;
};

struct domain_nic {
	const char *tap; /* an existing tap: libvirt opens it and leaves it there */
	const char *mac;
	unsigned mtu; /* 0: the guest's default */
};

struct domain_spec {
	const char *id;		   /* of the instance */
	const char *type;	   /* libvirt's domain type: "kvm", "qemu" (TCG) */
	const char *instance_type; /* "t3.micro", shown as SMBIOS product */
	unsigned n_vcpus, n_threads_per_core;
	unsigned memory_mib;
	const char *kernel, *initrd, *cmdline; /* kernel NULL: the firmware boots the first disk */
	const char *cache;		       /* QEMU's cache mode of all disks */
	const char *console_path;
	const char *agent_path; /* of the socket on which hvd listens for it (guest-port.h) */
	struct domain_disk disks[DOMAIN_DISKS_MAX];
	size_t n_disks;
	struct domain_nic nics[DOMAIN_NICS_MAX];
	size_t n_nics;
};

/* The XML (malloced). 0 or -ENOMEM. */
int domain_xml(const struct domain_spec *spec, char **ret_xml);

/* One device by itself, as virt_device_attach() takes it: the same words as in a domain's XML, and
 * no place on a bus. 0 or -ENOMEM. */
int domain_disk_xml(const struct domain_disk *disk, const char *cache, char **ret_xml);
int domain_nic_xml(const struct domain_nic *nic, char **ret_xml);

/* Path, format and so on from stord's answer to AttachVolume; borrowed from it. path NULL: it is
 * not one. */
void domain_disk_read(struct domain_disk *disk, const json_t *reply);

/* The SMBIOS uuid of an instance: always the same for the same id, starts with "ec2", RFC 4122
 * version 4 in form. */
void domain_uuid(const char *instance_id, char ret_uuid[static DOMAIN_UUID_BYTES]);

/* "/dev/sdf", "xvdf", "/dev/nvme1n1": the virtio target a device name asks for ("vdf"), with
 * `taken` a bit per target in use. The root disk is always vda. A name without a letter, with two,
 * or with a taken one, gets the first free. -ENOSPC when all are taken. */
int domain_target(const char *device_name, uint64_t *taken, char ret_target[static 8]);
/* Marks a target that is in use. */
void domain_target_take(const char *target, uint64_t *taken);
