"""Writes to Cassandra, each noted with the facts that its event must say.

Every write has a timestamp of its own, STEP apart: an overwritten collection is first deleted at the timestamp before. So no two
facts of the test are equal, and an event that is missing, twice there or changed has nothing to hide behind.
"""
import collections
import dataclasses

from cassandra import ConsistencyLevel
from cassandra.query import BatchStatement, BatchType

from facts import DELETED
from tables import KEYSPACE, USER_TYPES, is_collection, is_user_value, plain, quote, split

FIRST_TIMESTAMP, STEP = 1_760_000_000_000_000, 10
IN_FLIGHT = 64


@dataclasses.dataclass(frozen=True)
class Change:
    """What one event must be: the update of one table in one mutation."""
    table: str
    key: tuple
    facts: frozenset


@dataclasses.dataclass
class Write:
    table: object
    key: dict
    cql: str
    values: list
    facts: set


class Writer:
    def __init__(self, session):
        self.session = session
        self.changes = []  # one for each event that must come
        self.statements = 0
        self._timestamp = FIRST_TIMESTAMP
        self._prepared, self._pending = {}, collections.deque()

    # ---- sending

    def send(self, write):
        bound = self._bind(write)
        self._note([write])
        self._later(bound)

    def send_now(self, write):
        """For what depends on the writes before it."""
        self.settle()
        bound = self._bind(write)
        self._note([write])
        return self.session.execute(bound)

    def batch(self, *writes, logged=True, counter=False):
        """Writes of one keyspace and key become one mutation: its tables, one event each."""
        kind = BatchType.COUNTER if counter else BatchType.LOGGED if logged else BatchType.UNLOGGED
        batch = BatchStatement(kind, consistency_level=ConsistencyLevel.ONE)
        for write in writes:
            batch.add(self._bind(write))
        self._note(writes)
        self._later(batch)

    def settle(self):
        while self._pending:
            self._pending.popleft().result()

    def _note(self, writes):
        together = {}
        for write in writes:
            key = tuple(plain(v, write.table.key[c]) for c, v in write.key.items())
            together.setdefault((write.table, key), set()).update(write.facts)
        self.statements += len(writes)
        self.changes += [Change(table.name, key, frozenset(facts)) for (table, key), facts in together.items() if table.cdc]

    def _later(self, statement):
        self._pending.append(self.session.execute_async(statement))
        if len(self._pending) >= IN_FLIGHT:
            self._pending.popleft().result()

    def _bind(self, write):
        if write.cql not in self._prepared:
            self._prepared[write.cql] = self.session.prepare(write.cql)
        # The driver wants a user type's value as a tuple.
        return self._prepared[write.cql].bind([tuple(v.values()) if is_user_value(v) else v for v in write.values])

    # ---- writes

    def insert(self, table, key, row=None, values=None, statics=None, ttl=None, condition=''):
        """row None: only static columns are written."""
        ts, values, statics = self._next(), values or {}, statics or {}
        columns = {**key, **(row or {}), **values, **statics}
        at = self._row(table, row)
        facts = set() if at is None else {('liveness', at, ts, ttl)}
        facts |= self._set(table, at, values, ts, ttl) | self._set(table, None, statics, ts, ttl)
        using, bound = ('', []) if condition else self._using(ts, ttl)
        cql = (f"INSERT INTO {self._name(table)} ({', '.join(map(quote, columns))}) VALUES ({', '.join('?' * len(columns))}) "
               f'{condition}{using}')
        return Write(table, key, cql, [*columns.values(), *bound], facts)

    def update(self, table, key, row=None, values=None, statics=None, ttl=None, condition=''):
        ts, values, statics = self._next(), values or {}, statics or {}
        facts = self._set(table, self._row(table, row), values, ts, ttl) | self._set(table, None, statics, ts, ttl)
        return self._update(table, key, row, [(f'{quote(c)} = ?', v) for c, v in {**values, **statics}.items()], ts, ttl, facts, condition)

    def add(self, table, key, row, column, elements, ttl=None, first=False):
        """Adds to a collection; in a list at its end, or `first` at its start."""
        ts, at = self._next(), self._row(table, row)
        if column in table.statics:
            at = None
        name = quote(column)
        change = f'{name} = ? + {name}' if first else f'{name} = {name} + ?'
        return self._update(table, key, row, [(change, elements)], ts, ttl, self._elements(table, at, column, elements, ts, ttl))

    def remove(self, table, key, row, column, paths):
        """Removes elements of a set, or keys of a map."""
        ts, at = self._next(), self._row(table, row)
        path_type = split(table.type_of(column))[1][0]
        facts = {('element', at, column, plain(p, path_type), ts, None, DELETED) for p in paths}
        return self._update(table, key, row, [(f'{quote(column)} = {quote(column)} - ?', set(paths))], ts, None, facts)

    def set_part(self, table, key, row, column, path, value):
        """One entry of a map, or one field of a user type."""
        ts, at = self._next(), self._row(table, row)
        field = split(table.type_of(column))[0] in USER_TYPES
        fact = ('element', at, column, path, ts, None, DELETED if value is None else value)
        changes = [(f'{quote(column)}.{path} = ?', value)] if field else [(f'{quote(column)}[?] = ?', path, value)]
        return self._update(table, key, row, changes, ts, None, {fact})

    def count(self, table, key, row, totals, deltas):
        """A counter's cell carries the node's total: `totals` is kept by the caller's side of the counting."""
        at = self._row(table, row)
        facts = set()
        for column, delta in deltas.items():
            totals[column] = totals.get(column, 0) + delta
            facts.add(('counter', at, column, totals[column]))
        changes = [(f'{quote(c)} = {quote(c)} + ?', d) for c, d in deltas.items()]
        return self._update(table, key, row, changes, None, None, facts)

    def delete_cells(self, table, key, row, columns):
        ts, at = self._next(), self._row(table, row)
        facts = {('overwrite' if is_collection(table.type_of(c)) else 'cell', None if c in table.statics else at, c, ts)
                 + (() if is_collection(table.type_of(c)) else (None, DELETED)) for c in columns}
        return self._delete(table, {**key, **(row or {})}, key, ts, facts, ', '.join(map(quote, columns)) + ' ')

    def delete_row(self, table, key, row):
        ts = self._next()
        return self._delete(table, {**key, **row}, key, ts, {('row_delete', self._row(table, row), ts)})

    def delete_partition(self, table, key):
        ts = self._next()
        return self._delete(table, key, key, ts, {('partition_delete', ts)})

    def delete_range(self, table, key, prefix, column=None, low=None, high=None):
        """All rows with this prefix, or those of them with low <= column < high (either may be None)."""
        ts = self._next()
        if column is None:
            bound = self._row(table, prefix), True
            return self._delete(table, {**key, **prefix}, key, ts, {('range_delete', bound, bound, ts)})
        before = self._row(table, prefix)
        whole = (before, True) if before else None
        at_low = (before + (plain(low, table.type_of(column)),), True) if low is not None else whole
        at_high = (before + (plain(high, table.type_of(column)),), False) if high is not None else whole
        # In clustering order: a descending column's range starts at its high end.
        start, end = (at_high, at_low) if column in table.descending else (at_low, at_high)
        limits = [(f'{quote(column)} >= ?', low)] * (low is not None) + [(f'{quote(column)} < ?', high)] * (high is not None)
        return self._delete(table, {**key, **prefix}, key, ts, {('range_delete', start, end, ts)}, limits=limits)

    # ---- their parts

    def _update(self, table, key, row, changes, ts, ttl, facts, condition=''):
        using, bound = ('', []) if condition or ts is None else self._using(ts, ttl)
        where = {**key, **(row or {})}
        cql = (f"UPDATE {self._name(table)}{using} SET {', '.join(c[0] for c in changes)} WHERE "
               + ' AND '.join(f'{quote(c)} = ?' for c in where) + condition)
        return Write(table, key, cql, [*bound, *(v for c in changes for v in c[1:]), *where.values()], facts)

    def _delete(self, table, where, key, ts, facts, what='', limits=()):
        conditions = [f'{quote(c)} = ?' for c in where] + [c for c, _ in limits]
        cql = f"DELETE {what}FROM {self._name(table)} USING TIMESTAMP ? WHERE {' AND '.join(conditions)}"
        return Write(table, key, cql, [ts, *where.values(), *(v for _, v in limits)], facts)

    def _set(self, table, at, values, ts, ttl):
        facts = set()
        for column, value in values.items():
            cql_type = table.type_of(column)
            if is_collection(cql_type):
                facts.add(('overwrite', at, column, ts - 1))
                facts |= self._elements(table, at, column, value, ts, ttl)
            elif value is None:
                facts.add(('cell', at, column, ts, None, DELETED))
            else:
                facts.add(('cell', at, column, ts, ttl, plain(value, cql_type)))
        return facts

    def _elements(self, table, at, column, value, ts, ttl):
        kind, inside = split(table.type_of(column))
        if not value:
            return set()
        if kind == 'set':
            return {('element', at, column, plain(v, inside[0]), ts, ttl, None) for v in value}
        if kind == 'list':
            return {('element', at, column, None, ts, ttl, plain(v, inside[0])) for v in value}
        entries = dict(plain(value, kind)) if kind in USER_TYPES else value
        return {('element', at, column, p, ts, ttl, v) for p, v in entries.items() if v is not None}

    def _next(self):
        self._timestamp += STEP
        return self._timestamp

    @staticmethod
    def _row(table, row):
        """The row's name among the facts; the empty one in a table without clustering columns; None for no row at all."""
        if row is None:
            return None if table.clustering else ()
        return tuple(plain(v, table.clustering[c]) for c, v in row.items())

    @staticmethod
    def _using(ts, ttl):
        return (' USING TIMESTAMP ? AND TTL ?', [ts, ttl]) if ttl else (' USING TIMESTAMP ?', [ts])

    @staticmethod
    def _name(table):
        return f'{KEYSPACE}.{quote(table.name)}'
