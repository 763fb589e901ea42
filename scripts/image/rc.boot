#!/bin/sh
# After start: identity, keys, then the customer's script.
gureum-agent setup
read -r up _ < /proc/uptime
read -r address _ < /run/lease.eth0
echo "GUREUM-ADDRESS $address"
echo "GUREUM-READY $up"
/etc/rc.ipv6 &
exec gureum-agent user-data
