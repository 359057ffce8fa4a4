#!/usr/bin/env python3
"""How long from Cassandra's answer to an INSERT until an independent consumer has its event. Prints a table; judges nothing.

usage: latency.py --binary target/debug/cassandra-cdc [--read-to written --linger 0 5 --rates 1 100 500 2000]
"""
import json
import multiprocessing
import pathlib
import time

from common import Wrong, arguments, connect, say, with_servers_directory

import topics
from confluent_kafka import Consumer, TopicPartition
from node.cassandra_node import CassandraNode
from node.kafka_node import KafkaNode
from service import Service

KEYSPACE, TABLE = 'live', 'timed'
TOPIC = f'cassandra.{KEYSPACE}.{TABLE}'
WARM_UP, WARM_UP_RATE = 300, 200
LAST_SECONDS = 30  # how long the last event may take
HEAD = f"{'read_to':8}{'linger':>7}{'rate':>6}{'writes':>8}   {'p50':>8}{'p95':>8}{'p99':>8}{'worst':>9}   {'p50':>8}{'p99':>8}"


def main():
    parser = arguments(__doc__)
    parser.add_argument('--release', choices=['4.1', '5.0'], default='4.1')
    parser.add_argument('--read-to', nargs='+', choices=['written', 'marked', 'synced'], default=['written', 'marked', 'synced'])
    parser.add_argument('--linger', nargs='+', type=int, default=[0], help='of the agent\'s producer, in ms')
    parser.add_argument('--rates', nargs='+', type=int, default=[1, 100, 500, 2000], help='writes a second')
    parser.add_argument('--writes', type=int, default=2000, help='for each rate, but no more than --seconds takes')
    parser.add_argument('--seconds', type=int, default=20, help='for each rate at most')
    parser.add_argument('--idle', type=int, default=20, help='seconds over which the CPU of the idle agent is measured')
    parser.add_argument('--sync-ms', type=int, default=200, help='commitlog_sync_period')
    parser.add_argument('--rows', type=pathlib.Path, help='file to write each line of the table to as well, as JSON; must not exist')
    a = parser.parse_args()
    if a.rows:
        a.rows.touch(exist_ok=False)
    with_servers_directory(a.keep, lambda directory: live(a, directory))


def live(a, directory):
    cassandra = CassandraNode(a.release, directory / 'cassandra', segment_mib=32, sync_ms=a.sync_ms)
    with cassandra, KafkaNode(directory / 'kafka') as kafka:
        topics.make(kafka.bootstrap, [TOPIC, 'cassandra.dead-letter'])
        writes = Writes(connect(cassandra.cql_port))
        say(f'Cassandra {a.release}, commitlog_sync_period {a.sync_ms} ms, {a.binary}; milliseconds\n'
            f'{"":32}from the answer to the INSERT       from its sending\n{HEAD}')
        idle = {}
        for read_to in a.read_to:
            for linger in a.linger:
                service = Service(a.binary, directory / f'agent-{read_to}-{linger}', cassandra, kafka, {
                    'cassandra': {'read_to': read_to}, 'kafka.librdkafka': {'linger.ms': str(linger)}})
                try:
                    service.start()
                    service.wait_until_ready()
                    measure(a, writes, kafka.bootstrap, read_to, linger)
                    if read_to not in idle:
                        idle[read_to] = idle_cpu(service, a.idle)
                    service.stop()
                finally:
                    service.end()
        for read_to, share in idle.items():
            say(f'idle, {read_to}: {share:.2%} of a core over {a.idle} s')


