#!/usr/bin/env python3
"""The examples of docs/examples, each run against a real Kafka, and everything that they print compared.

`replay` publishes the recorded shop (fixtures/4.1-demo) twice, as two replicas would; a real Cassandra executes the same
statements and says by SELECT what the rebuilt tables must be.

usage: consumers.py --binary target/debug/cassandra-cdc
"""
import collections
import concurrent.futures
import datetime
import gzip
import json
import pathlib
import re
import shutil
import subprocess
import sys
import time
import uuid

from common import Wrong, arguments, connect, say, with_servers_directory

import topics
from node import artifacts
from node.cassandra_node import CassandraNode
from node.kafka_node import KafkaNode
from tables import EPOCH

ROOT = pathlib.Path(__file__).resolve().parents[2]
EXAMPLES, GUIDE = ROOT / 'docs/examples', ROOT / 'docs/consumers.md'
SHOP, ACTS = ROOT / 'fixtures/4.1-demo', ROOT / 'fixtures/4.1-mutations'
HOST = json.loads((SHOP / 'node.json').read_text())['host_id']
REPLICAS = [str(uuid.UUID(int=n)) for n in (1, 2)]
TABLES = ['customers', 'orders', 'inventory']
TOPICS = [f'cassandra.shop.{t}' for t in TABLES]
SECONDS = 300  # for a program that hangs
JAVA = ['-Xmx384m', '-XX:+UseSerialGC', '-XX:TieredStopAtLevel=1']


def main():
    a = arguments(__doc__).parse_args()
    if not shutil.which('kcat'):
        raise SystemExit('kcat is missing: apt-get install kcat')
    with_servers_directory(a.keep, lambda directory: live(a.binary, directory))


def live(binary, directory):
    with concurrent.futures.ThreadPoolExecutor() as pool, KafkaNode(directory / 'kafka') as kafka:
        tables = pool.submit(selected, directory)
        Test(binary, directory, kafka).run(tables)


