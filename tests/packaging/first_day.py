"""The commands of docs/first-day.md, as they stand there and in their order, on a booted Debian with a real Kafka.

A comment before a block says what happens around it: `<!-- test: NAME -->` is a step of `Day`, and `ends with N` its status.
The node is recorded: it answers no CQL, so what the guide asks it over CQL is typed instead (`differences`).
"""
import argparse
import json
import pathlib
import re
import tempfile
import time

from machine import ROOT, Machine, wait_until
from node.kafka_node import KafkaNode
from node.process import free_port
from stand_in import CONFIG, FIXTURE, SEGMENTS, check, link_segment, make_node, next_version

GUIDE = ROOT / 'docs/first-day.md'
BLOCK = re.compile(r'(?:^<!-- test: ([^>]*) -->\n)?^```(\w*)\n(.*?)^```$', re.MULTILINE | re.DOTALL)
STATUS = 'runuser -u cassandra -- cassandra-cdc status'
# What a reader must see, by the beginning of the block: of each command that shows something.
SHOWN = {'apt-get install -y ./cassandra-cdc_0.1.0-1': 'is installed, and not enabled', 'systemctl enable': 'active (running)',
         'runuser -u cassandra -- cassandra-cdc config validate': 'the configuration can be used',
         'kcat': '"table":"orders"', 'apt-get install -y -o': '\nactive\n',
         'apt-get remove': 'nobody empties cdc_raw now', 'apt-get purge': 'the state is gone'}


class Day:
    def __init__(self, machine, kafka):
        self.machine, self.kafka, self.port = machine, kafka, free_port()

    def configure(self):
        self.machine.put(FIXTURE / 'schema.json', '/etc/cassandra-cdc/schema.json')

    def write(self):
        link_segment(self.machine, SEGMENTS[0])
        wait_until('the segment is deleted', lambda: not any(self.machine.path('/var/lib/cassandra/cdc_raw').iterdir()))

    def stop_kafka(self):
        self.kafka.stop()
        link_segment(self.machine, SEGMENTS[1])
        wait_until('it is not ready', lambda: 'ready    no' in self.status(), 150)

    def start_kafka(self):
        self.kafka.start()
        wait_until('it is ready again', lambda: 'ready    yes' in self.status(), 150)

    def status(self):
        return self.machine.run(STATUS, check=False)

    def differences(self):
        node = json.loads((FIXTURE / 'node.json').read_text())
        typed = {'cluster': node['cluster_name'], 'host_id': node['host_id'], 'schema': '/etc/cassandra-cdc/schema.json',
                 'listen': f'127.0.0.1:{self.port}'}
        return {'kafka-1:9092': self.kafka.bootstrap,
                's|^#contact = .*|contact = "127.0.0.1:9042"|': '; '.join(f's|^#{k} = .*|{k} = "{v}"|' for k, v in typed.items())}

    def block(self, note, script):
        step, _, end = (note or '').partition('; ')
        if step:
            getattr(self, step.replace(' ', '_').lower())()
        for guide, here in self.differences().items():
            script = script.replace(guide, here)
        said = self.machine.run(f'cd /root\n{script}', status=int(end.removeprefix('ends with ') or 0))
        progress = re.compile(r'^\(Reading database .*\n', re.MULTILINE)
        print(f'\n$ {script}{progress.sub("", said)}', flush=True)
        for begin, shown in SHOWN.items():
            if script.startswith(begin):
                check(shown in said, f'{shown!r} does not show')


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument('deb', type=pathlib.Path)
    deb = arguments.parse_args().deb
    blocks = BLOCK.findall(GUIDE.read_text())
    check(len(blocks) >= 12 and {language for _, language, _ in blocks} == {'sh'}, f'{len(blocks)} blocks of the guide')
    unseen = [begin for begin in SHOWN if not any(script.startswith(begin) for _, _, script in blocks)]
    check(not unseen, f'no block of the guide begins with {unseen}')
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix='cassandra-cdc-day-') as directory:
        directory = pathlib.Path(directory)
        with Machine(directory) as machine, KafkaNode(directory / 'kafka') as kafka:
            machine.put(deb, '/root/cassandra-cdc_0.1.0-1_amd64.deb')
            machine.put(next_version(deb, directory), '/root/cassandra-cdc_0.1.0-2_amd64.deb')
            make_node(machine)
            machine.boot()
            day = Day(machine, kafka)
            for note, _, script in blocks:
                day.block(note, script)
            check(not machine.path(CONFIG).exists(), 'purged, and still configured')
    print(f'ok, {len(blocks)} blocks of the guide, {time.monotonic() - begin:.0f} s')


main()
