#!/usr/bin/env python3
"""The service with real servers while everything around it breaks: writes never end, and no change is lost.

usage: agent.py --binary target/debug/cassandra-cdc --release 5.0
"""
import random
import time

from common import Wrong, arguments, connect, say, with_servers_directory

import schema_changes
import segments
import topics
import workload
from collector import Collector
from judge import Judge
from load import FILL_BYTES, Load, SteadyLoad
from node.cassandra_node import CassandraNode
from node.kafka_node import KafkaNode
from schema_changes import SchemaChanges
from service import Service
from tables import BULK, KEYSPACE, ODD, TABLES

PREFIX = 'cassandra'
CDC_SPACE_MIB, SMALL_CDC_SPACE_MIB = 48, 8
CATCH_UP_SECONDS = 90
CAPTURED = [t for t in [*TABLES, BULK] if t.cdc]


def main():
    parser = arguments(__doc__)
    parser.add_argument('--release', choices=['4.0', '4.1', '5.0', '6.0'], default='4.1')
    parser.add_argument('--read-to', choices=['synced', 'marked', 'written'], default='synced')
    parser.add_argument('--hours', type=float, default=0, help='repeat all of it, in an order that changes, for so long')
    parser.add_argument('--seed', type=int, default=None, help='of the moments and the order of the faults')
    parser.add_argument('--agent-kills', type=int, default=50)
    parser.add_argument('--rate', type=int, default=250, help='writes a second')
    a = parser.parse_args()
    a.seed = random.randrange(10 ** 6) if a.seed is None else a.seed
    say(f'Cassandra {a.release}, read_to {a.read_to}, seed {a.seed}')
    with_servers_directory(a.keep, lambda directory: live(a, directory))


def live(a, directory):
    end, chance, rounds = time.monotonic() + a.hours * 3600, random.Random(a.seed), 0
    cassandra = CassandraNode(a.release, directory / 'cassandra', cdc_space_mib=CDC_SPACE_MIB, yaml=['auto_snapshot: false'])
    with cassandra, KafkaNode(directory / 'kafka') as kafka:
        service = Service(a.binary, directory / 'agent', cassandra, kafka, {
            'cassandra': {'read_to': a.read_to}, 'spool': {'max_bytes': '1GiB'}})
        try:
            while rounds == 0 or time.monotonic() < end:
                Round(a, chance, cassandra, kafka, service).run(in_order=rounds == 0)
                rounds += 1
        finally:
            service.end()