def measure(a, writes, bootstrap, read_to, linger):
    with Receiver(bootstrap) as receiver:
        warm = writes.at_rate(WARM_UP_RATE, WARM_UP)
        receiver.wait_for(warm)
        for rate in a.rates:
            sent = writes.at_rate(rate, min(a.writes, rate * a.seconds))
            receiver.wait_for(sent)
        arrived = receiver.result()
        for rate, batch in writes.batches[-len(a.rates):]:
            missing = [n for n in batch if n not in arrived]
            if missing:
                raise Wrong(f'{len(missing)} of {len(batch)} events did not come')
            answered = sorted(arrived[n] - writes.answered[n] for n in batch)
            sent = sorted(arrived[n] - at for n, at in batch.items())
            if a.rows:
                note(a.rows, {'read_to': read_to, 'linger_ms': linger, 'rate': rate, 'writes': len(batch), 'sync_ms': a.sync_ms,
                              'release': a.release, 'worst': answered[-1] * 1e3} | {f'p{p}': at(answered, p) for p in (50, 95, 99)})
            say(f'{read_to:8}{linger:7}{rate:6}{len(batch):8}   ' + ''.join(f'{at(answered, p):8.1f}' for p in (50, 95, 99))
                + f'{answered[-1] * 1e3:9.1f}   ' + ''.join(f'{at(sent, p):8.1f}' for p in (50, 99)))


def note(path, row):
    with open(path, 'a') as f:
        f.write(json.dumps(row) + '\n')


def at(values, percent):
    return values[min(len(values) - 1, len(values) * percent // 100)] * 1e3


def idle_cpu(service, seconds):
    time.sleep(2)
    before = service.cpu_seconds()
    time.sleep(seconds)
    return (service.cpu_seconds() - before) / seconds


class Writes:
    """Rows with a number and the moment of their sending."""

    def __init__(self, cluster):
        self.session = cluster.connect()
        self.session.execute(f"CREATE KEYSPACE {KEYSPACE} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}")
        self.session.execute(f'CREATE TABLE {KEYSPACE}.{TABLE} (n bigint PRIMARY KEY, sent double, text text) WITH cdc = true')
        self.insert = self.session.prepare(f'INSERT INTO {KEYSPACE}.{TABLE} (n, sent, text) VALUES (?, ?, ?)')
        self.answered, self.batches, self._n = {}, [], 0

    def at_rate(self, rate, count):
        """{number: when it was sent}"""
        sent, futures, due = {}, [], time.monotonic()
        for _ in range(count):
            time.sleep(max(0, due - time.monotonic()))
            due += 1 / rate
            self._n += 1
            sent[self._n] = time.time()
            future = self.session.execute_async(self.insert, (self._n, sent[self._n], 'x' * 100))
            future.add_callback(lambda _, n=self._n: self.answered.__setitem__(n, time.time()))
            futures.append(future)
        for future in futures:
            future.result()
        self.batches.append((rate, sent))
        return sent


class Receiver:
    """A consumer in a process of its own, so that this one's work does not delay it."""

    def __init__(self, bootstrap):
        context = multiprocessing.get_context('spawn')
        self._pipe, other = context.Pipe()
        self._process = context.Process(target=receive, args=(bootstrap, other), daemon=True)

    def __enter__(self):
        self._process.start()
        self._ask('begun')
        return self

    def __exit__(self, *_):
        self._process.terminate()
        self._process.join()

    def wait_for(self, numbers):
        if not self._ask(set(numbers)):
            raise Wrong(f'not all events come within {LAST_SECONDS} s')

    def result(self):
        return self._ask('result')

    def _ask(self, what):
        self._pipe.send(what)
        return self._pipe.recv()


def receive(bootstrap, pipe):
    consumer = Consumer({'bootstrap.servers': bootstrap, 'group.id': 'unused', 'enable.auto.commit': False, 'fetch.wait.max.ms': 10,
                         'fetch.min.bytes': 1, 'socket.nagle.disable': True})
    consumer.assign([TopicPartition(*place, offset) for place, offset in topics.ends(bootstrap, [TOPIC]).items()])
    arrived = {}

    def poll():
        message = consumer.poll(0.05)
        now = time.time()
        if message is not None and not message.error():
            arrived.setdefault(json.loads(message.value())['key']['n'], now)

    while True:
        poll()
        if not pipe.poll():
            continue
        what = pipe.recv()
        deadline = time.monotonic() + LAST_SECONDS
        wanted = what if isinstance(what, set) else set()
        while not wanted <= arrived.keys() and time.monotonic() < deadline:
            poll()
        pipe.send(arrived if what == 'result' else wanted <= arrived.keys())


if __name__ == '__main__':
    main()
