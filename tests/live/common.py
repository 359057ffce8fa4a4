"""What the live tests share: where their packages and servers come from, how they connect, how they end."""
import argparse
import json
import pathlib
import shutil
import signal
import sys
import tempfile
import time

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[2] / 'fixtures'))
from node import artifacts  # noqa: E402

artifacts.with_packages()

from cassandra import cqltypes  # noqa: E402
from cassandra.cluster import EXEC_PROFILE_DEFAULT, Cluster, ExecutionProfile  # noqa: E402
from cassandra.policies import FallthroughRetryPolicy, WhiteListRoundRobinPolicy  # noqa: E402
from cassandra.query import dict_factory  # noqa: E402

# Milliseconds as they are: a datetime would end at year 9999.
cqltypes.DateType.deserialize = staticmethod(lambda data, version: int.from_bytes(data, 'big', signed=True))


class Wrong(Exception):
    """A promise that does not hold."""


def arguments(description):
    """What every live test is told: the agent's binary, and whether its directory stays."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('--binary', required=True, type=_binary)
    parser.add_argument('--keep', action='store_true', help='leave the directory of the servers')
    return parser


def _binary(text):
    path = pathlib.Path(text).resolve()
    if not path.is_file():
        raise argparse.ArgumentTypeError(f'no such file: {path}')
    return path


def with_servers_directory(keep, run):
    """Runs `run(directory)` and says how it ended; the directory stays when it failed, or with `keep`."""
    signal.signal(signal.SIGTERM, lambda *_: sys.exit('terminated'))  # by way of what stops the servers
    begin = time.monotonic()
    directory = pathlib.Path(tempfile.mkdtemp(prefix='cassandra-cdc-live-'))
    try:
        run(directory)
    except BaseException as e:
        print(f'the logs of the servers are in {directory}', file=sys.stderr)
        if not isinstance(e, Wrong):
            raise
        sys.exit(f'FAILED after {time.monotonic() - begin:.0f} s: {e}')
    if keep:
        print(f'kept: {directory}')
    else:
        shutil.rmtree(directory)
    print(f'ok, {time.monotonic() - begin:.0f} s')


def connect(port, timeout=60):
    """To the node on this port alone; nothing is tried twice behind the test's back."""
    profile = ExecutionProfile(WhiteListRoundRobinPolicy(['127.0.0.1']), FallthroughRetryPolicy(), request_timeout=timeout, row_factory=dict_factory)
    return Cluster(['127.0.0.1'], port=port, protocol_version=4, schema_metadata_enabled=False, token_metadata_enabled=False,
                   execution_profiles={EXEC_PROFILE_DEFAULT: profile})


def parsed(message):
    if message.value() is None or message.key() is None:
        raise Wrong(f'{message.topic()} {message.partition()}@{message.offset()}: no key or no value')
    return json.loads(message.value())


def position(event):
    """(segment id, position in it) of an event."""
    segment = event['source']['segment'].removesuffix('.log').rpartition('-')[2]
    return int(segment), event['source']['position']


def nearest(missing, surplus):
    """The first missing change and the event most like it, by what only one of them says."""
    if not missing:
        return f'\n  event: {surplus[0]}'
    first = missing[0]
    others = [s for s in surplus if (s.table, s.key) == (first.table, first.key)]
    text = f'\n  missing: {first.table} {first.key}'
    if not others:
        return text + f' {sorted(first.facts, key=str)}'
    other = min(others, key=lambda s: len(s.facts ^ first.facts))
    return (text + f'\n  only written: {sorted(first.facts - other.facts, key=str)[:6]}'
            f'\n  only in the event most like it: {sorted(other.facts - first.facts, key=str)[:6]}')


def say(text):
    print(text, flush=True)