class Round:
    """All faults once, from an empty keyspace on, and the judgement."""

    def __init__(self, a, chance, cassandra, kafka, service):
        self.a, self.chance, self.cassandra, self.kafka, self.service = a, chance, cassandra, kafka, service
        self.begin, self.first_second = time.monotonic(), int(time.time())
        self.kills, self.ends, self.outages, self.marks, self.filled = [], {}, [], 0, 0

    def run(self, in_order):
        self.connect()
        self.create()
        self.collector = Collector(self.kafka.bootstrap, self.topics)
        self.steady = SteadyLoad(self.session, self.chance.random(), self.a.rate)
        self.extra = Load(self.session)  # the one of this thread
        self.schema_changes = SchemaChanges(self.extra, self.caught_up)
        self.collector.start()
        self.steady.start()
        self.steady.open()
        faults = [self.agent_killed, self.kafka_away, self.topic_deleted, self.cdc_raw_full, self.cassandra_killed, self.schema_changed,
                  self.both_killed]
        if self.a.release != '4.0':  # it always blocks
            faults.append(self.without_blocking)
        if not in_order:
            self.chance.shuffle(faults)
        self.service.start()
        self.service.wait_until_ready()
        self.caught_up()
        for fault in faults:
            begin = time.monotonic()
            said = fault()
            self.service.check_alive()
            say(f'[{time.monotonic() - self.begin:.0f} s] {fault.__name__.replace("_", " ")}: {said} ({time.monotonic() - begin:.0f} s)')
        self.finish()

    # ---- beginning and end

    def connect(self):
        self.cluster = connect(self.cassandra.cql_port, timeout=10)
        self.session = self.cluster.connect()

    def create(self):
        self.session.execute(f'DROP KEYSPACE IF EXISTS {KEYSPACE}')
        workload.create(self.session)
        self.session.execute(BULK.create())
        schema_changes.create(self.session)
        names = [t.name for t in [*CAPTURED, *schema_changes.STARTING]]
        self.topics = [f'{PREFIX}.{KEYSPACE}.{name}' for name in names] + [f'{PREFIX}.dead-letter']
        existing = topics.all_names(self.kafka.bootstrap)
        topics.make(self.kafka.bootstrap, [t for t in self.topics if t not in existing])

    def finish(self):
        self.steady.close()
        self.steady.end()
        # Dropping a table makes the node close its segment and go on to the next.
        self.session.execute(f'DROP TABLE {KEYSPACE}.scratch')
        self.caught_up()
        self.collector.wait_until_quiet(2)
        self.wait_until_cleared()
        if gaps := self.service.gaps():
            raise Wrong(f'gap records: {gaps}')
        took = self.service.stop()
        self.collector.end()
        say(f'[{time.monotonic() - self.begin:.0f} s] SIGTERM: ended with 0 after {took:.1f} s; {len(self.service.lives)} starts in all')
        self.judge()
        self.cluster.shutdown()

    def wait_until_cleared(self):
        """cdc_raw and the spool hold nothing that is finished."""
        deadline = time.monotonic() + CATCH_UP_SECONDS
        while left := segments.finished(self.cassandra) + segments.only_in_spool(self.cassandra, self.service.spool):
            self.service.check_alive()
            if time.monotonic() > deadline:
                raise Wrong(f'{CATCH_UP_SECONDS} s after the last write these finished segments are still there: {left}\n{self.service.tail()}')
            time.sleep(0.5)

    def judge(self):
        tables = {t.name: t for t in CAPTURED} | self.schema_changes.ever
        judge = Judge(self.collector.records, tables, PREFIX, (self.first_second, int(time.time())), self.kills, self.ends,
                      self.service.lives, self.outages)
        judge.check_partitions()
        explained = judge.check_dead_letters(self.schema_changes.dropped)
        judge.split_off_lost(may_publish_lost=self.a.read_to != 'synced')
        judge.check_changes(self.steady.load.attempts + self.extra.attempts, explained)
        judge.check_tables(self.session, [*CAPTURED, *self.schema_changes.now.values()])

    def caught_up(self):
        """Until a row written now is with the consumer; the seconds it took."""
        self.extra.settle()
        self.marks, since = self.marks + 1, len(self.collector.records)
        deadline = time.monotonic() + CATCH_UP_SECONDS
        write = self.extra.bulk(-2, self.marks, 0)
        while not self.extra.send_now(write):
            if time.monotonic() > deadline:
                raise Wrong(f'no write is accepted for {CATCH_UP_SECONDS} s')
            time.sleep(0.1)
        text = f'"key":{{"part":-2}},"rows":[{{"clustering":{{"n":{self.marks}}}'.encode()
        took = self.collector.wait_for(text, since, CATCH_UP_SECONDS)
        if took is None:
            raise Wrong(f"a row did not come within {CATCH_UP_SECONDS} s; /statusz: {self.service.ask('/statusz')}\n{self.service.tail()}")
        return took

    # ---- faults

    def agent_killed(self):
        for _ in range(self.a.agent_kills):
            time.sleep(self.chance.uniform(0.02, 1))
            self.service.kill()
            time.sleep(self.chance.choice([0, 0, 0.3]))
            self.service.start()
        return f'{self.a.agent_kills} times; caught up {self.caught_up():.1f} s after the last'

    def kafka_away(self):
        self.caught_up()
        before, begin = self.service.anonymous_memory(), time.time()
        most = before
        self.kafka.stop()
        end = time.monotonic() + (60 if self.a.hours else 20)
        while time.monotonic() < end:
            time.sleep(0.5)
            self.service.check_alive()
            most = max(most, self.service.anonymous_memory())
        status, text = self.service.ask('/livez')
        if status != 200:
            raise Wrong(f'/livez answers {status} because Kafka is away: {text}')
        self.kafka.start()
        self.outages.append((begin, time.time()))
        took = self.caught_up()
        return f'memory of the agent {before >> 20} MiB before, {most >> 20} at most; caught up {took:.1f} s after it was back'

    def topic_deleted(self):
        self.steady.odd = False
        self.caught_up()
        self.collector.wait_until_quiet(2, topic := f'{PREFIX}.{KEYSPACE}.{ODD.name}')
        begun = time.time()
        topics.delete(self.kafka.bootstrap, topic)
        self.steady.odd = True
        begin = time.monotonic()
        while (answer := self.service.ask('/readyz'))[0] == 200 or topic not in answer[1] + self.service.ask('/statusz')[1]:
            self.service.check_alive()
            if time.monotonic() - begin > CATCH_UP_SECONDS:
                raise Wrong(f"the agent does not say that {topic} is missing: {answer}, {self.service.ask('/statusz')}")
            time.sleep(0.2)
        held = time.monotonic() - begin
        topics.make(self.kafka.bootstrap, [topic])
        self.collector.topic_is_new(topic)
        took = self.caught_up()
        self.outages.append((begun, time.time()))
        return f'named as missing after {held:.1f} s, caught up {took:.1f} s after it was made again'

    def cdc_raw_full(self):
        stopped = self.service.stop()
        written = self.fill(lambda: self.extra.attempts[-1].error == 'WriteFailure', 2 * CDC_SPACE_MIB)
        self.service.start()
        began = time.monotonic()
        while not self.extra.send_now(self.filler(0)):
            self.service.check_alive()
            if time.monotonic() - began > CATCH_UP_SECONDS:
                raise Wrong(f'writes are still rejected {CATCH_UP_SECONDS} s after the agent is back\n{self.service.tail()}')
            time.sleep(0.02)
        accepted = time.monotonic() - began
        return (f'writes rejected after {written >> 20} MiB without the agent (ended in {stopped:.1f} s), accepted {accepted:.1f} s after '
                f'its start, caught up {self.caught_up():.1f} s later')

    def cassandra_killed(self):
        return f'twice, caught up {self.restart_cassandra():.1f} and {self.restart_cassandra():.1f} s after it was back'

    def both_killed(self):
        took = self.restart_cassandra(with_agent=True)
        return f'caught up {took:.1f} s after they were back'

    def restart_cassandra(self, with_agent=False):
        time.sleep(self.chance.uniform(1, 3))
        self.kills.append(time.time())
        self.cassandra.kill()
        if with_agent:
            self.service.kill()
        self.back_up(lambda: self.ends.update(segments.chain_ends(self.cassandra)))
        if with_agent:
            self.service.start()
        return self.caught_up()

    def back_up(self, meanwhile):
        """Starts the node and connects to it again."""
        self.steady.close()
        self.cluster.shutdown()
        meanwhile()
        self.cassandra.start()
        self.connect()
        self.session.set_keyspace(KEYSPACE)
        self.extra.connected(self.session)
        self.steady.open(self.session)

    def schema_changed(self):
        self.schema_changes.run()
        return f'caught up {self.caught_up():.1f} s later'

    def without_blocking(self):
        """Cassandra deletes what the agent has not read yet, and the spool keeps it."""
        self.steady.close()
        self.restart_with(block_writes=False, space_mib=SMALL_CDC_SPACE_MIB)
        self.caught_up()
        for _ in range(6):
            self.service.pause()
            time.sleep(1)
            self.service.resume()
            time.sleep(1)
        self.kafka.pause()
        self.fill(lambda: len(segments.only_in_spool(self.cassandra, self.service.spool)) >= 3, 6 * SMALL_CDC_SPACE_MIB)
        self.kafka.resume()
        took = self.caught_up()
        foreign = self.service.metric('foreign_deletions_total')
        if not foreign:
            raise Wrong('the agent has not noticed that Cassandra deletes segments')
        self.restart_with(block_writes=True, space_mib=CDC_SPACE_MIB)
        return f'{foreign:.0f} segments deleted unread by Cassandra, caught up {took:.1f} s later'

    def restart_with(self, block_writes, space_mib):
        self.steady.close()
        self.service.stop()
        self.cluster.shutdown()
        self.cassandra.stop()
        self.cassandra.configure('cdc_block_writes', str(block_writes).lower())
        self.cassandra.configure('cdc_total_space', f'{space_mib}MiB')
        self.back_up(lambda: None)
        self.service.start()
        self.service.wait_until_ready()

    def fill(self, until, most_mib):
        """Writes rows of FILL_BYTES until that; the bytes written."""
        written = 0
        while not until():
            if written > most_mib << 20:
                raise Wrong(f'{written >> 20} MiB did not lead to what they were to')
            self.extra.send_now(self.filler(FILL_BYTES))
            written += FILL_BYTES
        return written

    def filler(self, size):
        self.filled += 1
        return self.extra.bulk(0, self.filled, size)


if __name__ == '__main__':
    main()
