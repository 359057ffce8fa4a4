"""Prints every change of a topic whose values are Protobuf, in the lines of changes.py.

    pip install confluent-kafka grpcio-tools
    python3 -m grpc_tools.protoc -I ../../crates/event/proto --python_out=. cassandra_cdc.proto
    python3 protobuf.py localhost:9092 cassandra.shop.orders

Turns each event into what the JSON form has, member by member, and reads the topic to its end. Two things look otherwise
than there: a float has the digits of a double, a date that Python's calendar lacks is its number of days since 1970.
"""
import base64
import datetime
import decimal
import ipaddress
import math
import sys
import uuid

import changes
import table
from cassandra_cdc_pb2 import Event


def event(message):
    found = {'keyspace': message.keyspace, 'table': message.table, 'key': named(message.key)}
    if message.HasField('partition_delete'):
        found['partition_delete'] = deletion(message.partition_delete)
    if message.HasField('static'):
        found['static'] = cells(message.static.cells)
    found['rows'] = [row(r) for r in message.rows]
    found['range_deletes'] = [{**{side: bound(getattr(r, side)) for side in ('start', 'end') if r.HasField(side)}, **deletion(r)}
                              for r in message.range_deletes]
    return found


def row(message):
    found = {'clustering': named(message.clustering), 'cells': cells(message.cells)}
    if message.HasField('liveness'):
        found['liveness'] = timed(message.liveness)
    if message.HasField('delete'):
        found['delete'] = deletion(message.delete)
    return found


def cells(messages):
    found = {}
    for message in messages:
        cell = found[message.name] = {}
        if message.HasField('overwrite'):
            cell['overwrite'] = deletion(message.overwrite)
        if message.elements:
            cell['elements'] = [element(e) for e in message.elements]
        # A column of several cells has times in its elements alone.
        if message.HasField('value') or message.HasField('deleted'):
            cell.update(timed(message))
    return found


def element(message):
    path = {'path': value(message.path)} if message.HasField('path') else {}
    return {**path, **timed(message)}


def timed(message):
    """`ts`, and what is there of value, deletion and expiry: their presence counts, not their value."""
    found = {'ts': message.ts}
    fields = message.DESCRIPTOR.fields_by_name
    for name in ('ttl', 'expires', 'deleted'):
        if name in fields and message.HasField(name):
            found[name] = getattr(message, name)
    if 'value' in fields and message.HasField('value'):
        found['value'] = value(message.value)
    return found


def deletion(message):
    return {'ts': message.ts, 'at': message.at}


def bound(message):
    return {'clustering': named(message.clustering), 'inclusive': message.inclusive}


def named(messages):
    return {m.name: value(m.value) for m in messages}


def value(message):
    kind = message.WhichOneof('kind')
    return VALUES.get(kind, lambda plain: plain)(getattr(message, kind))


def signed(data):
    return int.from_bytes(data, 'big', signed=True)


def exact(message):
    unscaled = signed(message.unscaled)
    # From its digits: arithmetic would round to 28 of them.
    return str(decimal.Decimal((unscaled < 0, [int(d) for d in str(abs(unscaled))], -message.scale)))


def real(number):
    return number if math.isfinite(number) else {'inf': 'Infinity', '-inf': '-Infinity'}.get(str(number), 'NaN')


def date(days):
    try:
        return str(datetime.date(1970, 1, 1) + datetime.timedelta(days))
    except OverflowError:  # Python has no years before 1 and behind 9999
        return days


def time(nanos):
    seconds, nanos = divmod(nanos, 1_000_000_000)
    return f'{seconds // 3600:02}:{seconds // 60 % 60:02}:{seconds % 60:02}.{nanos:09}'


# What differs from the number, text or boolean that protobuf gives.
VALUES = {
    'null': lambda _: None,
    'empty': lambda _: {'$empty': True},
    'raw': lambda data: {'$base64': base64.b64encode(data).decode()},
    'blob': lambda data: base64.b64encode(data).decode(),
    'float': real,
    'double': real,
    'uuid': lambda data: str(uuid.UUID(bytes=data)),
    'date': date,
    'time': time,
    'inet': lambda data: str(ipaddress.ip_address(data)),
    'varint': lambda data: str(signed(data)),
    'decimal': exact,
    'duration': lambda d: {'months': d.months, 'days': d.days, 'nanos': d.nanos},
    'list': lambda values: [value(v) for v in values.values],
    'map': lambda entries: [[value(e.key), value(e.value)] for e in entries.entries],
    'udt': lambda fields: named(fields.fields),
    'floats': lambda floats: [real(f) for f in floats.values],
    'chunk': lambda c: {'$chunk': c.chunk, '$chunks': c.chunks, '$base64': base64.b64encode(c.bytes).decode()},
}


if __name__ == '__main__':
    for data in table.read(sys.argv[1], sys.argv[2:], Event.FromString):
        for line in changes.of_event(event(data)):
            print(line)
