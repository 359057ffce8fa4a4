#!/usr/bin/env python3
"""The whole way with real servers: writes to Cassandra 4.1, `cassandra-cdc replay` into Kafka 4.1.1, and every record checked.

usage: replay.py --binary target/debug/cassandra-cdc
"""
import collections
import json
import subprocess
import time

from common import Wrong, arguments, connect, nearest, parsed, position, say, with_servers_directory

import checks
import facts
import state
import topics
import workload
from node.cassandra_node import CassandraNode
from node.kafka_node import KafkaNode
from tables import KEYSPACE, TABLES
from writes import Change, Writer

CLUSTER, PREFIX, AGAIN = 'rig', 'cassandra', 'again'
CAPTURED = {t.name: t for t in TABLES if t.cdc}
REPLAY_SECONDS, SEAL_SECONDS = 180, 60


def main():
    a = arguments(__doc__).parse_args()
    with_servers_directory(a.keep, lambda directory: live(a.binary, directory))


def live(binary, directory):
    with CassandraNode('4.1', directory / 'cassandra') as cassandra, KafkaNode(directory / 'kafka') as kafka:
        Test(binary.resolve(), directory, cassandra, kafka).run()


class Test:
    def __init__(self, binary, directory, cassandra, kafka):
        self.binary, self.directory, self.cassandra, self.kafka = binary, directory, cassandra, kafka
        self.schema = directory / 'schema.json'

    def run(self):
        cluster = connect(self.cassandra.cql_port)
        try:
            self.session = cluster.connect()
            self.host_id = str(self.session.execute('SELECT host_id FROM system.local').one()['host_id'])
            changes = self.write()
            self.agent('schema', 'pull', '--contact', f'127.0.0.1:{self.cassandra.cql_port}', '-o', self.schema)
            records = self.replay(PREFIX)
            events = Events(records, self.host_id, self.written_around)
            events.check_places()
            events.check_identity()
            events.check_changes(changes)
            self.check_tables(events)
            self.check_again(records)
            checks.look(self.binary, self.directory, self.cassandra, self.kafka, KEYSPACE, CAPTURED)
        finally:
            cluster.shutdown()

    def write(self):
        first = int(time.time())
        workload.create(self.session)
        writer = Writer(self.session)
        workload.run(writer)
        self.written_around = first, int(time.time())
        # Dropping a table makes the node close its segment and go on to the next.
        self.session.execute(f'DROP TABLE {KEYSPACE}.scratch')
        segments = self.wait_until_sealed()
        say(f'wrote {writer.statements} statements, {len(writer.changes)} changes to captured tables, {segments} segments with them')
        return writer.changes

    def wait_until_sealed(self):
        """Until every index is completed, and no other came: the first one comes a sync period (200 ms) late."""
        deadline, before = time.monotonic() + SEAL_SECONDS, None
        while time.monotonic() < deadline:
            indexes = {p.name: p.read_text() for p in self.cassandra.cdc_raw.glob('*_cdc.idx')}
            if indexes and indexes == before and all(text.endswith('COMPLETED') for text in indexes.values()):
                return len(indexes)
            before = indexes
            time.sleep(2)
        raise Wrong(f'Cassandra does not complete its segments: {indexes}')

    def replay(self, prefix):
        topics.make(self.kafka.bootstrap, [f'{prefix}.{KEYSPACE}.{name}' for name in CAPTURED])
        before = topics.all_names(self.kafka.bootstrap)
        begin = time.monotonic()
        self.agent('replay', '--sink', 'kafka', '--bootstrap', self.kafka.bootstrap, '--schema', self.schema, '--cluster', CLUSTER,
                   '--host-id', self.host_id, *(() if prefix == PREFIX else ('--topic-prefix', prefix)), self.cassandra.cdc_raw)
        took = time.monotonic() - begin
        after = topics.all_names(self.kafka.bootstrap)
        if after != before:
            raise Wrong(f'topics that nobody asked for: {sorted(set(after) - set(before))}')
        records = topics.read_all(self.kafka.bootstrap, [n for n in after if n.startswith(prefix + '.')])
        say(f'replay into {prefix}.*: {sum(map(len, records.values()))} records in {took:.1f} s')
        return records

    def agent(self, *arguments):
        command = [self.binary, *arguments]
        try:
            ran = subprocess.run(command, capture_output=True, text=True, timeout=REPLAY_SECONDS)
        except subprocess.TimeoutExpired as e:
            raise Wrong(f"`{' '.join(map(str, command))}` is not done after {REPLAY_SECONDS} s:\n{(e.stderr or b'')[-3000:].decode()}") from e
        if ran.returncode:
            raise Wrong(f"`{' '.join(map(str, command))}` ended with {ran.returncode}:\n{ran.stdout[-1000:]}\n{ran.stderr[-3000:]}")

    def check_tables(self, events):
        """All events reconciled as Cassandra does give the tables as Cassandra has them."""
        rows = 0
        for name, table in CAPTURED.items():
            ours, its = state.from_events(table, events.facts_by_key(name)), state.from_select(self.session, table)
            differing = [k for k in ours.keys() | its.keys() if ours.get(k) != its.get(k)]
            if differing:
                raise Wrong(f'{name}: {len(differing)} of {len(its)} rows differ, such as {differing[0]}:\n'
                            f'  events: {ours.get(differing[0])}\n  SELECT: {its.get(differing[0])}')
            rows += len(its)
        say(f'the events rebuild all {rows} rows of {len(CAPTURED)} tables, with write times and expiry')

    def check_again(self, records):
        again = self.replay(AGAIN)
        for (topic, partition), messages in records.items():
            place = topic.replace(PREFIX, AGAIN, 1), partition
            if [(m.key(), m.value()) for m in messages] != [(m.key(), m.value()) for m in again.get(place, [])]:
                raise Wrong(f'a second replay does not give the same bytes: {place}')
        say('a second replay gives the same bytes')


