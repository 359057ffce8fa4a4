#!/usr/bin/env python3
"""The shipped alerts and dashboard with a real Prometheus, a real Kafka and an agent that meets what they warn of.

usage: alerts.py --binary target/debug/cassandra-cdc

There is no Cassandra: recorded segments are laid into a cdc_raw of their own. The rules are those that ship, but an hour takes a minute
(prometheus.shortened), so that what they wait for can be waited for.
"""
import json
import pathlib
import re
import signal
import time
import types

from common import Wrong, arguments, say, with_servers_directory

import topics
from node.kafka_node import KafkaNode
from prometheus import Prometheus, Watch
from recorded import Recorded
from service import Service

ROOT = pathlib.Path(__file__).resolve().parents[2]
RULES, DASHBOARD = ROOT / 'packaging/prometheus/cassandra-cdc.rules.yml', ROOT / 'packaging/grafana/cassandra-cdc.json'
SHOP = [f'cassandra.shop.{table}' for table in ('customers', 'orders', 'inventory')]
DEAD_LETTERS = 'cassandra.dead-letter'
LIMIT_MIB, SPOOL_MIB, FILL, DELETED = 11, 2, 14, 4  # a segment is a MiB: it is full when those are deleted too
# Nothing here leads to these: a hanging disk, a Kafka that refuses again and again, a certificate that ends. promtool has them.
NOT_PROVOKED = {'CassandraCdcHung', 'CassandraCdcProducerRebuilds', 'CassandraCdcCertificateExpires'}
# The agent saves once a second, which by a clock that is sixty times too fast is old already: it may fire.
TOO_FAST = {'CassandraCdcCheckpointOld'}
# What goes on for a while when its cause is gone: counts of the last hour, a gap of the last day, a file that still lies there.
LASTING = {f'CassandraCdc{n}' for n in ('ChangesLost', 'DeadLetters', 'ForeignDeletions', 'SegmentsSetAside')}
NOTHING_TO_SHOW = {'Certificate ends in', 'Damage'}  # brokers without TLS, segments that are whole


def main():
    a = arguments(__doc__).parse_args()
    with_servers_directory(a.keep, lambda directory: live(a.binary, directory))


def live(binary, directory):
    node = Node(directory / 'node')
    with KafkaNode(directory / 'kafka', properties=['auto.create.topics.enable=false']) as kafka:
        agent = Agent(binary.resolve(), directory, node, kafka)
        with Prometheus(directory / 'prometheus', RULES, f'127.0.0.1:{agent.port}') as prometheus:
            try:
                Test(directory, node, kafka, agent, prometheus).run()
            except Wrong as e:
                raise Wrong(f'{e}\nthe agent:\n{agent.tail()}') from e
            finally:
                agent.end()


class Node:
    """What is left of a node when there is none: its cassandra.yaml, its directories, segments that appear."""

    def __init__(self, directory):
        self.directory, self.data, self.cdc_raw = directory, directory / 'data', directory / 'data/cdc_raw'
        self.cdc_raw.mkdir(parents=True)
        self.yaml = directory / 'cassandra.yaml'
        self.yaml.write_text(f'cluster_name: alerts\ncdc_enabled: true\ncdc_raw_directory: {self.cdc_raw}\n'
                             f'commitlog_directory: {self.data}/commitlog\ncdc_total_space: {LIMIT_MIB}MiB\n'
                             'commitlog_segment_size: 1MiB\n')
        self._shop, self._next = Recorded('4.1-demo', 1795257477268), 1795257478000

    def write(self):
        """One more segment with changes."""
        self._next += 1
        return self._shop.lay(self.cdc_raw, self._next)

    def write_misnamed(self):
        """Named as the first of all: it is met before everything else."""
        return self._shop.lay(self.cdc_raw, name_of=1795257470000)

    def write_unknown(self):
        """Changes of a table that nobody knows: the segment with its DDL is not there."""
        return Recorded('4.1-crash', 1795257463366).lay(self.cdc_raw)


class Agent(Service):
    """The service without a node to ask."""

    def __init__(self, binary, directory, node, kafka):
        stand_in = types.SimpleNamespace(directory=directory, data=node.data, cdc_raw=node.cdc_raw, cql_port=0)
        super().__init__(binary, directory / 'agent', stand_in, kafka, {})
        self._settings['cassandra'] = {
            'yaml': str(node.yaml), 'cdc_raw': str(node.cdc_raw), 'schema': str(ROOT / 'fixtures/4.1-demo/schema.json'),
            'cluster': 'alerts', 'host_id': '6f1c0000-0000-4000-8000-000000000001'}
        self.configure({'spool': {'enabled': True, 'max_bytes': f'{SPOOL_MIB}MiB', 'min_free': '1MiB'}})

    @property
    def config(self):
        return self._config

    def wait_until_answers(self):
        deadline = time.monotonic() + 30
        while self.ask('/livez')[0] is None:
            self.check_alive()
            if time.monotonic() > deadline:
                raise Wrong('the agent does not answer')
            time.sleep(0.1)

    def reload(self):
        self._child.send_signal(signal.SIGHUP)


