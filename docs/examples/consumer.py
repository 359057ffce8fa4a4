"""Prints every change of a keyspace once, and everything that could not be decoded or read.

    pip install confluent-kafka
    python3 consumer.py localhost:9092 shop

With replication factor N up to N nodes publish a change. Copies have the same digest: what was seen lately is not
printed again. `--until-end` stops at the end of the topics instead of waiting for more.
"""
import argparse
import collections
import json
import re

import changes
from confluent_kafka import Consumer, KafkaError, KafkaException

REMEMBERED = 1_000_000  # digests; about 200 MB. Copies that are further apart are printed again.


class Seen:
    """The latest digests. Rebuilding state by write time (table.py) needs no such memory."""

    def __init__(self):
        self.names = collections.OrderedDict()

    def before(self, event):
        # Rows and parts of one change share its digest; the end of the id tells them apart.
        name = event['digest'] + re.search(r'(/r\d+)?(/p\d+)?$', event['id'])[0]
        known = name in self.names
        self.names[name] = None
        self.names.move_to_end(name)
        if len(self.names) > REMEMBERED:
            self.names.popitem(last=False)
        return known


def lines(event, seen):
    if 'gap' in event:
        yield f"GAP\t{event['gap']}\t{event['source']['segment']} from {event['from']} to {event['to']}"
    elif 'reason' in event:
        yield f"DEAD LETTER\t{event['reason']}\t{event['id']}"
    elif not seen.before(event):
        yield from changes.of_event(event)


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument('brokers')
    arguments.add_argument('keyspace')
    arguments.add_argument('--prefix', default='cassandra')
    arguments.add_argument('--group', default='change-printer')
    arguments.add_argument('--until-end', action='store_true')
    a = arguments.parse_args()
    consumer = Consumer({
        'bootstrap.servers': a.brokers, 'group.id': a.group, 'auto.offset.reset': 'earliest',
        # Offsets are stored when the work is done: what was not finished comes again after a crash.
        'enable.auto.offset.store': False, 'enable.partition.eof': True, 'allow.auto.create.topics': False,
    })
    unfinished = set()

    def assigned(_, partitions):
        unfinished.update((p.topic, p.partition) for p in partitions)

    prefix = a.prefix.replace('.', r'\.')
    consumer.subscribe([rf'^{prefix}\.({a.keyspace}\..*|dead-letter)$'], on_assign=assigned)
    seen = Seen()
    try:
        while True:
            message = consumer.poll(1)
            if message is None:
                continue
            if message.error():
                if message.error().code() != KafkaError._PARTITION_EOF:
                    raise KafkaException(message.error())
                unfinished.discard((message.topic(), message.partition()))
                if a.until_end and not unfinished:
                    return
                continue
            for line in lines(json.loads(message.value()), seen):
                print(line, flush=True)
            consumer.store_offsets(message)
    finally:
        consumer.close()


if __name__ == '__main__':
    main()
