#!/usr/bin/env python3
"""TLS and logins against a real Kafka 4.1.1 and a real Cassandra 4.1: every right way gets all through, every wrong one
is refused with words that help, and none hangs.

usage: security.py --binary target/debug/cassandra-cdc
"""
import concurrent.futures
import gzip
import json
import os
import pathlib
import ssl
import subprocess
import time

from common import Wrong, arguments, connect, say, with_servers_directory

from cassandra.auth import PlainTextAuthProvider
import topics
from certificates import HERE, STORE_PASSWORD, Authority
from node.cassandra_node import PASSWORDS_YAML, CassandraNode, client_tls_yaml
from node.kafka_node import KafkaNode, Listener

CASE = pathlib.Path(__file__).resolve().parents[2] / 'fixtures/4.1-demo'
CLUSTER, HOST_ID = 'rig', '472909a9-1eca-45fa-9dab-312ad2117191'
USER, PASSWORD, WRONG_PASSWORD, KEY_PASSPHRASE = 'cdc', 'correct-horse', 'wrong-donkey', 'battery-staple'
BOUND = 100  # seconds after which a command counts as hanging; `run` gives a node a minute, a broker 10 s
REFUSED, UNREACHABLE, CONFIG = 77, 69, 78


def main():
    parser = arguments(__doc__)
    parser.add_argument('--only', choices=['kafka', 'cassandra'])
    a = parser.parse_args()
    with_servers_directory(a.keep, lambda directory: live(a.binary, directory, a.only))


def live(binary, directory, only):
    ours, others = Authority(directory / 'ours'), Authority(directory / 'others')
    ours.sign('server', HERE)
    ours.sign('node', 'DNS:localhost,DNS:node.example')
    ours.sign('elsewhere', 'DNS:elsewhere.example')
    ours.sign('expired', HERE, days=-1)
    ours.sign('client')
    ours.protect('client', KEY_PASSPHRASE)
    others.sign('client')
    agent = Agent(binary.resolve(), directory)
    kafka = KafkaNode(directory / 'kafka', listeners=listeners(ours).values(),
                      scram=[(m, USER, PASSWORD) for m in ('SCRAM-SHA-256', 'SCRAM-SHA-512')])
    tls = client_tls_yaml(ours.key_store('node'), ours.trust_store(), STORE_PASSWORD)
    cassandra = CassandraNode('4.1', directory / 'cassandra', cdc=False, yaml=[tls, *PASSWORDS_YAML])
    parts = {'kafka': (kafka, OfKafka), 'cassandra': (cassandra, OfCassandra)}
    parts = {name: part for name, part in parts.items() if only in (None, name)}
    # A server dies with the thread that started it: these threads last as long as the test.
    with concurrent.futures.ThreadPoolExecutor(2) as both:
        try:
            for started in [both.submit(node.start) for node, _ in parts.values()]:
                started.result()
            for node, test in parts.values():
                test(agent, node, ours, others).run()
        finally:
            for node, _ in parts.values():
                node.kill()


def listeners(ours):
    """{name: a way into Kafka}"""
    def serving(name, protocol, certificate, **more):
        keys = {'ssl.keystore.type': 'PEM', 'ssl.keystore.location': ours.file(certificate, 'both.pem')}
        return Listener(name, protocol, keys | {k.replace('_', '.'): v for k, v in more.items()})

    plain = f'org.apache.kafka.common.security.plain.PlainLoginModule required user_{USER}="{PASSWORD}";'
    scram = 'org.apache.kafka.common.security.scram.ScramLoginModule required;'
    sasl = serving('sasl', 'SASL_SSL', 'server', sasl_enabled_mechanisms='PLAIN,SCRAM-SHA-256,SCRAM-SHA-512')
    sasl.settings |= {'plain.sasl.jaas.config': plain, 'scram-sha-256.sasl.jaas.config': scram, 'scram-sha-512.sasl.jaas.config': scram}
    ways = [serving('tls', 'SSL', 'server'), sasl, serving('elsewhere', 'SSL', 'elsewhere'), serving('expired', 'SSL', 'expired'),
            serving('mtls', 'SSL', 'server', ssl_client_auth='required', ssl_truststore_type='PEM', ssl_truststore_location=ours.ca)]
    return {way.name: way for way in ways}


