"""Rebuilds tables from their events, whatever the order and however many copies: the newest write time wins.

    pip install confluent-kafka
    python3 table.py localhost:9092 cassandra.shop.orders cassandra.shop.customers

Reads the topics to their end and prints each row as a JSON line. It keeps deletions, as Cassandra does for
gc_grace_seconds: without them a late copy would bring back what was deleted.
"""
import argparse
import json
import time
import uuid

from confluent_kafka import Consumer, KafkaError, KafkaException, TopicPartition

# What an event does not say: which clustering columns descend, and which columns are lists that are not frozen.
DESCENDING = {'shop.orders': {'number'}}
LISTS = {'shop.orders': {'items'}}
NEVER = float('-inf')


class Cell:
    """One value with its write time; of two, `newer` is the one that stays."""

    def __init__(self, cell):
        self.ts, self.value = cell['ts'], cell.get('value')
        self.deleted, self.expires = 'deleted' in cell, cell.get('expires')
        self.shards = {s['id']: s for s in cell.get('shards', [])}
        if isinstance(self.value, dict) and '$chunk' in self.value:
            raise SystemExit('a value in chunks: join them first, see "Large changes" in consumers.md')

    def newer(self, other):
        if other is None:
            return self
        if self.shards and other.shards:
            return self.merged(other)
        if self.shards or other.shards:
            # A counter that was deleted stays deleted, whatever the times say.
            return self if self.deleted else other
        return max(self, other, key=Cell.rank)

    def rank(self):
        # At the same time a deletion wins, then what expires, then the larger value.
        last = self.expires if self.expires is not None else NEVER
        return self.ts, self.deleted, last, json.dumps(self.value, ensure_ascii=False)

    def merged(self, other):
        """A counter: of each shard the count with the highest clock; their sum is the value."""
        for name, shard in other.shards.items():
            if name not in self.shards or shard['clock'] > self.shards[name]['clock']:
                self.shards[name] = shard
        self.ts = max(self.ts, other.ts)
        self.value = sum(s['count'] for s in self.shards.values())
        return self

    def lives(self, deleted, at):
        return not self.deleted and self.ts > deleted and (self.expires is None or self.expires > at)


class Column:
    def __init__(self):
        self.cleared, self.cells = NEVER, {}

    def add(self, cell):
        if 'overwrite' in cell:
            self.cleared = max(self.cleared, cell['overwrite']['ts'])
        for element in cell.get('elements', []):
            self._put(json.dumps(element['path'], ensure_ascii=False), element)
        if 'ts' in cell:
            self._put(None, cell)

    def _put(self, path, cell):
        self.cells[path] = Cell(cell).newer(self.cells.get(path))

    def value(self, deleted, at, is_list):
        living = {path: c.value for path, c in self.cells.items() if c.lives(max(deleted, self.cleared), at)}
        if None in living:
            return living[None]
        elements = [(json.loads(path), value) for path, value in living.items()]
        if not elements:
            return None
        if is_list:
            return [value for _, value in sorted(elements, key=lambda e: moment(e[0]))]
        if all(value is None for _, value in elements):
            return sorted(path for path, _ in elements)
        return {path if isinstance(path, str) else json.dumps(path): value for path, value in sorted(elements)}


class Row:
    def __init__(self):
        self.deleted, self.liveness, self.columns = NEVER, None, {}

    def add(self, row):
        if 'delete' in row:
            self.deleted = max(self.deleted, row['delete']['ts'])
        if 'liveness' in row:
            self.liveness = Cell(row['liveness']).newer(self.liveness)
        self.add_cells(row.get('cells', {}))

    def add_cells(self, cells):
        for name, cell in cells.items():
            self.columns.setdefault(name, Column()).add(cell)

    def values(self, deleted, at, lists):
        """The columns that have a value; None if there is no such row."""
        deleted = max(deleted, self.deleted)
        values = {name: c.value(deleted, at, name in lists) for name, c in self.columns.items()}
        values = {name: value for name, value in values.items() if value is not None}
        alive = self.liveness is not None and self.liveness.lives(deleted, at)
        return values if alive or values else None


class Partition:
    def __init__(self, key, descending):
        self.key, self.descending = key, descending
        self.deleted, self.ranges, self.static, self.rows = NEVER, [], Row(), {}

    def add(self, event):
        if 'partition_delete' in event:
            self.deleted = max(self.deleted, event['partition_delete']['ts'])
        self.static.add_cells(event.get('static', {}))
        for row in event.get('rows', []):
            name = json.dumps(row.get('clustering', {}), ensure_ascii=False)
            self.rows.setdefault(name, Row()).add(row)
        for deletion in event.get('range_deletes', []):
            if deletion not in self.ranges:
                self.ranges.append(deletion)

    def all_rows(self, at, lists):
        static = self.static.values(self.deleted, at, lists) or {}
        found = False
        for name, row in self.rows.items():
            clustering = json.loads(name)
            deleted = max([self.deleted, *(r['ts'] for r in self.ranges if self.covers(r, clustering))])
            values = row.values(deleted, at, lists)
            if values is not None:
                found = True
                yield {**self.key, **clustering, **static, **values}
        if static and not found:
            yield {**self.key, **static}

    def covers(self, deletion, clustering):
        start, end = deletion.get('start'), deletion.get('end')
        return (start is None or self.side(start, clustering) >= (0 if start['inclusive'] else 1)) and (
            end is None or self.side(end, clustering) <= (0 if end['inclusive'] else -1))

    def side(self, bound, clustering):
        """-1, 0 or 1: the row is before, in or behind the rows that begin like the bound."""
        for column, ours in bound['clustering'].items():
            its = clustering[column]
            if its != ours:
                return 1 if (its > ours) != (column in self.descending) else -1
        return 0


def moment(path):
    """List elements are in the order of their time UUIDs: by time, then by the other bytes, which are signed."""
    u = uuid.UUID(path)
    return u.time, [b - 256 if b > 127 else b for b in u.bytes[8:]]


def read(brokers, topics, parse=json.loads):
    consumer = Consumer({'bootstrap.servers': brokers, 'group.id': 'unused', 'enable.auto.commit': False,
                         'enable.partition.eof': True})
    places = [(t, p) for t in topics for p in consumer.list_topics(t, 30).topics[t].partitions]
    consumer.assign([TopicPartition(t, p, 0) for t, p in places])
    unfinished = set(places)
    try:
        while unfinished:
            message = consumer.poll(30)
            if message is None:
                raise SystemExit(f'no answer from {brokers}')
            if not message.error():
                yield parse(message.value())
            elif message.error().code() == KafkaError._PARTITION_EOF:
                unfinished.discard((message.topic(), message.partition()))
            else:
                raise KafkaException(message.error())
    finally:
        consumer.close()


def main():
    arguments = argparse.ArgumentParser()
    arguments.add_argument('brokers')
    arguments.add_argument('topics', nargs='+')
    arguments.add_argument('--at', type=int, default=int(time.time()), help='the moment, in seconds since 1970, that TTLs are judged at')
    a = arguments.parse_args()
    partitions = {}
    for event in read(a.brokers, a.topics):
        table = f"{event['keyspace']}.{event['table']}"
        name = table, json.dumps(event['key'], ensure_ascii=False)
        if name not in partitions:
            partitions[name] = Partition(event['key'], DESCENDING.get(table, ()))
        partitions[name].add(event)
    for (table, _), partition in partitions.items():
        for row in partition.all_rows(a.at, LISTS.get(table, ())):
            print(json.dumps({'table': table, 'row': row}, ensure_ascii=False))


if __name__ == '__main__':
    main()