class Test:
    def __init__(self, directory, node, kafka, agent, prometheus):
        self.state, self.node, self.kafka, self.agent = directory / 'agent/state', node, kafka, agent
        self.prometheus, self.watch = prometheus, Watch(prometheus)
        self.begin = time.monotonic()
        self.empty = dict(panels())  # queries that have not given any series yet

    def run(self):
        self.held_and_oddities()
        self.kafka_away()
        self.mended()
        self.cdc_raw_away()
        self.state_broken()
        self.judge()

    def held_and_oddities(self):
        """A topic is missing; a segment has the wrong name; a foreign file lies there; the configuration is broken."""
        self.node.write_misnamed()
        self.node.write()
        (self.node.cdc_raw / 'README').write_text('not a segment')
        topics.make(self.kafka.bootstrap, [DEAD_LETTERS])
        self.agent.start()
        self.agent.wait_until_answers()
        good = self.agent.config.read_text()
        self.agent.config.write_text(good + '\n[surprise]\n')
        self.agent.reload()
        self.watch.fires('Held', 'SegmentsSetAside', 'ConfigRefused')
        self.expect_label('Held', 'reason', 'missing-topic')
        self.look_at_panels()
        self.agent.config.write_text(good)
        self.agent.reload()
        topics.make(self.kafka.bootstrap, SHOP)
        self.watch.ends('Held', 'ConfigRefused', seconds=90)
        self.watch.fires('Problems')
        (self.node.cdc_raw / 'README').unlink()
        self.look_at_panels()
        self.say('held, set aside, refused: noticed; the hold and the configuration: over')

    def kafka_away(self):
        """Kafka stands still while the node writes, and somebody deletes what is not read yet."""
        self.node.write_unknown()
        self.watch.fires('DeadLetters')
        self.kafka.pause()
        try:
            written = []
            for _ in range(FILL):
                written.append(self.node.write())
                self.pass_time(1.5)
            for segment in written[-DELETED:]:
                segment.unlink()
            self.watch.fires('Lagging', 'RawFull', 'RawFilling', 'ForeignDeletions', 'ChangesLost', 'SpoolFilling')
            self.look_at_panels()
            self.watch.fires('KafkaSilent', seconds=120)
        finally:
            self.kafka.resume()
        self.say('Kafka away: noticed, and so is what was deleted and lost meanwhile')

    def mended(self):
        self.watch.ends('Lagging', 'RawFull', 'KafkaSilent', 'SpoolFilling', seconds=120)
        self.watch.until('nothing else fires', 60, lambda firing: firing <= LASTING | TOO_FAST)
        self.look_at_panels()
        self.say('Kafka back: over')

    def cdc_raw_away(self):
        aside = self.node.cdc_raw.with_name('cdc_raw.away')
        self.node.cdc_raw.rename(aside)
        self.watch.fires('NotReady', 'WatchLost')
        aside.rename(self.node.cdc_raw)
        self.watch.ends('NotReady', 'WatchLost')
        self.say('cdc_raw away and back: noticed, over')

    def state_broken(self):
        """Both checkpoints are torn while the agent is down, and a gap record too. Then it is killed again and again."""
        self.agent.kill()
        self.watch.fires('Down')
        for generation in 'ab':
            (self.state / f'checkpoint.{generation}').write_bytes(b'torn')
        (self.state / 'gaps/CommitLog-7-1.log.segment-deleted.-.json').write_text('{')
        self.agent.start()
        self.agent.wait_until_answers()
        self.watch.fires('StateReset', 'GapFilesDamaged')
        self.expect_label('StateReset', 'part', 'checkpoint')
        for _ in range(5):
            self.agent.kill()
            self.agent.start()
            self.agent.wait_until_answers()
            self.pass_time(2)
        self.watch.fires('Restarting')
        self.look_at_panels()
        self.say('down, begun anew, restarted again and again: noticed')

    def judge(self):
        """Every rule evaluates, every one that can be provoked has fired, what it says is rendered, every panel showed something."""
        rules = self.prometheus.rules()
        for rule in rules:
            if rule['health'] != 'ok' or rule.get('lastError'):
                raise Wrong(f"{rule['name']}: {rule['health']}, {rule.get('lastError')}")
        never = {rule['name'] for rule in rules} - self.watch.fired.keys()
        if never - TOO_FAST != NOT_PROVOKED:
            raise Wrong(f'fired, or did not, against what is known: {sorted((never - TOO_FAST) ^ NOT_PROVOKED)}')
        for name, alert in self.watch.fired.items():
            for text in alert['annotations'].values():
                if not text or '<no value>' in text or '<error' in text or '{{' in text:
                    raise Wrong(f'{name} says: {text}')
        blind = {title for title, _ in self.empty} - NOTHING_TO_SHOW
        if blind:
            raise Wrong(f'panels that never showed anything: {sorted(blind)}')
        say(f"{len(self.watch.fired)} of {len(rules)} alerts fired, {len(panels())} queries of panels evaluated; such as:")
        for alert in sorted(self.watch.fired.values(), key=lambda a: a['labels']['alertname'])[:4]:
            say(f"  {alert['labels']['alertname']}: {alert['annotations']['summary']}")

    def look_at_panels(self):
        """Every query of the dashboard, as Grafana would ask it. None may fail; those without series are asked again later."""
        for panel, expression in panels():
            if self.prometheus.query(expression):
                self.empty.pop(panel, None)

    def expect_label(self, name, label, value):
        labels = self.watch.fired[f'CassandraCdc{name}']['labels']
        if labels.get(label) != value:
            raise Wrong(f'{name} fires with {labels}, not {label}={value}')

    def say(self, text):
        say(f'{time.monotonic() - self.begin:4.0f} s  {text}')

    def pass_time(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.agent.check_alive()
            self.watch.look()
            time.sleep(0.3)


def panels():
    """[((title, number of the query), expression)] with Grafana's variables as it would fill them in."""
    found = []
    for panel in json.loads(DASHBOARD.read_text())['panels']:
        for number, target in enumerate(panel.get('targets', [])):
            expression = target['expr'].replace('$__rate_interval', '30s').replace('$instance', '.+')
            if re.search(r'\$', expression):
                raise Wrong(f"{panel['title']}: a variable that nobody fills in: {expression}")
            found.append(((panel['title'], number), expression))
    return found


if __name__ == '__main__':
    main()
