"""Cassandra's own reader in a JVM of its own, that reads the segments once each time it is asked."""
import hashlib
import pathlib
import subprocess
import tempfile
import time

import recording
from node import artifacts
from node.cassandra_node import JVM_OPENS, CassandraNode, java_for
from process import Measured
from result import Result

HERE = pathlib.Path(__file__).resolve().parent
QUIET = '<configuration><root level="OFF"/></configuration>'
HEAP = '512m'


class Reader:
    """A JVM with one handler: count, touch, json or publish."""

    def __init__(self, handler, segments, directory, bootstrap):
        self.handler = handler
        directory.mkdir()
        config = directory / 'cassandra.yaml'
        config.write_text('\n'.join(CassandraNode(recording.RELEASE, directory / 'node').yaml))
        (directory / 'logback.xml').write_text(QUIET)
        self._process = Measured(
            [java_for(recording.RELEASE), *JVM_OPENS, f'-Xmx{HEAP}', f'-Dcassandra.config=file://{config}',
             f'-Dlogback.configurationFile={directory}/logback.xml', f'-Dcassandra.storagedir={directory}', '-cp', classpath(), 'Passes',
             handler, recording.KEYSPACE, recording.CREATE_TABLE, recording.TABLE_ID, bootstrap,
             *sorted(segments.glob('*.log'))], directory / 'log', dialogue=True)

    def __enter__(self):
        try:
            if (answer := self._process.answer()) != 'ready':
                raise RuntimeError(f'{self.handler}: {answer}')
        except BaseException:
            self._process.end()
            raise
        self.startup = self._process.cpu()
        return self

    def __exit__(self, *_):
        self._process.end()

    def run(self, topic=''):
        cpu, begin = self._process.cpu(), time.monotonic()
        events, size = map(int, self._process.ask(topic).split())
        wall, cpu = time.monotonic() - begin, self._process.cpu() - cpu
        event_bytes = size / events if self.handler == 'json' else None
        return Result(events, cpu, wall, self._process.peak_mib(), event_bytes, self.startup)


def classpath():
    clients = artifacts.kafka_jars() / f'kafka-clients-{artifacts.KAFKA}.jar'
    jars = f'{artifacts.cassandra_jars(recording.RELEASE)}/*:{clients}'
    return f'{_classes(jars)}:{jars}'


def _classes(jars):
    """Our Java, compiled again when it changes."""
    sources = sorted(HERE.glob('*.java'))
    classes = artifacts.CACHE / f"bench-jvm-{hashlib.sha1(b''.join(s.read_bytes() for s in sources)).hexdigest()[:12]}"
    if not classes.exists():
        with tempfile.TemporaryDirectory(dir=artifacts.CACHE) as scratch:
            made = pathlib.Path(scratch, 'classes')
            subprocess.run(['javac', '--release', '11', '-nowarn', '-proc:none', '-Xlint:none', '-d', made, '-cp', jars, *sources],
                           check=True)
            made.rename(classes)
    return classes
