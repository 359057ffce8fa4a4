"""`cassandra-cdc check` beside real servers: what they say of themselves, and the lines that come of it."""
import json
import subprocess

from confluent_kafka.admin import AdminClient, NewTopic

from common import Wrong, say

PREFIX = 'checked'
CHECK_SECONDS = 60

# Of each of these topics one setting is a mistake: the setting, and the level, finding and advice of its line.
MISTAKES = [
    ({'cleanup.policy': 'compact'}, 'fail', 'is compacted', '--add-config cleanup.policy=delete'),
    ({'min.insync.replicas': '2'}, 'fail', 'Kafka takes no record', 'start the brokers that are away'),
    ({'retention.ms': '3600000'}, 'warn', 'keeps records for 60 minutes', '--add-config retention.ms='),
    ({'max.message.bytes': '10000'}, 'warn', 'at once, less than kafka.max_record_bytes', '--add-config max.message.bytes='),
    ({'unclean.leader.election.enable': 'true'}, 'warn', 'acknowledged records can be dropped', '--add-config unclean.leader'),
    ({}, 'warn', 'has one replica', 'give it 3 replicas'),
]


def look(binary, directory, cassandra, kafka, keyspace, tables):
    """The tables beyond the mistakes have no topic."""
    topics = [f'{PREFIX}.{keyspace}.{name}' for name in sorted(tables)]
    admin = AdminClient({'bootstrap.servers': kafka.bootstrap})
    made = [NewTopic(name, 1, 1, config=config) for name, (config, *_) in zip(topics, MISTAKES)]
    for future in admin.create_topics(made).values():
        future.result(CHECK_SECONDS)
    lines = run(binary, configured(directory, cassandra, kafka))
    for check, found in [('cassandra.yaml', 'cassandra.yaml'), ('cdc_raw', 'segments'), ('cdc_raw fill', 'Cassandra allows'),
                         ('state', 'held by nobody'), ('spool', 'can be linked there'), ('CQL', 'release 4.1'), ('clock', 'agree'),
                         ('tables', 'to be published'), ('Kafka', kafka.bootstrap)]:
        expect(lines, 'ok', check, found, '')
    for name, (_, level, found, fix) in zip(topics, MISTAKES):
        expect(lines, level, 'topic', f'{name} ', fix, found)
    missing = topics[len(MISTAKES):]
    for name in [*missing, f'{PREFIX}.dead-letter']:
        expect(lines, 'fail', 'topic', f'{name} does not exist', f'kafka-topics.sh --create --topic {name} ')
    say(f'check: {len(lines)} lines, {len(MISTAKES)} topics with a mistake and {len(missing) + 1} that are missing are named')


def configured(directory, cassandra, kafka):
    state = directory / 'check-state'
    state.mkdir(mode=0o700)
    path = directory / 'check.toml'
    path.write_text(f'''[cassandra]
yaml = "{cassandra.directory}/conf/cassandra.yaml"
contact = "127.0.0.1:{cassandra.cql_port}"
[state]
directory = "{state}"
[spool]
enabled = true
min_free = "1MiB"
[kafka]
bootstrap = "{kafka.bootstrap}"
prefix = "{PREFIX}"
[http]
listen = "off"
''')
    return path


def run(binary, config):
    ran = subprocess.run([binary, 'check', '-c', config, '-o', 'json'], capture_output=True, text=True, timeout=CHECK_SECONDS)
    if ran.returncode != 1:  # something fails here
        raise Wrong(f'check ended with {ran.returncode}:\n{ran.stdout}\n{ran.stderr}')
    return json.loads(ran.stdout)


def expect(lines, level, check, found, fix, also=''):
    for line in lines:
        if (line['level'], line['check']) == (level, check) and found in line['found'] and also in line['found'] and fix in (line['fix'] or ''):
            return
    raise Wrong(f'check has no line `{level} {check} {found} {also} -> {fix}`:\n' + '\n'.join(map(json.dumps, lines)))
