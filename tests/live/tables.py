"""The tables of the test, and each value in one plain form for comparing: from CQL and from an event's JSON alike."""
import base64
import dataclasses
import datetime
import decimal
import uuid

EPOCH = datetime.datetime(1970, 1, 1)


@dataclasses.dataclass(frozen=True, eq=False)
class Table:
    name: str
    key: dict  # column -> type, in order; so are the others
    clustering: dict
    columns: dict
    statics: dict = dataclasses.field(default_factory=dict)
    descending: tuple = ()
    cdc: bool = True
    server_time: bool = False  # the server chose the write timestamps (LWT)

    def type_of(self, column):
        return {**self.key, **self.clustering, **self.columns, **self.statics}[column]

    def create(self):
        columns = [f'{quote(c)} {t}' for c, t in {**self.key, **self.clustering, **self.columns}.items()]
        columns += [f'{quote(c)} {t} static' for c, t in self.statics.items()]
        key = f"({', '.join(map(quote, self.key))})" + ''.join(f', {quote(c)}' for c in self.clustering)
        order = [f"{quote(c)} {'DESC' if c in self.descending else 'ASC'}" for c in self.clustering]
        options = ([f"CLUSTERING ORDER BY ({', '.join(order)})"] if order else []) + [f'cdc = {str(self.cdc).lower()}']
        return f"CREATE TABLE {quote(self.name)} ({', '.join(columns)}, PRIMARY KEY ({key})) WITH {' AND '.join(options)}"


def quote(name):
    return f'"{name}"'


# All fields that a type has at any time; one that a value lacks is null in it.
USER_TYPES = {'place': {'street': 'text', 'nr': 'int', 'zip': 'text'}, 'shape': {'width': 'int', 'label': 'text', 'added': 'text'}}
KEYSPACE = 'live'

VISITS = Table('visits', {'site': 'int'}, {'at': 'bigint'}, {'page': 'text', 'ms': 'double', 'flags': 'set<int>'}, descending=('at',))
MEMBERS = Table('members', {'name': 'text'}, {}, {'age': 'int', 'email': 'text', 'tags': 'set<text>', 'scores': 'map<text, int>',
                                                   'notes': 'list<text>', 'home': 'frozen<place>', 'spot': 'place'})
LEDGER = Table('ledger', {'org': 'text', 'year': 'int', 'part': 'uuid'}, {'account': 'text', 'seq': 'int'},
               {'amount': 'decimal', 'memo': 'text', 'ok': 'boolean', 'paid': 'timestamp', 'proof': 'blob'},
               {'total': 'bigint', 'owner': 'text', 'labels': 'set<text>'}, descending=('seq',))
HITS = Table('hits', {'page': 'text'}, {'day': 'int'}, {'n': 'counter', 'm': 'counter'}, server_time=True)
CLAIMS = Table('claims', {'id': 'bigint'}, {}, {'owner': 'text'}, server_time=True)
ODD = Table('Odd', {'Key': 'timestamp'}, {'select': 'text'}, {'größe': 'int'})
AUDIT = Table('audit', {'name': 'text'}, {}, {'what': 'text'}, cdc=False)  # its key is the one of `members`
BULK = Table('bulk', {'part': 'int'}, {'n': 'int'}, {'data': 'blob'})  # rows that nothing changes again
TABLES = [VISITS, MEMBERS, LEDGER, HITS, CLAIMS, ODD, AUDIT]


def plain(value, cql_type):
    """A value from the driver, or one bound to a statement, as the contract's JSON says it, but hashable."""
    if value is None:
        return None
    kind, inside = split(cql_type)
    if kind == 'frozen':
        return plain(value, inside[0])
    if kind in ('set', 'list'):
        values = [plain(v, inside[0]) for v in value]
        return tuple(sorted(values)) if kind == 'set' else tuple(values)
    if kind == 'map':
        return tuple(sorted((plain(k, inside[0]), plain(v, inside[1])) for k, v in value.items()))
    if kind in USER_TYPES:
        return tuple((f, value.get(f) if isinstance(value, dict) else getattr(value, f, None)) for f in USER_TYPES[kind])
    if kind == 'decimal':
        return decimal.Decimal(value).as_tuple()  # 1.0 and 1.00 are two values
    if kind == 'uuid':
        return str(value)
    if kind == 'blob':
        return bytes(value)
    if kind == 'timestamp' and isinstance(value, datetime.datetime):
        return (value - EPOCH) // datetime.timedelta(milliseconds=1)
    return value


def from_json(value, cql_type):
    """The same form from an event."""
    if value is None:
        return None
    kind, inside = split(cql_type)
    if kind == 'frozen':
        return from_json(value, inside[0])
    if kind in USER_TYPES:
        return tuple((f, value.get(f)) for f in USER_TYPES[kind])
    if kind == 'blob':
        return base64.b64decode(value, validate=True)
    if kind == 'uuid':
        return str(uuid.UUID(value))
    if kind == 'decimal':
        return decimal.Decimal(value).as_tuple()
    wanted = {'int': int, 'bigint': int, 'timestamp': int, 'double': (int, float), 'boolean': bool, 'text': str, 'timeuuid': str}[kind]
    if not isinstance(value, wanted) or (isinstance(value, bool) and kind != 'boolean'):
        raise ValueError(f'{value!r} is no {kind}')
    return float(value) if kind == 'double' else value


def split(cql_type):
    kind, _, inside = cql_type.partition('<')
    return kind, [t.strip() for t in inside[:-1].split(',')]


def is_collection(cql_type):
    """Whether the value is kept in cells of its own, one an element."""
    return split(cql_type)[0] in ('set', 'list', 'map', *USER_TYPES)


def is_user_value(value):
    """Whether this stands for a value of a user type: all its names are fields of one."""
    return isinstance(value, dict) and bool(value) and any(value.keys() <= fields.keys() for fields in USER_TYPES.values())