class Agent:
    """The binary as an operator uses it: a configuration, a file of properties, the recorded segments."""

    def __init__(self, binary, directory):
        self.binary, self.directory = binary, directory

    def run(self, *arguments, environment=None):
        command = list(map(str, [self.binary, *arguments]))
        try:
            ran = subprocess.run(command, capture_output=True, text=True, timeout=BOUND, env=os.environ | (environment or {}))
        except subprocess.TimeoutExpired as e:
            raise Wrong(f"`{' '.join(command)}` hangs:\n{(e.stderr or b'')[-2000:].decode()}") from e
        for secret in (PASSWORD, WRONG_PASSWORD, KEY_PASSPHRASE, 'PRIVATE KEY'):
            if secret in ran.stdout + ran.stderr:
                raise Wrong(f"`{' '.join(command)}` shows a secret:\n{ran.stdout}\n{ran.stderr}")
        return ran

    def segments(self, name):
        """A cdc_raw of its own with what 4.1-demo recorded."""
        raw = self.directory / name / 'cdc_raw'
        raw.mkdir(parents=True)
        for file in (CASE / 'segments').iterdir():
            if file.suffix == '.gz':
                (raw / file.stem).write_bytes(gzip.decompress(file.read_bytes()))
            else:
                (raw / file.name).write_bytes(file.read_bytes())
        return raw

    def configure(self, name, bootstrap, properties, cassandra=''):
        """(configuration, environment): the properties lie where systemd puts credentials."""
        place = self.directory / name
        credentials = place / 'credentials'
        credentials.mkdir(parents=True)
        secret(credentials / 'kafka.properties', lines(properties))
        identity = cassandra or f'cluster = "{CLUSTER}"\nhost_id = "{HOST_ID}"\nschema = "{CASE}/schema.json"'
        path = place / 'cassandra-cdc.toml'
        path.write_text(f'''[cassandra]
yaml = "/dev/null"
cdc_raw = "{place}/cdc_raw"
{identity}
[state]
directory = "{place}/state"
[spool]
enabled = false
[kafka]
bootstrap = "{bootstrap}"
prefix = "{name}"
create_topics = {{ partitions = 2, replication = 1 }}
[http]
listen = "off"
''')
        return path, {'CREDENTIALS_DIRECTORY': str(credentials)}

    def replay(self, name, bootstrap, properties):
        file = secret(self.directory / f'{name}.replay.properties', lines(properties))
        return self.run('replay', '--bootstrap', bootstrap, '--properties-file', file, '--create-topics', '2,1', '--topic-prefix', name,
                        *self.replayed(name))

    def replayed(self, name):
        raw = self.directory / name / 'cdc_raw'
        return '--schema', CASE / 'schema.json', '--cluster', CLUSTER, '--host-id', HOST_ID, raw if raw.exists() else self.segments(name)

    def check(self, configuration, environment, subject):
        """The line of `check` about this subject: (level, found, fix)."""
        ran = self.run('check', '-o', 'json', '-c', configuration, environment=environment)
        found = [(f['level'], f['found'], f['fix'] or '') for f in json.loads(ran.stdout) if f['check'] == subject]
        if len(found) != 1:
            raise Wrong(f'`check` says of {subject}: {found}\n{ran.stdout}\n{ran.stderr}')
        return found[0]


def lines(properties):
    return ''.join(f'{name}={value}\n' for name, value in properties.items())


def secret(path, text):
    with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_EXCL, 0o600), 'w') as f:
        f.write(text)
    return path


