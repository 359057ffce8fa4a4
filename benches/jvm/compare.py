#!/usr/bin/env python3
"""The agent beside the JVM, on the same segments and the same Kafka: Cassandra's own reader, an agent made of it, Debezium.

Prints Markdown tables; judges no speed, but fails where the agent's events are not complete.

usage: compare.py --binary target/release/cassandra-cdc [--quick]
"""
import os
import pathlib
import subprocess
import sys
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / 'tests/live'))
from common import Wrong, arguments, connect, with_servers_directory  # noqa: E402

import kafka_side  # noqa: E402
import recording  # noqa: E402
import report  # noqa: E402
import topics  # noqa: E402
from debezium import SHIPPED, TUNED, Debezium  # noqa: E402
from jvm_reader import Reader  # noqa: E402
from node.cassandra_node import CassandraNode  # noqa: E402
from node.kafka_node import KafkaNode  # noqa: E402
from ours import Ours  # noqa: E402
from process import cap_files  # noqa: E402

WARM_UP, WARM = 3, 2  # passes after the cold one: unmeasured, then measured
DEBEZIUM = '3.5.0.Final'


def main():
    parser = arguments(__doc__)
    parser.add_argument('--rounds', type=int, default=3)
    parser.add_argument('--quick', action='store_true', help='one round')
    parser.add_argument('--minutes', type=float, default=15, help='no round begins that would not end within')
    parser.add_argument('--debezium', default=DEBEZIUM, metavar='VERSION', help='of the connector for Cassandra 4')
    a = parser.parse_args()
    with_servers_directory(a.keep, lambda directory: compare(a, directory))


def compare(a, directory):
    cap_files()
    segments = recording.segments()
    # Debezium asks a living node for the schema.
    cassandra = CassandraNode(recording.RELEASE, directory / 'cassandra', heap='512m')
    with cassandra, KafkaNode(directory / 'kafka', heap='1g', jvm=['-XX:+UseG1GC'], properties=kafka_side.BROKER) as kafka:
        cluster = connect(cassandra.cql_port)
        session = cluster.connect()
        recording.create_table(session)
        host_id = str(session.execute('SELECT host_id FROM system.local').one()['host_id'])
        cluster.shutdown()
        schema = directory / 'schema.json'
        subprocess.run([a.binary, 'schema', 'pull', '--contact', f'127.0.0.1:{cassandra.cql_port}', '-o', schema], check=True,
                       stderr=subprocess.DEVNULL)
        ours = Ours(a.binary.resolve(), schema, host_id, segments, directory, kafka.bootstrap)
        debezium = Debezium(a.debezium, cassandra, kafka, directory)
        rounds = Rounds(directory, segments, kafka.bootstrap, ours, debezium)
        begin = time.monotonic()
        for done in range(1 if a.quick else a.rounds):
            if done and (time.monotonic() - begin) / done * (done + 1) > a.minutes * 60:
                print(f'{done} rounds: another would take longer than {a.minutes:g} minutes', file=sys.stderr)
                break
            rounds.run()
        rounds.loads.append(os.getloadavg()[0])
    print(report.text(rounds.results, rounds.loads, rounds.expected, a.binary, a.debezium))


class Rounds:
    """All contestants in turn, round after round. results: {name: [[result, ...] of a round, ...]}"""

    def __init__(self, directory, segments, bootstrap, ours, debezium):
        self.directory, self.segments, self.bootstrap = directory, segments, bootstrap
        self.ours, self.debezium = ours, debezium
        self.results, self.loads, self.expected = {}, [], None

    def run(self):
        for results in self.results.values():
            results.append([])
        self.loads.append(os.getloadavg()[0])
        for handler in ('count', 'touch', 'json', 'publish'):
            self._read(handler)
        self._ours()
        self._debezium('debezium tuned', TUNED)
        self._ours()
        self._debezium('debezium shipped', SHIPPED)

    def _debezium(self, name, settings):
        whole, second_half = self.debezium.run(settings, self.segments, self.expected)
        self._note(name, whole)
        self._note(f'{name} hot', second_half)

    def _ours(self):
        for name, run in {'ours json': lambda: self.ours.publish('json'), 'ours protobuf': lambda: self.ours.publish('protobuf'),
                          'ours decode': self.ours.decode, 'ours encode json': lambda: self.ours.encode('json'),
                          'ours encode protobuf': lambda: self.ours.encode('protobuf')}.items():
            self._note(name, self._complete(name, run()))

    def _read(self, handler):
        topic = f'jvm{len(self.loads)}' if handler == 'publish' else ''
        topics.make(self.bootstrap, [topic] if topic else [])
        with Reader(handler, self.segments, self.directory / f'{handler}{len(self.loads)}', self.bootstrap) as reader:
            passes = [self._complete(handler, reader.run(topic)) for _ in range(1 + WARM_UP + WARM)]
        if topic:
            in_kafka = kafka_side.count(self.bootstrap, topic)
            if in_kafka != self.expected * len(passes):
                raise Wrong(f'{in_kafka} events of the JVM agent are in Kafka, not {self.expected * len(passes)}')
            size = kafka_side.record_bytes(self.bootstrap, topic)
            for result in passes:
                result.event_bytes = size
            topics.delete(self.bootstrap, topic)
        self._note(f'{handler} cold', passes[0])
        for warm in passes[-WARM:]:
            self._note(handler, warm)

    def _complete(self, name, result):
        """What Cassandra's reader counts first is what is there."""
        self.expected = self.expected or result.events
        if result.events != self.expected:
            raise Wrong(f'{name}: {result.events} events, not {self.expected}')
        return result

    def _note(self, name, result):
        print(f'load {os.getloadavg()[0]:5.1f}  {name:22} {result.cpu_per_million:8.3f} CPU s per 1 M {result.rate:10,.0f} events/s '
              f'{result.peak_mib:6.0f} MiB {result.events:9,} events', file=sys.stderr, flush=True)
        self.results.setdefault(name, [[]])[-1].append(result)


if __name__ == '__main__':
    main()