class Test:
    def __init__(self, binary, directory, kafka):
        self.binary, self.directory, self.kafka = binary, directory, kafka
        self.segments = unpacked(SHOP, directory / 'segments')

    def run(self, tables):
        for host in REPLICAS:
            self.replay('--schema', SHOP / 'schema.json', '--host-id', host)
        records = topics.read_all(self.kafka.bootstrap, TOPICS)
        self.events = [json.loads(m.value()) for messages in records.values() for m in messages]
        copies = collections.Counter(e['digest'] for e in self.events)
        if set(copies.values()) != {len(REPLICAS)} or len(copies) < 80:
            raise Wrong(f'not two copies of some 80 changes: {copies.most_common()}')
        self.check_guide()
        self.check_kcat(records)
        self.check_printers()
        self.check_protobuf()
        self.check_troubles()
        self.check_flink(tables)
        self.check_table(tables)

    def replay(self, *arguments, ends=(0,)):
        return run([self.binary, 'replay', '--bootstrap', self.kafka.bootstrap, '--cluster', 'shop', '--create-topics', '3,1',
                    *arguments, self.segments], ends=ends)

    def check_guide(self):
        """Each event that docs/consumers.md shows is a recorded one, maybe without some members."""
        shown = [json.loads(block) for block in re.findall(r'```json\n(.*?)```', GUIDE.read_text(), re.S)]
        recorded = [json.loads(line) for case in (SHOP, ACTS) for line in self.recorded(case)]
        strange = [e for e in shown if not any(all(r.get(name) == value for name, value in e.items()) for r in recorded)]
        if strange or len(shown) < 10:
            raise Wrong(f'{GUIDE.name} shows {len(shown)} events; these were not recorded: {strange}')
        say(f'{GUIDE.name}: {len(shown)} events, all of them recorded ones')

    def recorded(self, case):
        segments = self.segments if case == SHOP else unpacked(case, self.directory / case.name)
        return lines([self.binary, 'replay', '--sink', 'stdout', '--cluster', 'shop', '--host-id', HOST, '--schema', case / 'schema.json', segments])

    def check_kcat(self, records):
        printed = [line for t in TOPICS for line in lines(['sh', EXAMPLES / 'kcat.sh', self.kafka.bootstrap, t])]
        wanted = [f'{m.partition()}\t{m.offset()}\t{m.key().decode()}\t{m.value().decode()}' for ms in records.values() for m in ms]
        same('kcat.sh', printed, wanted)

    def check_printers(self):
        """Each change of both copies once."""
        once = {e['digest']: e for e in self.events}.values()
        self.wanted = [line for event in once for line in said(event)]
        same('consumer.py', lines(self.consumer('--until-end')), self.wanted)
        quiet = self.directory / 'quiet.xml'
        quiet.write_text('<configuration/>')
        same('Consumer.java', lines([artifacts.java(17), *JAVA, f'-Dlogback.configurationFile={quiet}', '-cp', f'{artifacts.kafka_jars()}/*',
                                     EXAMPLES / 'Consumer.java', self.kafka.bootstrap, 'shop', 'until-end']), self.wanted)

    def check_protobuf(self):
        """One copy as Protobuf says what the JSON says."""
        self.replay('--schema', SHOP / 'schema.json', '--format', 'protobuf', '--topic-prefix', 'binary')
        python, compiled = artifacts.protobuf_python(), self.directory / 'compiled'
        compiled.mkdir()
        run([python, '-m', 'grpc_tools.protoc', f'-I{ROOT}/crates/event/proto', f'--python_out={compiled}', 'cassandra_cdc.proto'])
        printed = lines(['env', f'PYTHONPATH={compiled}', 'PYTHONDONTWRITEBYTECODE=1', python, EXAMPLES / 'protobuf.py', self.kafka.bootstrap,
                         *(f'binary.shop.{t}' for t in TABLES)])
        same('protobuf.py', printed, self.wanted)

    def check_troubles(self):
        """A table that is not in the schema, and a damaged segment: dead letters and gap records are printed."""
        schema = json.loads((SHOP / 'schema.json').read_text())
        schema['tables'] = [t for t in schema['tables'] if t['table_name'] != 'orders']
        partial = self.directory / 'partial.json'
        partial.write_text(json.dumps(schema))
        damaged = sorted(self.segments.glob('*.log'))[0]
        whole = damaged.read_bytes()
        at = whole.index('7 Mill Road'.encode())
        damaged.write_bytes(whole[:at] + b'8' + whole[at + 1:])
        self.replay('--schema', partial, '--topic-prefix', 'odd', '--salvage', ends=(65,))
        damaged.write_bytes(whole)
        letters = [json.loads(m.value()) for ms in topics.read_all(self.kafka.bootstrap, ['odd.dead-letter']).values() for m in ms]
        kinds = collections.Counter(e.get('reason') or e.get('gap') for e in letters)
        if set(kinds) != {'unknown-table', 'damaged-bytes'}:
            raise Wrong(f'the dead-letter topic holds {kinds}')
        wanted = [f"GAP\t{e['gap']}\t{e['source']['segment']} from {e['from']} to {e['to']}" if 'gap' in e
                  else f"DEAD LETTER\t{e['reason']}\t{e['id']}" for e in letters]
        printed = lines(self.consumer('--prefix', 'odd', '--group', 'odd', '--until-end'))
        same('consumer.py, dead letters', [line for line in printed if line.startswith(('GAP', 'DEAD'))], wanted)

    def check_flink(self, tables):
        text = (EXAMPLES / 'flink.sql').read_text()
        script = self.directory / 'flink.sql'
        script.write_text(text.replace("'localhost:9092'", f"'{self.kafka.bootstrap}'"))
        opened = [f'--add-opens=java.base/java.{p}=ALL-UNNAMED' for p in ('lang', 'util', 'net', 'nio')]
        printed = lines([artifacts.java(17), *JAVA, *opened, '-cp', f'{artifacts.flink_jars()}/*',
                         pathlib.Path(__file__).with_name('FlinkSql.java'), script])
        wanted = [f"+I[{r['customer']}, {r['number']}, {r['status']}]" for r in tables.result()['orders']]
        same('flink.sql', printed, wanted)

    def check_table(self, tables):
        # TTLs are judged at the moment of the recording, as the server did that executed the statements just now.
        moment = max(at for e in self.events for at in seconds(e))
        printed = lines([sys.executable, EXAMPLES / 'table.py', self.kafka.bootstrap, *TOPICS, '--at', str(moment)])
        wanted = [json.dumps({'table': f'shop.{t}', 'row': row}, sort_keys=True) for t, rows in tables.result().items() for row in rows]
        same('table.py', [json.dumps(json.loads(line), sort_keys=True) for line in printed], wanted)

    def consumer(self, *arguments):
        return [sys.executable, EXAMPLES / 'consumer.py', self.kafka.bootstrap, 'shop', *arguments]


def said(event):
    """The lines that an event leads to, found as every object that has a write time, and named by where it stands."""
    head = f"{event['keyspace']}.{event['table']}\t{compact(event['key'])}"
    for path, o in timed(event):
        yield f'{head}\t{where(event, path)}\t{what(event, path, o)}\t{o["ts"]}'


