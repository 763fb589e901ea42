"""What a person breaks by hand is mended, and what is deleted leaves nothing."""

import pytest
from lab import PATIENCE, PING, TCP_80, Guest, eventually, ours, router, sh


@pytest.mark.parametrize(
    "damage",
    [
        "ip link del {leg}",
        "ip link set {tap} nomaster",
        "bridge link set dev {tap} isolated off",
        "echo 0 > /sys/class/net/{tap}/brport/isolated",
        "bridge fdb del {mac} dev {tap} master",
        "ip link set {leg} down",
        "ip link set {bridge} mtu 1500",
        "ip route del {public}",
        "ip addr flush dev $(ip -o route get {public} | sed 's/.* dev //; s/ .*//')",
        "ip -n {router} route flush table 1000",
        "ip -n {router} route del {address}",
        "ip -n {router} neigh del {address} dev {leg}",
        "ip -n {router} rule del pref 100",
        "ip -n {router} addr flush dev {leg}",
        "ip -n {router} link del igw",
        "ip netns exec {router} iptables-nft -F",
        "ip netns exec {router} iptables-nft -t nat -F",
        "ip netns exec {router} iptables-nft -I FORWARD -j DROP",
        "ip netns exec {router} iptables-nft -P FORWARD ACCEPT",
        "iptables-nft -D FORWARD -j gureum-forward",
        "iptables-nft -F gureum-forward",
        "ip netns del {router}",
        "ip netns exec {router} ipset flush {group}",
        "ip netns exec {router} ipset del {subnet} {address}",
        # One for another, so that the set's size is as it was.
        "printf 'del {group} {address}\\nadd {group} 10.255.255.255\\n' | ip netns exec {router} ipset restore",
        "ip netns exec {router} ipset -exist add {subnet} {address},02:00:00:00:00:01",
        "ip netns exec {router} sysctl -qw net.ipv4.conf.{leg}.proxy_arp_pvlan=0",
        "ip netns exec {router} sysctl -qw net.ipv4.ip_forward=0",
        "sysctl -qw net.ipv4.conf.{bridge}.arp_ignore=0",
    ],
)
def test_what_a_person_breaks_is_mended(guests, group, netd, damage):
    guest = guests(groups=[group(TCP_80, PING)])
    guest.dhcp()
    netd.reconcile()
    log = netd.log.read_text()
    names = {
        "group": netd.ec2("DescribeNetworkInterfaces", NetworkInterfaceIds=[guest.eni])["NetworkInterfaces"][0]["Groups"][0]["GroupId"],
        "subnet": guest.subnet,
        "tap": guest.tap,
        "mac": guest.mac,
        "router": router(guest.vpc),
        "address": guest.address,
        "public": guest.public,
        "bridge": sh(f"cat /sys/class/net/{guest.tap}/master/uevent").split("INTERFACE=")[1].split()[0],
    }
    names["leg"] = "l" + names["bridge"][1:]
    whole = snapshot(guest)
    sh(damage.format(**names))
    eventually(lambda: snapshot(guest) == whole)
    eventually(lambda: "it was mended" in netd.log.read_text()[len(log) :])
    assert guest.reaches("203.0.113.1") and sh(f"ping -n -c1 -W{PATIENCE} {guest.public}")


def snapshot(guest):
    """Everything of the guest's VPC in a form that does not depend on link numbers or on when it was made."""
    ns = router(guest.vpc)
    commands = [
        "ip -o link show group 26485 | sed 's/^[0-9]*: //; s/@[^:]*//; s/ether .*//; s/qlen .*//'",
        "bridge -d link | grep -A1 -E '^[0-9]+: t' | sed 's/^[0-9]*: //'",
        "bridge fdb show | grep static",
        "ip -o -4 addr show | sed 's/^[0-9]*: //' | grep '^g'",
        "ip route show proto 103",
        "iptables-nft-save | grep -v '^#' | sed 's/ \\[.*//'",
        "grep . /proc/sys/net/ipv4/conf/b*/arp_ignore",
        f"ip netns exec {ns} grep . /proc/sys/net/ipv4/ip_forward /proc/sys/net/ipv4/conf/l*/proxy_arp_pvlan",
        f"ip -n {ns} route show table all proto 103; ip -n {ns} rule; ip -n {ns} neigh show nud permanent; ip -n {ns} -o -4 addr | sed 's/^[0-9]*: //'",
        f"ip netns exec {ns} iptables-nft-save | grep -v '^#' | sed 's/ \\[.*//'",
        f"ip netns exec {ns} ipset save | sed 's/initval.*//' | sort",
    ]
    return [sorted(sh(c, check=False).splitlines()) if "save" not in c else sh(c, check=False) for c in commands]


def test_deleting_the_last_interface_leaves_nothing_of_it(netd):
    guest = Guest(netd)
    guest.delete()
    before = ours()
    guest = Guest(netd)
    guest.dhcp()
    assert len(ours()) > len(before)
    guest.delete()
    assert ours() == before
    assert not any(word in line for line in ours() for word in (guest.tap, guest.public, "-A ", "gureum-forward"))
    ns = router(guest.vpc)
    left = sh(f"ip -n {ns} neigh show nud permanent; ip -n {ns} route show table all proto 103; ip netns exec {ns} ipset save")
    assert guest.address not in left and "add " not in left and "sg-" not in left


def test_a_deleted_vpc_leaves_nothing(netd):
    vpc = netd.ec2("CreateVpc", CidrBlock="10.7.0.0/16")["Vpc"]["VpcId"]
    subnet = netd.ec2("CreateSubnet", VpcId=vpc, CidrBlock="10.7.1.0/24")["Subnet"]["SubnetId"]
    before = ours()
    guest = Guest(netd, public=None, SubnetId=subnet)
    assert guest.dhcp()["router"] == "10.7.1.1"
    assert router(vpc) in sh("ls /run/netns")
    guest.delete()
    netd.ec2("DeleteSubnet", SubnetId=subnet)
    netd.ec2("DeleteVpc", VpcId=vpc)
    eventually(lambda: router(vpc) not in sh("ls /run/netns"))
    assert ours() == before


def test_vpcs_may_overlap_and_do_not_meet(netd, vpc, guests):
    pair = []
    for _ in range(2):
        subnet = netd.ec2("CreateSubnet", VpcId=vpc("10.9.0.0/16"), CidrBlock="10.9.1.0/24")["Subnet"]["SubnetId"]
        pair.append([guests(public=None, SubnetId=subnet, PrivateIpAddress=f"10.9.1.{n}") for n in (10, 11)])
    for guest in sum(pair, []):
        guest.dhcp()
    for one, two in pair:
        with two.listen() as listener, one.connect("10.9.1.11"):
            assert listener.accept()[1][0] == "10.9.1.10"


def test_rules_of_ipv6_that_hold_a_set_by_any_name_go_with_it(netd, guests):
    """A former version had other names; and the VPC has no IPv6 any more."""
    inside = f"ip netns exec {router(guests().vpc)}"
    netd.kill()
    sh(f"{inside} ipset create local-6 hash:ip family inet6")
    sh(f"{inside} ip6tables-nft -N ingress; {inside} ip6tables-nft -A ingress -m set ! --match-set local-6 dst -j ACCEPT")
    netd.start()
    assert netd.reconcile() == 0
    assert "local-6" not in sh(f"{inside} ipset save") + sh(f"{inside} ip6tables-nft-save")
