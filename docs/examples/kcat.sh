#!/bin/sh
# Every record of a topic from the beginning: partition, offset, key and event, separated by tabs.
#
#     sh kcat.sh localhost:9092 cassandra.shop.orders
#
# Ends at the end of the topic; without `-e` it waits for more.
exec kcat -C -b "$1" -t "$2" -o beginning -e -q -f '%p\t%o\t%k\t%s\n'
