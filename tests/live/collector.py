"""A consumer of its own that keeps every record, in the order in which it came, while brokers and topics go and come."""
import dataclasses
import threading
import time

from confluent_kafka import Consumer, KafkaError, TopicPartition

from topics import PARTITIONS, ends


@dataclasses.dataclass(frozen=True)
class Record:
    topic: str
    partition: int
    key: bytes
    value: bytes
    published: float  # when the agent made it
    at: float  # when it was here


class Collector(threading.Thread):
    def __init__(self, bootstrap, topics):
        super().__init__(name='collector', daemon=True)
        self.records, self.failure = [], None
        self._servers, self._next = bootstrap, ends(bootstrap, topics)
        self._again, self._end = threading.Event(), threading.Event()

    def topic_is_new(self, topic):
        """It was deleted and made again: its offsets begin anew."""
        self._fresh = topic
        self._again.set()
        while self._again.is_set():
            time.sleep(0.05)

    def end(self):
        self._end.set()
        self.join()
        if self.failure:
            raise self.failure

    def wait_for(self, text, since, seconds):
        """Until a record behind the first `since` holds these bytes; the seconds it took, or None."""
        begin, seen = time.monotonic(), since
        while time.monotonic() - begin < seconds:
            if self.failure:
                raise self.failure
            upto = len(self.records)
            if any(text in r.value for r in self.records[seen:upto]):
                return time.monotonic() - begin
            seen = upto
            time.sleep(0.05)
        return None

    def wait_until_quiet(self, seconds, topic=None):
        """Until nothing came for so long: from that topic, or at all."""
        begin = time.time()
        while time.time() - max([begin, *(r.at for r in self.records if topic in (None, r.topic))]) < seconds:
            time.sleep(0.2)

    def run(self):
        try:
            while not self._end.is_set():
                self._consume()
        except Exception as e:
            self.failure = e

    def _consume(self):
        consumer = Consumer({'bootstrap.servers': self._servers, 'group.id': 'unused', 'enable.auto.commit': False,
                             'auto.offset.reset': 'earliest', 'fetch.wait.max.ms': 100, 'reconnect.backoff.max.ms': 1000,
                             'topic.metadata.refresh.interval.ms': 5000, 'log_level': 0})
        try:
            consumer.assign([TopicPartition(t, p, offset) for (t, p), offset in self._next.items()])
            while not self._end.is_set():
                if self._again.is_set():
                    self._next.update(((self._fresh, p), 0) for p in range(PARTITIONS))
                    self._again.clear()
                    return
                for message in consumer.consume(500, 0.1):
                    self._take(message)
        finally:
            consumer.close()

    def _take(self, message):
        if message.error():
            # A broker or a topic that is away for now is what the test does.
            if message.error().fatal() or message.error().code() == KafkaError.OFFSET_OUT_OF_RANGE:
                raise RuntimeError(f'the consumer cannot go on: {message.error()}')
            return
        place = message.topic(), message.partition()
        if message.offset() < self._next[place]:
            return
        if message.offset() > self._next[place]:
            raise RuntimeError(f'{place}: record {message.offset()} came where {self._next[place]} was due')
        self._next[place] = message.offset() + 1
        self.records.append(Record(*place, message.key(), message.value(), message.timestamp()[1] / 1000, time.time()))
