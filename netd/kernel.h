/*
 * Kernel: everything of netd that touches namespaces, links, routes, rules and packets, behind six calls. The API rooms (vpc.c, group.c,
 * interface.c …) only write documents and say which VPC changed; the kernel room reads the documents (daemon->store) and brings
 * the kernel to what they say, at start, after a change and after a crash by the same function.
 *
 * What it reads, besides AWS's own members:
 *	vpc			_Index: small integer, unique over all VPCs of the box, kept for life (link addresses);
 *				_EnableDnsSupport, _EnableDnsHostnames; DhcpOptionsId
 *	subnet			_Index: small integer, unique in its VPC, kept for life; the first address of CidrBlock + 1 is the router
 *	dhcp-options		DhcpConfigurations[{Key, Values[{Value}]}]
 *	route-table		Associations[{Main, SubnetId, RouteTableAssociationId, AssociationState}], Routes[{DestinationCidrBlock, GatewayId "local" | "igw-…", State, Origin}];
 *				a subnet without an association of its own uses the VPC's main table
 *	internet-gateway	Attachments[{VpcId, State}]
 *	network-acl		Entries, Associations[{SubnetId}]; every subnet has exactly one
 *	security-group		no rules in it; they are documents of their own:
 *	security-group-rule	GroupId, IsEgress, IpProtocol ("-1", "tcp", "udp", "icmp", "icmpv6" or a number), FromPort, ToPort (-1: all; for ICMP type and
 *				code), one of CidrIpv4 | CidrIpv6 | PrefixListId | ReferencedGroupInfo.GroupId
 *	network-interface	VpcId, SubnetId, MacAddress, PrivateIpAddress, PrivateIpAddresses[{Primary, PrivateIpAddress, Association.PublicIp}], PrivateDnsName,
 *				Association{PublicIp, PublicDnsName}, Groups[{GroupId}], SourceDestCheck, _PrivateDnsNameOptions{HostnameType, EnableResourceNameDnsARecord, EnableResourceNameDnsAAAARecord}; _Tap: name of its tap; _Node: it has a namespace of its own
 *				instead (plan-internal.h), and begins no flow with an element of PrivateIpAddresses that has _Idle. Only an interface with
 *				Attachment (InstanceId, DeviceIndex) has a tap, a port and rules; without, its address is merely taken.
 *	vpc-peering-connection	Status.Code "active", RequesterVpcInfo.VpcId, AccepterVpcInfo.VpcId, the sides' PeeringOptions.AllowDnsResolutionFromRemoteVpc
 *
 * A document that is gone means: gone from the kernel too. Every shape above is written by the API rooms only and never changed by the kernel room.
 */
#pragma once

#include "daemon.h"
#include "fault.h"
#include "rpc.h"

/* (fiber) At start, documents are loaded: brings every VPC to what they say, removes what no
 * document knows, starts the DHCP and DNS responders. 0 or -errno after logging. A VPC that cannot
 * be built is logged and tried again later: the others work. */
int kernel_open(struct daemon *d);
void kernel_close(struct daemon *d);

/* The documents of this VPC changed, or are about to by the commit that follows the running
 * handler: nothing is read before control returns to the event loop. Many calls are one pass. A VPC
 * without a document is torn down. Harmless before kernel_open(), which looks at every VPC anyway.
 */
void kernel_touch(const char *vpc_id);

/* (fiber) Returns when the kernel is as the documents committed before this call say. 0, or -errno
 * with `f` (InternalError, logged with its reason): it is tried again later. */
int kernel_sync(const char *vpc_id, struct fault *f);

/* (fiber) Adds new listening TCP sockets in the VPC's namespace (SO_REUSEADDR): 169.254.169.254:80,
 * and [fd00:ec2::254]:80 where the kernel has IPv6; whether the VPC has it or not: it may come. */
int kernel_open_metadata(const char *vpc_id, struct fds *out, struct fault *f);

/* (fiber) Looks at everything, touched or not, once what was asked before is done, and returns when
 * that is done, too. How many things had to be changed in the kernel: 0 when all was as it should
 * be. 0 or -errno with `f`. */
int kernel_reconcile(unsigned *ret_changes, struct fault *f);

/* (fiber) Flow logs of the VPC: what was counted so far is in their files when it returns. 0 or
 * -errno with `f`. */
int kernel_flush_flows(const char *vpc_id, struct fault *f);

/* Bytes of payload of a frame inside every VPC: what guests are told as MTU. */
unsigned kernel_mtu(void);

/* (fiber) What an operator should know of the host's network: a new list of {Name, State "ok" |
 * "warning", Text}. 0 or -errno. */
int kernel_doctor(json_t **ret_checks);