def expect(name, ran, code, words):
    """It ended so, and what it said has one of these words."""
    if ran.returncode != code:
        raise Wrong(f'{name}: exit code {ran.returncode} instead of {code}:\n{ran.stdout[-1000:]}\n{ran.stderr[-3000:]}')
    if not any(word in ran.stderr for word in words):
        raise Wrong(f'{name}: none of {words} in\n{ran.stderr[-3000:]}')


class OfKafka:
    def __init__(self, agent, kafka, ours, others):
        self.agent, self.kafka = agent, kafka
        self.ways = listeners_of(kafka)
        tls = {'security.protocol': 'SSL', 'ssl.ca.location': ours.ca}
        mine = {'ssl.certificate.location': ours.file('client', 'pem'), 'ssl.key.location': ours.file('client', 'key')}
        locked = mine | {'ssl.key.location': ours.file('client', 'locked.key'), 'ssl.key.password': KEY_PASSPHRASE}

        def sasl(mechanism, password=PASSWORD):
            return tls | {'security.protocol': 'SASL_SSL', 'sasl.mechanism': mechanism, 'sasl.username': USER, 'sasl.password': password}

        mechanisms = {'plain': 'PLAIN', 'scram256': 'SCRAM-SHA-256', 'scram512': 'SCRAM-SHA-512'}
        self.right = {'tls': ('tls', tls), 'mtls': ('mtls', tls | mine), 'mtls-locked': ('mtls', tls | locked)}
        self.right |= {name: ('sasl', sasl(mechanism)) for name, mechanism in mechanisms.items()}
        trust, login = ['subjectAltName', 'set ssl.ca.location'], ['sasl.password']
        foreign = {'ssl.certificate.location': others.file('client', 'pem'), 'ssl.key.location': others.file('client', 'key')}
        self.wrong = {
            'wrong-ca': ('tls', tls | {'ssl.ca.location': others.ca}, REFUSED, trust),
            'system-ca': ('tls', {'security.protocol': 'SSL'}, REFUSED, trust),
            'other-host': ('elsewhere', tls, REFUSED, trust),
            'expired': ('expired', tls, REFUSED, trust),
            'no-client-certificate': ('mtls', tls, REFUSED, ['ssl.certificate.location']),
            'foreign-client': ('mtls', tls | foreign, REFUSED, ['ssl.certificate.location']),
            'no-passphrase': ('mtls', tls | locked | {'ssl.key.password': 'wrong'}, CONFIG, ['ssl.key']),
            'no-such-ca': ('tls', tls | {'ssl.ca.location': '/no/such/ca.pem'}, CONFIG, ['ssl.ca.location', '/no/such/ca.pem']),
            'plain-to-tls': ('tls', {}, UNREACHABLE, ['security.protocol']),
            'tls-to-plain': (None, tls, UNREACHABLE, ['security.protocol']),
            'login-to-tls': ('tls', sasl('PLAIN'), REFUSED, ['SASL']),
            'no-login': ('sasl', tls, UNREACHABLE, ['security.protocol']),
        }
        self.wrong |= {f'{name}-password': ('sasl', sasl(mechanism, WRONG_PASSWORD), REFUSED, login) for name, mechanism in mechanisms.items()}

    def bootstrap(self, way):
        return self.ways[way].bootstrap if way else self.kafka.bootstrap

    def run(self):
        self.wanted = sorted(self.agent.run('replay', '--sink', 'stdout', *self.agent.replayed('stdout')).stdout.splitlines())
        if len(self.wanted) < 50:
            raise Wrong(f'only {len(self.wanted)} events to publish')
        begin = time.monotonic()
        # Most of a case is waiting; two cores start four commands without waiting for each other's start.
        with concurrent.futures.ThreadPoolExecutor(6) as workers:
            cases = [workers.submit(self.gets_through, name, *case) for name, case in self.right.items()]
            cases += [workers.submit(self.is_refused, name, *case) for name, case in self.wrong.items()]
            failures = [str(case.exception()) for case in cases if case.exception()]
        if failures:
            raise Wrong('\n\n'.join(failures))
        say(f'Kafka: {len(self.right)} ways in, {len(self.wrong)} refused, {time.monotonic() - begin:.0f} s')

    def gets_through(self, name, way, properties):
        expect(name, self.agent.replay(f'{name}-replay', self.bootstrap(way), properties), 0, ['published'])
        self.agent.segments(name)
        configuration, environment = self.agent.configure(name, self.bootstrap(way), properties)
        level, found, _ = self.agent.check(configuration, environment, 'Kafka')
        if level != 'ok':
            raise Wrong(f'{name}: `check` says {level}: {found}')
        expect(name, self.agent.run('run', '--once', '-c', configuration, environment=environment), 0, [''])
        for prefix in (name, f'{name}-replay'):
            names = [t for t in topics.all_names(self.kafka.bootstrap) if t.startswith(f'{prefix}.')]
            records = topics.read_all(self.kafka.bootstrap, names)
            got = sorted(m.value().decode() for messages in records.values() for m in messages)
            if got != self.wanted:
                raise Wrong(f'{prefix}: {len(got)} records came, {len(self.wanted)} were to come, or they differ')
        say(f'  {name}: ok')

    def is_refused(self, name, way, properties, code, words):
        expect(name, self.agent.replay(f'{name}-replay', self.bootstrap(way), properties), code, words)
        raw = self.agent.segments(name)
        before = sorted((f.name, f.stat().st_size) for f in raw.iterdir())
        configuration, environment = self.agent.configure(name, self.bootstrap(way), properties)
        ran = self.agent.run('run', '--once', '-c', configuration, environment=environment)
        expect(f'{name}, run', ran, code, words)
        if sorted((f.name, f.stat().st_size) for f in raw.iterdir()) != before:
            raise Wrong(f'{name}: cdc_raw is not what it was')
        level, found, fix = self.agent.check(configuration, environment, 'Kafka')
        if level != 'fail' or not fix or not any(word in f'{found}; {fix}' for word in words):
            raise Wrong(f'{name}: `check` says {level}: {found}; {fix}')
        say(f'  {name}: {found}')


