#!/bin/sh
# After start: identity, keys, then the customer's script.
gureum-agent setup
read -r up _ < /proc/uptime
echo "GUREUM-ADDRESS $(ip -4 -o address show dev eth0 | awk '{print $4}')"
echo "GUREUM-READY $up"
exec gureum-agent user-data
