/*
 * IMDS: http://169.254.169.254/ as instances see it, version 1 and 2; and the same at
 * http://[fd00:ec2::254]/ for instances of Nitro types whose HttpProtocolIpv6 is enabled: others are
 * hung up on there.
 *
 * netd opens the listening sockets inside the VPC and passes them: the listener tells the VPC, the
 * peer's address the interface, so the instance is known without asking it anything. One HTTP engine
 * (libmicrohttpd) on the daemon's loop serves all VPCs. Everything that comes in is a stranger's:
 * guests are limited in connections, header sizes and time.
 *
 * What IMDS reads of an instance's document (kind "instance", written by the instance rooms): AWS's
 * Instance shape (InstanceId, ImageId, InstanceType, KeyName, AmiLaunchIndex, Placement,
 * PrivateIpAddress, PrivateDnsName, PublicIpAddress, PublicDnsName, SubnetId, VpcId,
 * MetadataOptions, SecurityGroups, NetworkInterfaces[] {NetworkInterfaceId, MacAddress, SubnetId,
 * VpcId, OwnerId, PrivateIpAddress, PrivateIpAddresses[], Ipv6Addresses[], Ipv4Prefixes[],
 * Ipv6Prefixes[], Association, Groups[],
 * Attachment.DeviceIndex}, BlockDeviceMappings[], RootDeviceName, LaunchTime, Tags, Architecture,
 * State.Name), and
 *	_UserData	base64 as the customer gave it, absent if none
 *	_PublicKey	the key pair's OpenSSH line at launch, absent if none
 *	_ReservationId	"r-…"
 * The document's account is the owner-id.
 */
#pragma once

#include "daemon.h"

/* (fiber) After the store is open: the HTTP engine, the token key, and in the background a listener
 * for every VPC that has an instance that is not terminated. 0 or -errno. */
int imds_open(struct daemon *d);
void imds_close(struct daemon *d);

/* (fiber) Metadata is served in this VPC from now on. Idempotent, without a wait when it is served
 * already. 0 or -errno: netd could not be asked; it is retried in the background until it works or
 * imds_forget(), so the caller may go on. */
int imds_serve(struct daemon *d, const struct context *ctx, const char *vpc_id);
/* An instance of this VPC was terminated: if it was the last one, listener and connections are
 * closed (an open socket keeps the VPC's namespace alive). */
void imds_forget(struct daemon *d, const char *vpc_id);