def listeners_of(kafka):
    return {way.name: way for way in kafka.listeners}


class OfCassandra:
    def __init__(self, agent, cassandra, ours, others):
        self.agent, self.cassandra, self.ours, self.others = agent, cassandra, ours, others
        self.password = secret(agent.directory / 'cassandra-password', PASSWORD + '\n')

    def run(self):
        begin = time.monotonic()
        self.make_user()
        self.right()
        self.wrong()
        say(f'Cassandra: {time.monotonic() - begin:.0f} s')

    def make_user(self):
        context = ssl.create_default_context(cafile=self.ours.ca)
        context.check_hostname = False
        context.load_cert_chain(self.ours.file('client', 'pem'), self.ours.file('client', 'key'))
        cluster = connect(self.cassandra.cql_port)
        cluster.ssl_context, cluster.auth_provider = context, PlainTextAuthProvider('cassandra', 'cassandra')
        deadline = time.monotonic() + 60
        while True:  # the first user is made a moment after the node is up
            try:
                session = cluster.connect()
                break
            except Exception:
                if time.monotonic() > deadline:
                    raise
                time.sleep(1)
        session.execute(f"CREATE ROLE {USER} WITH PASSWORD = '{PASSWORD}' AND LOGIN = true")
        self.host_id = str(session.execute('SELECT host_id FROM system.local').one()['host_id'])
        cluster.shutdown()

    def options(self, **changed):
        """Of `schema pull`; None leaves one out."""
        client, key = self.ours.file('client', 'pem'), self.ours.file('client', 'key')
        options = {'contact': f'127.0.0.1:{self.cassandra.cql_port}', 'user': USER, 'password_file': self.password, 'tls_ca': self.ours.ca,
                   'tls_name': 'node.example', 'tls_certificate': client, 'tls_key': key}
        return {k: v for k, v in (options | changed).items() if v is not None}

    def pull(self, options):
        return self.agent.run('schema', 'pull', *(w for k, v in options.items() for w in (f"--{k.replace('_', '-')}", v)))

    def right(self):
        by_name = self.options(contact=f'localhost:{self.cassandra.cql_port}', tls_name=None)
        for name, options in {'by tls_name': self.options(), 'by name': by_name}.items():
            pulled = self.pull(options)
            expect(name, pulled, 0, [self.host_id])
            if len(json.loads(pulled.stdout)['tables']) < 20:
                raise Wrong(f'{name}: {pulled.stdout[:500]}')
        self.agent.segments('of-node')
        cassandra = '\n'.join(f'{key} = "{value}"' for key, value in self.options().items())
        configuration, environment = self.agent.configure('of-node', '127.0.0.1:1', {}, cassandra)
        level, found, _ = self.agent.check(configuration, environment, 'CQL')
        if level != 'ok' or self.host_id not in found:
            raise Wrong(f'`check` says {level}: {found}')
        ran = self.agent.run('run', '--sink', 'stdout', '--once', '-c', configuration, environment=environment)
        expect('run', ran, 0, [''])
        hosts = {json.loads(event)['source']['host_id'] for event in ran.stdout.splitlines()}
        if hosts != {self.host_id}:
            raise Wrong(f'events of {hosts}, the node is {self.host_id}')
        say(f'  right: {found}')

    def wrong(self):
        empty = secret(self.agent.directory / 'wrong-password', WRONG_PASSWORD)
        tls = {'tls_ca': None, 'tls_name': None, 'tls_certificate': None, 'tls_key': None}
        cases = {
            'wrong CA': (self.options(tls_ca=self.others.ca), REFUSED, [str(self.others.ca)]),
            'wrong password': (self.options(password_file=empty), REFUSED, ['password']),
            'no login': (self.options(user=None, password_file=None), REFUSED, ['login']),
            'another name': (self.options(tls_name='elsewhere.example'), REFUSED, ['elsewhere.example']),
            'its address': (self.options(tls_name=None), REFUSED, ['does not name 127.0.0.1']),
            'another port': (self.options(contact='127.0.0.1:1'), UNREACHABLE, ['is Cassandra up']),
            'no client certificate': (self.options(tls_certificate=None, tls_key=None), REFUSED, ['tls_certificate']),
            'foreign client': (self.options(tls_certificate=self.others.file('client', 'pem'), tls_key=self.others.file('client', 'key')),
                               REFUSED, ['tls_certificate']),
            'another key': (self.options(tls_key=self.others.file('client', 'key')), CONFIG, ['not the key']),
            'a locked key': (self.options(tls_key=self.ours.file('client', 'locked.key')), CONFIG, ['passphrase']),
            'no TLS': (self.options(**tls), UNREACHABLE, ['tls_ca']),
        }
        with concurrent.futures.ThreadPoolExecutor(4) as workers:
            running = {name: workers.submit(self.is_refused, name, *case) for name, case in cases.items()}
            failures = [str(case.exception()) for case in running.values() if case.exception()]
        if failures:
            raise Wrong('\n\n'.join(failures))

    def is_refused(self, name, options, code, words):
        for _ in range(3):  # a node that hangs up may be gone before its alert is read: then it looks unreachable
            ran = self.pull(options)
            if ran.returncode != UNREACHABLE or code == UNREACHABLE:
                break
        expect(name, ran, code, words)
        say(f'  {name}: {ran.stderr.strip().splitlines()[-1]}')


if __name__ == '__main__':
    main()
