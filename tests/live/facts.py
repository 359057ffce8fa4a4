"""A change as a set of facts: what a write must say, and what an event does say. Equal sets, equal changes.

('partition_delete', ts)                       ('liveness', row, ts, ttl)
('range_delete', start, end, ts)               ('cell', row, column, ts, ttl, value)       row is None for a static one
('row_delete', row, ts)                        ('overwrite', row, column, ts)
('counter', row, column, value)                ('element', row, column, path, ts, ttl, value)

A row is the tuple of its clustering values; a bound is (a prefix of one, whether it is included) or None, in clustering order.
"""
import json

from tables import USER_TYPES, from_json, is_collection, split

DELETED = '<deleted>'
CLOCK_SECONDS = 600  # how far the seconds in an event may be from the test's own clock


class Malformed(Exception):
    """The event is not what the contract says."""


def of_event(event, table, written_around):
    """All that the event says. `written_around`: (first, last) second of the test's writes, for times that the server chose."""
    reader = _Reader(table, written_around)
    facts = set()
    if 'partition_delete' in event:
        facts.add(('partition_delete', reader.deletion(event['partition_delete'])))
    facts |= reader.cells(None, event.get('static', {}))
    for row in event.get('rows', []):
        at = reader.clustering(row.get('clustering', {}), whole=True)
        if 'delete' in row:
            facts.add(('row_delete', at, reader.deletion(row['delete'])))
        if 'liveness' in row:
            facts.add(('liveness', at, row['liveness']['ts'], reader.ttl(row['liveness'])))
        facts |= reader.cells(at, row.get('cells', {}))
    for deleted in event.get('range_deletes', []):
        facts.add(('range_delete', reader.bound(deleted.get('start')), reader.bound(deleted.get('end')), reader.deletion(deleted)))
    return frozenset(facts)


def comparable(facts, table):
    """Without what a writer cannot know: the time UUIDs of list elements, timestamps that the server chose."""
    def known(fact):
        fact = list(fact)
        if fact[0] == 'element' and split(table.type_of(fact[2]))[0] == 'list':
            fact[3] = None
        if table.server_time and fact[0] in ('liveness', 'cell'):
            fact[-2 if fact[0] == 'liveness' else -3] = None
        return tuple(fact)
    return frozenset(map(known, facts))


def key_of(event, table):
    return tuple(from_json(event['key'][c], t) for c, t in table.key.items())


def key_text(event):
    """The record's key as it must be: compact JSON of the event's own."""
    return json.dumps(event['key'], separators=(',', ':'), ensure_ascii=False).encode()


class _Reader:
    def __init__(self, table, written_around):
        self.table, self.first, self.last = table, written_around[0] - CLOCK_SECONDS, written_around[1] + CLOCK_SECONDS

    def seconds(self, at, after=0):
        if not self.first + after <= at <= self.last + after:
            raise Malformed(f'the second {at} is not around {self.first + after}..{self.last + after}')

    def deletion(self, deletion):
        self.seconds(deletion['at'])
        return deletion['ts']

    def ttl(self, o):
        if ('ttl' in o) != ('expires' in o):
            raise Malformed(f'ttl and expires belong together: {o}')
        if 'ttl' in o:
            self.seconds(o['expires'], o['ttl'])
        return o.get('ttl')

    def clustering(self, clustering, whole=False):
        columns = list(self.table.clustering)
        if list(clustering) != columns[:len(clustering)] or (whole and len(clustering) != len(columns)):
            raise Malformed(f'clustering {clustering}')
        return tuple(from_json(v, self.table.clustering[c]) for c, v in clustering.items())

    def bound(self, bound):
        if not bound or not bound.get('clustering'):
            return None
        return self.clustering(bound['clustering']), bound['inclusive']

    def cells(self, row, cells):
        facts = set()
        for column, cell in cells.items():
            cql_type = (self.table.statics if row is None else self.table.columns)[column]
            if not is_collection(cql_type):
                facts.add(self.cell(row, column, cell, cql_type))
                continue
            if 'overwrite' in cell:
                facts.add(('overwrite', row, column, self.deletion(cell['overwrite'])))
            for element in cell.get('elements', []):
                facts.add(self.element(row, column, element, cql_type))
        return facts

    def cell(self, row, column, cell, cql_type):
        if cql_type == 'counter':
            if cell['value'] != sum(s['count'] for s in cell['shards']):
                raise Malformed(f'a counter is not the sum of its shards: {cell}')
            return 'counter', row, column, cell['value']
        return 'cell', row, column, cell['ts'], self.ttl(cell), self.value(cell, cql_type)

    def element(self, row, column, element, cql_type):
        kind, inside = split(cql_type)
        path = element['path'] if kind in USER_TYPES else from_json(element['path'], {'list': 'timeuuid'}.get(kind, inside[0]))
        if kind == 'set':  # its path is its value
            value = DELETED if 'deleted' in element else None
            if 'value' in element:
                raise Malformed(f'a set element has no value: {element}')
        else:
            value = self.value(element, USER_TYPES[kind][path] if kind in USER_TYPES else inside[-1])
        return 'element', row, column, path, element['ts'], self.ttl(element), value

    def value(self, cell, cql_type):
        if ('deleted' in cell) == ('value' in cell):
            raise Malformed(f'either deleted or value: {cell}')
        if 'deleted' in cell:
            self.seconds(cell['deleted'])
            return DELETED
        return from_json(cell['value'], cql_type)

