"""The agent over the same segments: `replay`, with its defaults, one process for each run."""
import re

import kafka_side
import recording
import topics
from common import Wrong
from process import Measured
from result import Result

# The schema decides what is kept, and a change that is too old is left out only once all of it is decoded.
DECODE_ONLY = ('--from', '2100-01-01T00:00:00Z')
ACCOUNT = re.compile(r'= (\d+) published \(\d+ events\) \+ \d+ not CDC \+ (\d+) filtered \+ (\d+) undecodable; (\d+) damaged')
SECONDS = 300


class Ours:
    def __init__(self, binary, schema, host_id, segments, directory, bootstrap):
        self.binary, self.segments, self.bootstrap = binary, segments, bootstrap
        self.always = ['--schema', schema, '--cluster', 'rig', '--host-id', host_id]
        self.log = directory / 'ours.log'
        self._runs = 0

    def publish(self, name):
        self._runs += 1
        prefix = f'ours{self._runs}'
        topic = f'{prefix}.{recording.KEYSPACE}.{recording.TABLE}'
        topics.make(self.bootstrap, [topic])
        try:
            result = self._replay('--format', name, '--bootstrap', self.bootstrap, '--topic-prefix', prefix)
            in_kafka = kafka_side.count(self.bootstrap, topic)
            if in_kafka != result.events:
                raise Wrong(f'ours says {result.events} events, Kafka has {in_kafka}')
            result.event_bytes = kafka_side.record_bytes(self.bootstrap, topic)
            return result
        finally:
            topics.delete(self.bootstrap, topic)

    def encode(self, name):
        return self._replay('--dry-run', '--bootstrap', 'none', '--format', name)

    def decode(self):
        return self._replay('--dry-run', '--bootstrap', 'none', *DECODE_ONLY)

    def _replay(self, *options):
        with Measured([self.binary, 'replay', *self.always, *options, self.segments], self.log) as process:
            cpu, wall = process.wait(SECONDS)
            account = ACCOUNT.search(process.tail())
            if not account:
                raise Wrong(f'ours gives no account: {process.tail()}')
            published, filtered, undecodable, damaged = map(int, account.groups())
            if undecodable or damaged:
                raise Wrong(f'ours is not whole: {account[0]}')
            return Result(published + filtered, cpu, wall, process.peak_mib(), anonymous_mib=process.peak_mib('RssAnon'))