class Events:
    """The records of one replay, parsed; each check raises what is wrong."""

    def __init__(self, records, host_id, written_around):
        self.host_id, self.written_around = host_id, written_around
        self.all = [(m, parsed(m)) for place in sorted(records) for m in records[place]]
        self.facts = [self.facts_of(e) for _, e in self.all]

    def facts_of(self, event):
        try:
            return facts.of_event(event, self.table(event), self.written_around)
        except (KeyError, TypeError, ValueError, facts.Malformed) as e:
            raise Wrong(f'not an event of the contract, {e!r}: {json.dumps(event, ensure_ascii=False)[:3000]}') from e

    @staticmethod
    def table(event):
        if event['keyspace'] != KEYSPACE or event['table'] not in CAPTURED:
            raise Wrong(f"an event of {event['keyspace']}.{event['table']}, which has no cdc")
        return CAPTURED[event['table']]

    def facts_by_key(self, name):
        """In the order of the offsets for each key."""
        by_key = collections.defaultdict(list)
        for (_, event), its in zip(self.all, self.facts):
            if event['table'] == name:
                by_key[facts.key_of(event, CAPTURED[name])].append(its)
        return by_key

    def check_places(self):
        """Topic, key, partition, and the order within a key."""
        partition_of = topics.java_partitions({m.key() for m, _ in self.all})
        last = {}
        for message, event in self.all:
            if message.topic() != f"{PREFIX}.{event['keyspace']}.{event['table']}":
                raise Wrong(f"{event['id']} of {event['table']} is in {message.topic()}")
            if message.key() != facts.key_text(event):
                raise Wrong(f"{event['id']}: the record's key is {message.key()}, the event's {event['key']}")
            if message.partition() != partition_of[message.key()]:
                raise Wrong(f"{event['id']}: partition {message.partition()}, Java's {partition_of[message.key()]}, key {message.key()}")
            if message.headers():
                raise Wrong(f"{event['id']}: headers that nobody asked for: {message.headers()}")
            place, at = (message.topic(), message.key()), position(event)
            if place in last and at <= last[place]:
                raise Wrong(f"{event['id']} comes behind {last[place]} of the same key")
            last[place] = at
        say(f"{len(last)} keys, each in Java's partition and in the order of the log")

    def check_identity(self):
        seen = set()
        for _, event in self.all:
            segment, at = position(event)
            wanted = f'{CLUSTER}/{self.host_id}/{segment}/{at}/'
            source = event['source']
            if event['v'] != 1 or not event['id'].startswith(wanted) or not event['id'].removeprefix(wanted).isdigit():
                raise Wrong(f"id {event['id']}, version {event['v']}; wanted {wanted}N, 1")
            if (source['cluster'], source['host_id']) != (CLUSTER, self.host_id):
                raise Wrong(f"{event['id']}: source {source}")
            if not event.get('digest'):
                raise Wrong(f"{event['id']} has no digest")
            if event['id'] in seen:
                raise Wrong(f"{event['id']} is there twice")
            seen.add(event['id'])
        say(f'{len(seen)} ids, none twice')

    def check_changes(self, changes):
        """Each change that was written is one event that says just that, and there is no other event."""
        got = collections.Counter(Change(e['table'], facts.key_of(e, CAPTURED[e['table']]), facts.comparable(its, CAPTURED[e['table']]))
                                  for (_, e), its in zip(self.all, self.facts))
        wanted = collections.Counter(Change(c.table, c.key, facts.comparable(c.facts, CAPTURED[c.table])) for c in changes)
        if got != wanted:
            missing, surplus = list((wanted - got).elements()), list((got - wanted).elements())
            raise Wrong(f'{len(missing)} changes are missing, {len(surplus)} events are wrong or too many' + nearest(missing, surplus))
        say(f'{len(changes)} changes, each exactly once and nothing else')


if __name__ == '__main__':
    main()