def timed(o, path=()):
    inside = o.items() if isinstance(o, dict) else enumerate(o) if isinstance(o, list) else ()
    if isinstance(o, dict) and 'ts' in o:
        yield path, o
    for name, value in inside:
        if name not in ('value', 'shards', 'key', 'source'):
            yield from timed(value, (*path, name))


def where(event, path):
    if path[0] == 'static':
        return 'static'
    return compact(event['rows'][path[1]].get('clustering', {})) if path[0] == 'rows' else '-'


def what(event, path, o):
    fixed = {'partition_delete': 'delete partition', 'delete': 'delete row', 'liveness': 'insert'}
    if path[-1] in fixed and len(path) in (1, 3):
        return fixed[path[-1]]
    if path[0] == 'range_deletes':
        sides = [o.get(side) for side in ('start', 'end')]
        told = [f"{compact(s['clustering'])} {'included' if s['inclusive'] else 'excluded'}" if s else 'edge' for s in sides]
        return f'delete from {told[0]} to {told[1]}'
    column = path[1] if path[0] == 'static' else path[3]
    if path[-1] == 'overwrite':
        return f'clear {column}'
    name = f"{column}[{compact(o['path'])}]" if 'elements' in path else column
    return f'delete {name}' if 'deleted' in o else f"set {name} = {compact(o['value'])}" if 'value' in o else f'add {name}'


def seconds(o):
    """Every moment, in seconds, at which something was deleted."""
    for name, value in o.items() if isinstance(o, dict) else enumerate(o) if isinstance(o, list) else ():
        if name in ('at', 'deleted'):
            yield value
        yield from seconds(value)


def selected(directory):
    """{table: rows} of a Cassandra that executed the statements of the recording; columns without a value left out."""
    with CassandraNode('4.1', directory / 'cassandra') as cassandra:
        cluster = connect(cassandra.cql_port)
        try:
            session = cluster.connect()
            for statement in statements(gzip.open(SHOP / 'statements.cql.gz', 'rt').read()):
                session.execute(statement)
            return {t: [plain(row) for row in session.execute(f'SELECT * FROM shop.{t}')] for t in TABLES}
        finally:
            cluster.shutdown()


def statements(text):
    """Apart at the semicolons that end a line; those inside a batch do not end it."""
    found = ''
    for line in text.splitlines():
        found += line + '\n'
        if line.endswith(';') and ('BEGIN' not in found or line == 'APPLY BATCH;'):
            yield found
            found = ''


def plain(row):
    """As the contract's JSON has it."""
    def of(value):
        if hasattr(value, '_asdict'):
            return {name: of(v) for name, v in value._asdict().items()}
        if hasattr(value, 'items'):
            return {key: of(v) for key, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [of(v) for v in value]
        if isinstance(value, (int, str, type(None))):
            return value
        if isinstance(value, datetime.datetime):
            return (value - EPOCH) // datetime.timedelta(milliseconds=1)
        return sorted(value) if hasattr(value, '__iter__') else str(value)
    return {name: of(value) for name, value in row.items() if value is not None}


def unpacked(case, folder):
    folder.mkdir()
    for source in (case / 'segments').iterdir():
        if source.suffix == '.gz':
            (folder / source.stem).write_bytes(gzip.decompress(source.read_bytes()))
        else:
            shutil.copy(source, folder)
    return folder


def compact(value):
    return json.dumps(value, separators=(',', ':'), ensure_ascii=False)


def same(name, printed, wanted):
    """Every line, as often as it must be there, in any order: partitions have none among them."""
    printed, wanted = collections.Counter(printed), collections.Counter(wanted)
    if printed != wanted or not wanted:
        missing, surplus = list((wanted - printed).elements()), list((printed - wanted).elements())
        raise Wrong(f'{name}: {len(missing)} lines missing, {len(surplus)} wrong or too many\n  missing: {missing[:3]}\n  surplus: {surplus[:3]}')
    say(f'{name}: {sum(wanted.values())} lines, all of them right')


def lines(command):
    return run(command).stdout.splitlines()


def run(command, ends=(0,)):
    begin = time.monotonic()
    try:
        ran = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired as e:
        raise Wrong(f'{command} is not done after {SECONDS} s:\n{(e.stderr or b"")[-2000:]}') from e
    if ran.returncode not in ends:
        raise Wrong(f'{command} ended with {ran.returncode} after {time.monotonic() - begin:.0f} s:\n{ran.stdout[-1000:]}\n{ran.stderr[-3000:]}')
    return ran


if __name__ == '__main__':
    main()
