"""The Debezium connector for Cassandra 4, fed with copies of recorded segments, and measured from its first to its last event."""
import shutil
import time

import kafka_side
import recording
import topics
from node import artifacts
from node.cassandra_node import JVM_OPENS
from node.process import LOGGING, free_port
from process import Measured
from result import Result

START_SECONDS, POLL_SECONDS, QUIET_SECONDS, LIMIT_SECONDS = 120, 0.25, 30, 420
HEAP = '512m'
BEGINS = b'Processing commit log'

SHIPPED = {'key.converter': 'org.apache.kafka.connect.json.JsonConverter', 'value.converter': 'org.apache.kafka.connect.json.JsonConverter',
           'kafka.producer.acks': 'all'}
TUNED = SHIPPED | {
    'key.converter.schemas.enable': 'false', 'value.converter.schemas.enable': 'false', 'offset.flush.interval.ms': 1000,
    'max.offset.flush.size': 1_000_000, 'kafka.producer.linger.ms': 5, 'kafka.producer.compression.type': 'lz4',
    'kafka.producer.batch.size': 131072}


class Sample:
    """How much had been published at a moment, and what it had cost."""

    def __init__(self, events, cpu):
        self.events, self.cpu, self.at = events, cpu, time.monotonic()

    def age(self):
        return time.monotonic() - self.at

    def since(self, other):
        return Result(self.events - other.events, self.cpu - other.cpu, self.at - other.at)


class Debezium:
    def __init__(self, version, cassandra, kafka, directory):
        self.version, self.cassandra, self.kafka, self.directory = version, cassandra, kafka, directory
        self.jar = artifacts.debezium_jar(version)
        self._runs = 0

    def run(self, settings, segments, expected):
        """The whole run, and its second half, in which more of it is compiled."""
        self._runs += 1
        prefix = f'debezium{self._runs}'
        folder = self.directory / prefix
        topic = f'{prefix}.{recording.KEYSPACE}.{recording.TABLE}'
        self._prepare(folder, prefix, settings, segments)
        topics.make(self.kafka.bootstrap, [topic])
        try:
            with Measured(self._command(folder), folder / 'log', cwd=folder) as process:
                return self._measure(process, topic, expected)
        finally:
            topics.delete(self.kafka.bootstrap, topic)
            shutil.rmtree(folder)

    def _measure(self, process, topic, expected):
        self._wait_for_begin(process)
        first = last = half = Sample(0, process.cpu())
        while last.events < expected and last.age() < QUIET_SECONDS and first.age() < LIMIT_SECONDS and process.is_running():
            time.sleep(POLL_SECONDS)
            events = kafka_side.count(self.kafka.bootstrap, topic)
            if events > last.events:
                last = Sample(events, process.cpu())
                half = last if half is first and events >= expected / 2 else half
        if not first.events < half.events < last.events:
            raise RuntimeError(f'Debezium published {last.events} events:\n{process.tail()}')
        whole, second_half = last.since(first), last.since(half)
        whole.peak_mib = second_half.peak_mib = process.peak_mib()
        whole.event_bytes, whole.startup = kafka_side.record_bytes(self.kafka.bootstrap, topic), first.cpu
        second_half.is_part = True
        return whole, second_half

    @staticmethod
    def _wait_for_begin(process):
        while BEGINS not in process.log.read_bytes():
            if not process.is_running() or time.monotonic() - process.begin > START_SECONDS:
                raise RuntimeError(f'Debezium reads no segment:\n{process.tail()}')
            time.sleep(0.05)

    def _prepare(self, folder, prefix, settings, segments):
        for name in ('cdc_raw', 'relocated', 'offsets', 'data'):
            (folder / name).mkdir(parents=True)
        for file in segments.iterdir():
            shutil.copy2(file, folder / 'cdc_raw')
        yaml = '\n'.join(self.cassandra.yaml).replace(str(self.cassandra.cdc_raw), str(folder / 'cdc_raw'))
        (folder / 'cassandra.yaml').write_text(yaml.replace(str(self.cassandra.data), str(folder / 'data')) + '\n')
        (folder / 'logback.xml').write_text(LOGGING)
        (folder / 'application.conf').write_text(
            f'datastax-java-driver.basic {{ contact-points = ["127.0.0.1:{self.cassandra.cql_port}"]\n'
            '  load-balancing-policy.local-datacenter = datacenter1 }\n')
        properties = settings | {
            'connector.class': 'io.debezium.connector.cassandra.Cassandra4Connector', 'topic.prefix': prefix, 'snapshot.mode': 'NEVER',
            'cassandra.node.id': 'n1', 'cassandra.cluster.name': 'rig', 'cassandra.driver.config.file': folder / 'application.conf',
            'cassandra.config': folder / 'cassandra.yaml', 'http.port': free_port(), 'commit.log.relocation.dir': folder / 'relocated',
            'offset.backing.store.dir': folder / 'offsets', 'kafka.producer.bootstrap.servers': self.kafka.bootstrap}
        (folder / 'x.properties').write_text(''.join(f'{name}={value}\n' for name, value in properties.items()))

    def _command(self, folder):
        return [artifacts.java(17), *JVM_OPENS, '-Djava.security.manager=allow', f'-Xmx{HEAP}',
                f'-Dlogback.configurationFile={folder}/logback.xml', f'-Dcassandra.storagedir={folder}/data', '-cp', self.jar,
                'io.debezium.connector.cassandra.CassandraConnectorTask', folder / 'x.properties']
