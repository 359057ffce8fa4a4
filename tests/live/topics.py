"""Kafka seen by clients that share no code with the agent: topics made, read to their ends, partitions computed by Java."""
import base64
import pathlib
import subprocess
import time

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, NewTopic, OffsetSpec

from node import artifacts

PARTITIONS = 12
QUIET_SECONDS = 30  # a broker on this machine that is silent for so long is broken


def make(bootstrap, names):
    if not names:
        return
    admin = AdminClient({'bootstrap.servers': bootstrap})  # must live until it has answered
    for made in admin.create_topics([NewTopic(n, PARTITIONS, 1) for n in names]).values():
        made.result(QUIET_SECONDS)
    deadline = time.monotonic() + QUIET_SECONDS
    while not set(names) <= set(all_names(bootstrap)):  # made, but the broker may not show them yet
        if time.monotonic() > deadline:
            raise RuntimeError(f'the broker does not show {names}')
        time.sleep(0.2)


def delete(bootstrap, name):
    admin = AdminClient({'bootstrap.servers': bootstrap})
    admin.delete_topics([name])[name].result(QUIET_SECONDS)
    deadline = time.monotonic() + QUIET_SECONDS
    while name in all_names(bootstrap):
        if time.monotonic() > deadline:
            raise RuntimeError(f'the broker still shows {name}')
        time.sleep(0.2)


def all_names(bootstrap):
    """All topics, but for Kafka's own."""
    found = AdminClient({'bootstrap.servers': bootstrap}).list_topics(timeout=QUIET_SECONDS).topics
    return sorted(n for n in found if not n.startswith('__'))


def ends(bootstrap, names):
    """{(topic, partition): the offset at which the next record will be}"""
    admin, deadline = AdminClient({'bootstrap.servers': bootstrap}), time.monotonic() + QUIET_SECONDS
    while True:
        asked = admin.list_offsets({TopicPartition(t, p): OffsetSpec.latest() for t in names for p in range(PARTITIONS)})
        try:
            return {(place.topic, place.partition): answer.result(QUIET_SECONDS).offset for place, answer in asked.items()}
        except KafkaException:  # a partition that is so new that nobody leads it yet
            if time.monotonic() > deadline:
                raise
            time.sleep(0.2)


def read_all(bootstrap, topics):
    """Every record of these topics: {(topic, partition): [message, ...]} in the order of the offsets."""
    # No group is joined: partitions are assigned by hand, offsets are not kept.
    consumer = Consumer({'bootstrap.servers': bootstrap, 'group.id': 'unused', 'enable.auto.commit': False, 'enable.partition.eof': True})
    try:
        metadata = consumer.list_topics(timeout=QUIET_SECONDS).topics
        places = [(t, p) for t in topics for p in metadata[t].partitions]
        consumer.assign([TopicPartition(t, p, 0) for t, p in places])
        records, unfinished = {place: [] for place in places}, set(places)
        while unfinished:
            message = consumer.poll(QUIET_SECONDS)
            if message is None:
                raise RuntimeError(f'no end of {sorted(unfinished)} after {QUIET_SECONDS} s')
            place = message.topic(), message.partition()
            if message.error() is None:
                records[place].append(message)
            elif message.error().code() == KafkaError._PARTITION_EOF:
                unfinished.discard(place)
            else:
                raise KafkaException(message.error())
        return records
    finally:
        consumer.close()


def java_partitions(keys, partitions=PARTITIONS):
    """{key: the partition that Java's default partitioner gives it}"""
    keys = sorted(keys)
    asked = ''.join(f'{partitions} {base64.b64encode(k).decode()}\n' for k in keys)
    answer = subprocess.run([artifacts.java(17), '-XX:TieredStopAtLevel=1', '-cp', f'{artifacts.kafka_jars()}/*',
                             pathlib.Path(__file__).with_name('Partitions.java')], input=asked, capture_output=True, text=True, check=True)
    return dict(zip(keys, map(int, answer.stdout.split()), strict=True))
