"""DDL between writes, as an application in use would see it: columns, a user type and a table come and go, cdc goes off and on."""
import dataclasses

from tables import KEYSPACE, Table

SHIFTING = Table('shifting', {'id': 'int'}, {}, {'first': 'text'})
SHAPED = Table('shaped', {'id': 'int'}, {'n': 'int'}, {'whole': 'frozen<shape>', 'parts': 'shape'})
BRIEF = Table('brief', {'id': 'int'}, {}, {'what': 'text'})
TOGGLED = Table('toggled', {'id': 'int'}, {}, {'what': 'text'})
STARTING = [SHIFTING, SHAPED, BRIEF, TOGGLED]
ROWS = 20


def create(session):
    session.execute(f'CREATE TYPE {KEYSPACE}.shape (width int, label text)')
    for table in STARTING:
        session.execute(table.create())


class SchemaChanges:
    """load: a writer of its own. caught_up(): until everything written is with the consumer."""

    def __init__(self, load, caught_up):
        self.load, self.caught_up = load, caught_up
        self.dropped = {}  # id of a table that is gone -> its name
        self.ever = {t.name: t for t in STARTING}
        self.now = {t.name: t for t in STARTING if t is not TOGGLED}

    def run(self):
        self.columns()
        self.user_type()
        self.tables()
        self.toggle()

    def columns(self):
        """Columns come and are written at once; the one before goes, and what it held with it."""
        for n, cql_type in enumerate(['int', 'set<text>', 'text']):
            column, value = f'c{n}', [n, {'x', f'{n}'}, f'text {n}'][n]
            self._ddl(f'ALTER TABLE {KEYSPACE}.shifting ADD {column} {cql_type}')
            self._has(column, cql_type)
            for i in range(ROWS):
                self.load.send(self.load.insert(self.ever['shifting'], {'id': i + n * ROWS // 2}, None, {'first': f'{n}.{i}', column: value}))
            self.load.settle()
            if n:
                self._ddl(f'ALTER TABLE {KEYSPACE}.shifting DROP c{n - 1}')
                self._has_no(f'c{n - 1}')

    def user_type(self):
        for i in range(ROWS):
            self._shape(i, {'width': i, 'label': f'before {i}'})
        self._ddl(f'ALTER TYPE {KEYSPACE}.shape ADD added text')
        for i in range(ROWS):
            self._shape(i + ROWS // 2, {'width': i, 'label': None, 'added': f'after {i}'})
        self.load.settle()

    def tables(self):
        """A table is dropped, and one of the same name takes its first write at once."""
        table_id = self.load.session.execute(
            f"SELECT id FROM system_schema.tables WHERE keyspace_name = '{KEYSPACE}' AND table_name = 'brief'").one()['id']
        self._rows(BRIEF, 'of the first')
        self.dropped[str(table_id)] = 'brief'
        self._ddl(f'DROP TABLE {KEYSPACE}.brief')
        self._ddl(BRIEF.create().replace('"brief"', f'{KEYSPACE}.brief'))
        self._rows(BRIEF, 'of the second', first=ROWS)

    def toggle(self):
        """What is written while cdc is on must come, whatever happens later; what is written while it is off may or may not."""
        for what, on in [('at first', True), ('meanwhile', False), ('at last', True)]:
            if not on:
                self.caught_up()
            if what != 'at first':
                self._ddl(f'ALTER TABLE {KEYSPACE}.toggled WITH cdc = {str(on).lower()}')
            self.load.optional = not on
            self._rows(TOGGLED, what)
            self.load.optional = False

    def _shape(self, i, value):
        self.load.send(self.load.insert(SHAPED, {'id': i % 3}, {'n': i}, {'whole': value, 'parts': value}))
        if i % 4 == 0:
            self.load.send(self.load.set_part(SHAPED, {'id': i % 3}, {'n': i}, 'parts', 'label', f'set {i}'))

    def _rows(self, table, what, first=0):
        for i in range(ROWS):
            self.load.send(self.load.insert(table, {'id': first + i}, None, {'what': f'{what} {i}'}))
        self.load.settle()

    def _has(self, column, cql_type):
        for tables in (self.ever, self.now):
            tables['shifting'] = with_columns(tables['shifting'], {**tables['shifting'].columns, column: cql_type})

    def _has_no(self, column):
        left = {c: t for c, t in self.now['shifting'].columns.items() if c != column}
        self.now['shifting'] = with_columns(self.now['shifting'], left)

    def _ddl(self, statement):
        self.load.settle()
        self.load.session.execute(statement)
        self.load.forget_statements()


def with_columns(table, columns):
    return dataclasses.replace(table, columns=columns)
