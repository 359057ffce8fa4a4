"""The segments that all read: full ones of a real Cassandra 4.1, recorded once and kept beside the fetched artifacts."""
import pathlib
import random
import shutil
import tempfile
import time
import uuid

from common import connect, say

from cassandra.query import BatchStatement, BatchType
from node import artifacts
from node.cassandra_node import CassandraNode

RELEASE = '4.1'
KEYSPACE, TABLE = 'bench', 'events'
TABLE_ID = '5078a580-e57e-11f1-ba93-af22a8b58181'  # said, so that the table of any later node is the recorded one
SEGMENTS = 3
PARTITIONS, BATCH, IN_FLIGHT = 100_000, 20, 16
RATE = 6000  # writes a second: the node sets a sync marker every 100 ms, so this keeps sections near 120 KB
FOLDER = artifacts.CACHE / f'bench-{artifacts.CASSANDRA[RELEASE]}-{SEGMENTS}'
SECONDS = 900
WORDS = 'amber basalt cedar delta ember fjord garnet hazel indigo jasper kelp lichen marble nectar onyx pebble quartz'.split()

CREATE_KEYSPACE = f"CREATE KEYSPACE {KEYSPACE} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}"
CREATE_TABLE = f'''CREATE TABLE {KEYSPACE}.{TABLE} (id uuid, ts timestamp, body text, n int, v double, ok boolean, at timestamp,
    tags map<text, text>, PRIMARY KEY (id, ts)) WITH id = {TABLE_ID} AND cdc = true'''
# Batches save round trips; each row is a mutation of its own, because each has a partition of its own.
BATCHES = ['batch_size_warn_threshold: 1MiB', 'batch_size_fail_threshold: 2MiB', 'unlogged_batch_across_partitions_warn_threshold: 1000']


def create_table(session):
    session.execute(CREATE_KEYSPACE)
    session.execute(CREATE_TABLE)


def segments():
    """The folder with the recorded segments and their indexes."""
    if not FOLDER.exists():
        say(f'recording {SEGMENTS} segments of Cassandra {artifacts.CASSANDRA[RELEASE]}, once ...')
        artifacts.CACHE.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=artifacts.CACHE) as scratch:
            record(pathlib.Path(scratch))
    return FOLDER


def record(scratch):
    node = CassandraNode(RELEASE, scratch / 'node', segment_mib=32, sync_ms=1000, heap='1g', yaml=BATCHES)
    with node:
        cluster = connect(node.cql_port)
        try:
            session = cluster.connect()
            create_table(session)
            write_until(session, lambda: len(completed(node.cdc_raw)) >= SEGMENTS)
            kept = scratch / 'segments'
            kept.mkdir()
            for segment in completed(node.cdc_raw)[:SEGMENTS]:
                for file in (segment, index_of(segment)):
                    shutil.copy2(file, kept)
        finally:
            cluster.shutdown()
    kept.rename(FOLDER)


def completed(cdc_raw):
    """Segments that the index calls complete, in the order of the log."""
    whole = [s for s in cdc_raw.glob('CommitLog-*.log') if index_of(s).exists() and 'COMPLETED' in index_of(s).read_text()]
    return sorted(whole, key=lambda s: int(s.stem.rpartition('-')[2]))


def index_of(segment):
    return segment.with_name(f'{segment.stem}_cdc.idx')


def write_until(session, is_enough):
    rng = random.Random(1)
    insert = session.prepare(f'INSERT INTO {KEYSPACE}.{TABLE} (id, ts, body, n, v, ok, at, tags) VALUES (?, ?, ?, ?, ?, ?, ?, ?)')
    ids = [uuid.UUID(int=rng.getrandbits(128), version=4) for _ in range(PARTITIONS)]
    begin, written, under_way = time.monotonic(), 0, []
    while not is_enough():
        rng.shuffle(ids)
        for at in range(0, 10 * RATE, BATCH):
            batch = BatchStatement(BatchType.UNLOGGED)
            for id in ids[at:at + BATCH]:
                batch.add(insert, row(rng, id, written))
                written += 1
            under_way.append(session.execute_async(batch))
            if len(under_way) >= IN_FLIGHT:
                under_way.pop(0).result()
            time.sleep(max(0, begin + written / RATE - time.monotonic()))
        while under_way:
            under_way.pop(0).result()
        if time.monotonic() - begin > SECONDS:
            raise RuntimeError(f'no {SEGMENTS} segments after {written} writes')


def row(rng, id, number):
    now = 1_700_000_000_000 + number
    body = ' '.join(rng.choices(WORDS, k=9)).ljust(52)[:68]
    tags = {'source': rng.choice(WORDS), 'region': f'r{number % 50:02}'}
    return id, now, body, number % 1_000_000, rng.random(), number % 2 == 0, now + 1, tags
