"""What has arrived in Kafka, asked with clients that share no code with the agent."""
import functools

import topics

from confluent_kafka import OFFSET_BEGINNING, Consumer, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

SAMPLE, QUIET_SECONDS = 1000, 30
# Topics are looked at by their offsets: what they hold may go soon, or Debezium's schemas would fill the disk.
BROKER = ['log.retention.bytes=60000000', 'log.segment.bytes=20000000', 'log.retention.check.interval.ms=3000',
          'log.segment.delete.delay.ms=1000']


def count(bootstrap, topic):
    """Records that were ever in this topic."""
    asked = _admin(bootstrap).list_offsets({TopicPartition(topic, p): OffsetSpec.latest() for p in range(topics.PARTITIONS)})
    return sum(answer.result(QUIET_SECONDS).offset for answer in asked.values())


@functools.cache
def _admin(bootstrap):
    return AdminClient({'bootstrap.servers': bootstrap, 'log_level': 2})


def record_bytes(bootstrap, topic):
    """Key and value of a record, on average over a sample, before compression."""
    consumer = Consumer({'bootstrap.servers': bootstrap, 'group.id': 'unused', 'enable.auto.commit': False})
    try:
        consumer.assign([TopicPartition(topic, p, OFFSET_BEGINNING) for p in range(topics.PARTITIONS)])
        sample = consumer.consume(SAMPLE, QUIET_SECONDS)
        return sum(len(m.key()) + len(m.value()) for m in sample) / len(sample)
    finally:
        consumer.close()
