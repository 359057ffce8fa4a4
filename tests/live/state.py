"""Two ways to the same tables: all events reconciled by their timestamps, and SELECT."""
import collections
import uuid

from facts import DELETED
from tables import KEYSPACE, is_collection, plain, quote, split

ALWAYS = float('-inf')  # older than any write


def from_events(table, facts_by_key):
    """{key: [facts, ...]} in any order -> {(key, row): {column: value}}; row is None where only statics are left."""
    rows = {}
    for key, events in facts_by_key.items():
        partition = _Partition(table, [fact for facts in events for fact in facts])
        statics = partition.columns(None, table.statics)
        live = {row: columns for row in partition.rows if (columns := partition.row(row)) is not None}
        if not live and statics is not None and any(v is not None for v in statics.values()):
            live = {None: dict.fromkeys(table.columns)}
        for row, columns in live.items():
            rows[key, row] = {**columns, **(statics or {})}
    return rows


def from_select(session, table):
    """The same from the node: each value with its write time and whether it will expire; a collection only with its value."""
    columns = {**table.columns, **table.statics}
    shown = [f'{quote(c)} AS v{i}' for i, c in enumerate(columns)]
    timed = [(i, c) for i, (c, t) in enumerate(columns.items()) if not is_collection(t) and t != 'counter' and not table.server_time]
    shown += [f'WRITETIME({quote(c)}) AS w{i}, TTL({quote(c)}) AS t{i}' for i, c in timed]
    keys = [f'{quote(c)} AS k{i}' for i, c in enumerate([*table.key, *table.clustering])]
    rows = {}
    for found in session.execute(f"SELECT {', '.join(keys + shown)} FROM {KEYSPACE}.{quote(table.name)}"):
        key = tuple(plain(found[f'k{i}'], t) for i, t in enumerate(table.key.values()))
        row = tuple(plain(found[f'k{i + len(key)}'], t) for i, t in enumerate(table.clustering.values()))
        if None in row:  # a partition with statics only
            row = None
        rows[key, row] = {c: _selected(found, i, t, (i, c) in timed) for i, (c, t) in enumerate(columns.items())}
    return rows


def _selected(found, i, cql_type, timed):
    value = plain(found[f'v{i}'], cql_type)
    if value is None or value == () or not timed:
        return value if value != () else None
    return value, found[f'w{i}'], found[f't{i}'] is not None


class _Partition:
    def __init__(self, table, facts):
        self.table = table
        self.by_kind = collections.defaultdict(list)
        for fact in facts:
            self.by_kind[fact[0]].append(fact)
        self.deleted = max((f[1] for f in self.by_kind['partition_delete']), default=ALWAYS)
        self.cells = collections.defaultdict(list)
        for kind in ('cell', 'element', 'overwrite', 'counter'):
            for fact in self.by_kind[kind]:
                self.cells[fact[1], fact[2]].append(fact)
        self.row_deletions = _newest((f[1], f[2]) for f in self.by_kind['row_delete'])
        self.liveness = {}
        for _, row, ts, ttl in self.by_kind['liveness']:
            self.liveness[row] = max(self.liveness.get(row, (ALWAYS,)), (ts, ttl), key=lambda x: x[0] or 0)
        self.rows = {row for row, _ in self.cells if row is not None} | set(self.liveness)

    def row(self, row):
        """The columns of a row, or None if there is no such row."""
        columns = self.columns(row, self.table.columns)
        alive = row in self.liveness and (self.table.server_time or self.liveness[row][0] > self._deleted(row))
        return columns if alive or any(v is not None for v in columns.values()) else None

    def columns(self, row, types):
        deleted = self._deleted(row)
        return {column: self._value(self.cells.get((row, column), []), cql_type, deleted) for column, cql_type in types.items()}

    def _value(self, facts, cql_type, deleted):
        if cql_type == 'counter':  # each cell carries the total so far; in the order of the events
            return facts[-1][3] if facts else None
        if is_collection(cql_type):
            return self._collection(facts, cql_type, deleted)
        if not facts:
            return None
        _, _, _, ts, ttl, value = facts[-1] if self.table.server_time else max(facts, key=lambda f: f[3])
        if value == DELETED or ts <= deleted:
            return None
        return value if self.table.server_time else (value, ts, ttl is not None)

    @staticmethod
    def _collection(facts, cql_type, deleted):
        deleted = max([deleted, *(f[3] for f in facts if f[0] == 'overwrite')])
        elements = {}
        for fact in facts:
            if fact[0] == 'element' and fact[4] > max(deleted, elements.get(fact[3], (ALWAYS,))[0]):
                elements[fact[3]] = fact[4], fact[6]
        left = {path: value for path, (_, value) in elements.items() if value != DELETED}
        if not left:
            return None
        kind = split(cql_type)[0]
        if kind == 'set':
            return tuple(sorted(left))
        if kind == 'map':
            return tuple(sorted(left.items()))
        if kind == 'list':
            return tuple(left[path] for path in sorted(left, key=_moment))
        return plain(left, cql_type)

    def _deleted(self, row):
        if row is None:
            return self.deleted
        ranges = [f[3] for f in self.by_kind['range_delete'] if self._encloses(f[1], f[2], row)]
        return max([self.deleted, self.row_deletions.get(row, ALWAYS), *ranges])

    def _encloses(self, start, end, row):
        return (start is None or self._against(start, row) >= (0 if start[1] else 1)) and (
            end is None or self._against(end, row) <= (0 if end[1] else -1))

    def _against(self, bound, row):
        """-1, 0 or 1: the row lies before, within or behind all rows with the bound's prefix, in clustering order."""
        for column, ours, its in zip(self.table.clustering, row, bound[0]):
            if ours != its:
                before = (ours.encode() < its.encode()) if isinstance(ours, str) else ours < its
                return -1 if before != (column in self.table.descending) else 1
        return 0


def _newest(pairs):
    newest = {}
    for name, ts in pairs:
        newest[name] = max(ts, newest.get(name, ALWAYS))
    return newest


def _moment(path):
    """A list is in the order of its paths as time UUIDs: by time, then by the bytes behind, which are signed."""
    u = uuid.UUID(path)
    return u.time, [b - 256 if b > 127 else b for b in u.bytes[8:]]
