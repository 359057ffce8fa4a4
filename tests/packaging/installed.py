"""The Debian package on a bare Debian: without systemd, then booted; what it installs, runs, keeps, removes and says.

The service runs under the package's own unit, started by a real systemd, with a real Kafka and a recorded segment.
"""
import argparse
import contextlib
import json
import pathlib
import shutil
import tempfile
import time

from machine import ROOT, Machine, wait_until
from node import artifacts
from node.kafka_node import KafkaNode
from node.process import free_port
from stand_in import CONFIG, FIXTURE, SEGMENTS, check, link_segment, make_node, next_version, says, unpacked

artifacts.with_packages()
from confluent_kafka import Consumer  # noqa: E402

SEGMENT = SEGMENTS[0]
STATE = '/var/lib/cassandra-cdc'
SPOOL = '/var/lib/cassandra/cdc_spool'
FORBIDDEN = {'write-etc', 'write-usr', 'write-var-lib', 'read-home', 'see-processes', 'see-tmp', 'see-kernel-symbols', 'unshare',
             'personality', 'schedule', 'renice', 'set-user-id', 'netlink', 'write-and-execute'}
NEEDED = {'inet', 'spool', 'delete', 'state', 'delete-state', 'tmp'}


def say(text):
    print(f'-- {text}', flush=True)


def without_systemd(machine):
    """As in a chroot or an image build: no systemd runs, there is no user cassandra, and no script fails."""
    text = machine.run('apt-get install -y /root/cassandra-cdc.deb')
    says(text, 'there is no user cassandra', 'is installed, and not enabled', 'runuser -u cassandra -- cassandra-cdc check')
    check(not machine.path(SPOOL).exists(), 'a spool without Cassandra')
    says(machine.run('cassandra-cdc --version'), 'cassandra-cdc ')
    machine.run('apt-get install -y /root/upgrade.deb')
    says(machine.run('apt-get purge -y cassandra-cdc'), 'nobody empties cdc_raw now', 'cdc_enabled: false')
    check(not machine.path('/etc/cassandra-cdc').exists() and not machine.path('/usr/bin/cassandra-cdc').exists(), 'purged, and still there')
    left = machine.run("find /etc /usr /var/lib -name '*cassandra-cdc*' -not -path '/var/lib/dpkg/*'")
    check(left == '', f'purging leaves {left}')


def install(machine):
    text = machine.run('apt-get install -y /root/cassandra-cdc.deb')
    says(text, 'is installed, and not enabled')
    check('no user cassandra' not in text, text)
    state = machine.run('systemctl show -p LoadState,ActiveState,UnitFileState cassandra-cdc')
    says(state, 'LoadState=loaded', 'ActiveState=inactive', 'UnitFileState=disabled')
    modes = machine.run(f'stat -c "%n %U:%G %a" /usr/bin/cassandra-cdc {CONFIG} {SPOOL} /usr/lib/systemd/system/cassandra-cdc.service '
                        '/usr/lib/tmpfiles.d/cassandra-cdc.conf')
    says(modes, 'bin/cassandra-cdc root:root 755', f'{CONFIG} root:root 644', f'{SPOOL} cassandra:cassandra 700',
         'cassandra-cdc.service root:root 644', 'tmpfiles.d/cassandra-cdc.conf root:root 644')
    strange = machine.run("dpkg -L cassandra-cdc | while read f; do [ -d $f ] || find $f -not '(' -user root -group root "
                          "'(' -perm 644 -o -perm 755 ')' ')'; done")
    check(strange == '', f'owners or modes: {strange}')
    check(machine.run('dpkg --verify cassandra-cdc').strip() == '', 'dpkg --verify complains')
    # bash finds the completions by the command's name, and its loader says 124 for "found".
    completed = machine.run("""bash -ec '. /usr/share/bash-completion/bash_completion; _completion_loader cassandra-cdc || test $? = 124
        complete -p cassandra-cdc; function=$(complete -p cassandra-cdc | sed "s/.* -F //; s/ .*//")
        COMP_WORDS=(cassandra-cdc sta); COMP_CWORD=1; $function cassandra-cdc sta cassandra-cdc; echo "${COMPREPLY[*]}"'""")
    says(completed, 'state', 'status')


def not_configured(machine):
    """A wrong configuration ends with 78, and is not tried again."""
    machine.run(f"sed -i 's/^bootstrap/bootstrapp/' {CONFIG}; systemctl start cassandra-cdc || true")
    wait_until('the unit fails', lambda: 'ActiveState=failed' in machine.run('systemctl show -p ActiveState cassandra-cdc'))
    says(machine.run('systemctl show -p ExecMainStatus,NRestarts cassandra-cdc'), 'ExecMainStatus=78', 'NRestarts=0')
    says(machine.run('journalctl --no-pager -u cassandra-cdc'), 'bootstrapp')
    machine.run(f"sed -i 's/^bootstrapp/bootstrap/' {CONFIG}; systemctl reset-failed cassandra-cdc")


def configure(machine, kafka, port):
    node = json.loads((FIXTURE / 'node.json').read_text())
    machine.put(FIXTURE / 'schema.json', '/etc/cassandra-cdc/schema.json')
    changes = {'cluster =': f'cluster = "{node["cluster_name"]}"', 'host_id =': f'host_id = "{node["host_id"]}"',
               'schema =': 'schema = "/etc/cassandra-cdc/schema.json"', 'enabled =': 'enabled = true', 'min_free =': 'min_free = "1MiB"',
               'bootstrap =': f'bootstrap = "{kafka.bootstrap}"', 'listen =': f'listen = "127.0.0.1:{port}"',
               'create_topics =': 'create_topics = { partitions = 1, replication = 1 }'}
    config = machine.path(CONFIG)
    lines = config.read_text().splitlines()
    for begin, line in changes.items():
        at = [n for n, text in enumerate(lines) if text.lstrip('#').startswith(begin)]
        check(len(at) == 1, f'{begin!r} stands {len(at)} times in the sample')
        lines[at[0]] = line
    config.write_text('\n'.join(lines) + '\n')
    machine.run('runuser -u cassandra -- cassandra-cdc config validate')


def sandbox(machine):
    """The unit with the probe in place of the agent, and the probe by itself: what only the sandbox forbids."""
    machine.put(ROOT / 'tests/packaging/sandbox.sh', '/usr/share/sandbox.sh')
    machine.run('chmod 1777 /etc /usr/share /var/lib; echo probe > /home/probe; chmod 644 /home/probe; touch /tmp/probe-of-the-test\n'
                'runuser -u cassandra -- touch /var/lib/cassandra/cdc_raw/probe\n'
                f'install -d -o cassandra -g cassandra -m 0700 {STATE}')
    outside = machine.run('cd /; runuser -u cassandra -- sh /usr/share/sandbox.sh')
    answers = dict(line.split(' ')[:2] for line in outside.splitlines() if ':' not in line.split(' ')[0])
    closed = sorted(name for name in FORBIDDEN | NEEDED if answers.get(name) != 'yes')
    check(not closed, f'outside of the sandbox these must work, or they prove nothing: {closed}\n{outside}')
    machine.run('rm -f /etc/cassandra-cdc-probe /usr/share/cassandra-cdc-probe /var/lib/cassandra-cdc-probe')

    machine.run('mkdir -p /run/systemd/system/cassandra-cdc.service.d; printf "%s\\n" "[Service]" Type=oneshot Restart=no WatchdogSec=0 '
                'ExecStart= "ExecStart=/bin/sh /usr/share/sandbox.sh" StandardOutput=truncate:/run/probe '
                '> /run/systemd/system/cassandra-cdc.service.d/probe.conf; systemctl daemon-reload; systemctl start cassandra-cdc')
    inside = machine.run('cat /run/probe')
    answers = dict(line.split(' ')[:2] for line in inside.splitlines() if ':' not in line.split(' ')[0])
    wrong = sorted(name for name in FORBIDDEN if answers.get(name) != 'no') + sorted(name for name in NEEDED if answers.get(name) != 'yes')
    check(not wrong, f'inside the sandbox these are not as they must be: {wrong}\n{inside}')
    status = dict(line.split(':\t') for line in inside.splitlines() if ':\t' in line)
    user = machine.run('id -u cassandra').strip()
    check(status['Uid'].split() == [user] * 4 and status['Umask'] == '0077' and status['NoNewPrivs'] == '1' and status['Seccomp'] == '2',
          f'user, umask, new privileges, system calls: {status}')
    check(all(int(status[name], 16) == 0 for name in ('CapPrm', 'CapEff', 'CapBnd', 'CapAmb')), f'capabilities: {status}')
    machine.run('rm -r /run/systemd/system/cassandra-cdc.service.d /home/probe /var/lib/cassandra/cdc_raw/probe /usr/share/sandbox.sh; '
                'chmod 755 /etc /usr/share /var/lib; systemctl daemon-reload')
    say(f'the sandbox refuses {len(FORBIDDEN)} things that work outside of it, and lets {len(NEEDED)} work')


def expected(machine):
    """The ids of the segment's events, as `replay` prints them."""
    machine.path(f'/root/{SEGMENT}.log').write_bytes(unpacked(SEGMENT))
    lines = machine.run(f'cassandra-cdc replay --sink stdout --schema /etc/cassandra-cdc/schema.json --cluster rig '
                        f'--host-id {json.loads((FIXTURE / "node.json").read_text())["host_id"]} /root/{SEGMENT}.log 2>/dev/null')
    ids = {json.loads(line)['id'] for line in lines.splitlines()}
    check(len(ids) > 50, f'only {len(ids)} events to expect')
    return ids


def published(kafka, wanted):
    consumer = Consumer({'bootstrap.servers': kafka.bootstrap, 'group.id': 'test', 'auto.offset.reset': 'earliest',
                         'topic.metadata.refresh.interval.ms': 500})
    consumer.subscribe(['^cassandra[.].*'])
    got = set()
    deadline = time.monotonic() + 120
    try:
        while got != wanted:
            check(time.monotonic() < deadline, f'{len(got & wanted)} of {len(wanted)} events came, and {len(got - wanted)} others')
            message = consumer.poll(1)
            if message is not None and not message.error():
                got.add(json.loads(message.value())['id'])
    finally:
        consumer.close()


def show(machine, *names):
    return dict(line.split('=', 1) for line in machine.run(f'systemctl show -p {",".join(names)} cassandra-cdc').splitlines())


def serve(machine, kafka):
    """Under its unit: ready, events, segments deleted, watchdog fed, reload, stop."""
    raw = machine.path('/var/lib/cassandra/cdc_raw')
    link_segment(machine, SEGMENT)
    wanted = expected(machine)
    machine.run('systemctl enable --now cassandra-cdc')  # returns with READY=1
    state = show(machine, 'ActiveState', 'SubState', 'MainPID', 'WatchdogUSec', 'StatusText')
    check((state['ActiveState'], state['SubState']) == ('active', 'running'), f'{state}')
    check(state['WatchdogUSec'] == '1min' and state['StatusText'], f'{state}')
    published(kafka, wanted)
    wait_until('the segment is deleted', lambda: not any(raw.iterdir()))
    wait_until('the link in the spool is deleted', lambda: not any(machine.path(SPOOL).glob('*.log')))
    fed = show(machine, 'WatchdogTimestampMonotonic')
    wait_until('the watchdog is fed', lambda: show(machine, 'WatchdogTimestampMonotonic') != fed)
    modes = machine.run(f'find {STATE} {SPOOL} -printf "%p %u %m\\n"')
    check(all(line.split()[1:] in (['cassandra', '700'], ['cassandra', '600']) for line in modes.splitlines()), f'modes:\n{modes}')
    says(machine.run('runuser -u cassandra -- cassandra-cdc status'), 'rig')
    machine.run(f"sed -i 's/^.*level =.*/level = \"debug\"/' {CONFIG}; systemctl reload cassandra-cdc")
    wait_until('the log tells of the reload', lambda: 'configuration read again' in machine.run('journalctl --no-pager -u cassandra-cdc -o cat'))
    check(show(machine, 'MainPID')['MainPID'] == state['MainPID'], 'another process after a reload')
    say(f'{len(wanted)} events came, the segment is gone, the watchdog is fed')


def drop_ins(machine):
    """The examples as the package brings them: secrets that root alone may read, and data elsewhere."""
    examples, place = '/usr/share/doc/cassandra-cdc/examples/systemd', '/etc/systemd/system/cassandra-cdc.service.d'
    machine.run(f'mkdir {place}; cp {examples}/credentials.conf {place}; cd /etc/cassandra-cdc; umask 077\n'
                'echo secret > cassandra-password; echo secret > keystore-password; echo enable.idempotence=false > kafka.properties\n'
                'systemctl daemon-reload; systemctl restart cassandra-cdc || true')
    # A property that breaks a promise is refused: so the credential is read.
    wait_until('the unit fails', lambda: 'ActiveState=failed' in machine.run('systemctl show -p ActiveState cassandra-cdc'))
    says(machine.run('journalctl --no-pager -o cat -n 20 -u cassandra-cdc'), 'enable.idempotence')
    machine.run('echo client.id=with-credentials > /etc/cassandra-cdc/kafka.properties; systemctl restart cassandra-cdc')
    machine.run(f'rm {place}/credentials.conf; cp {examples}/place.conf {place}; install -d -o cassandra -g cassandra /data /data/cdc '
                f'/data/cdc/cdc_raw; cp {CONFIG} /root/before; rm /etc/cassandra-cdc/*-password /etc/cassandra-cdc/kafka.properties\n'
                f"sed -i 's|^#cdc_raw = .*|cdc_raw = \"/data/cdc/cdc_raw\"|; s|^#directory = .*cdc_spool.*|directory = \"/data/cdc/cdc_spool\"|' "
                f'{CONFIG}; systemctl daemon-reload; systemctl restart cassandra-cdc')
    made = machine.run('stat -c "%U %a" /data/cdc/cdc_spool').strip()
    check(made == 'cassandra 700', f'the spool in another place: {made}')
    machine.run(f'rm -r {place}; cp /root/before {CONFIG}; systemctl daemon-reload; systemctl restart cassandra-cdc')
    say('the drop-ins for credentials and for another place do what they say')


def upgrade(machine):
    """State and an edited conffile stay; what runs is restarted, what does not run is not started."""
    before, config = show(machine, 'MainPID'), machine.path(CONFIG).read_text()
    finished = machine.run('cassandra-cdc state show -o json')
    machine.run('apt-get install -y -o Dpkg::Options::=--force-confdef /root/upgrade.deb')
    after = show(machine, 'MainPID', 'ActiveState', 'Result')
    check(after['ActiveState'] == 'active' and after['MainPID'] not in ('0', before['MainPID']), f'not restarted: {before} {after}')
    check(machine.path(CONFIG).read_text() == config, 'an upgrade changed the edited configuration')
    check(SEGMENT.split('-')[-1] in finished and SEGMENT.split('-')[-1] in machine.run('cassandra-cdc state show -o json'), 'state is lost')
    machine.run('systemctl stop cassandra-cdc')
    state = show(machine, 'ActiveState', 'Result', 'ExecMainStatus')
    check(state == {'ActiveState': 'inactive', 'Result': 'success', 'ExecMainStatus': '0'}, f'SIGTERM: {state}')
    machine.run('apt-get install -y --allow-downgrades -o Dpkg::Options::=--force-confold /root/cassandra-cdc.deb')
    check(show(machine, 'ActiveState')['ActiveState'] == 'inactive', 'an upgrade started what was stopped')
    check(machine.run('systemctl is-enabled cassandra-cdc').strip() == 'enabled', 'an upgrade changed whether it is enabled')
    say('an upgrade keeps state and configuration, and restarts only what runs')


def remove_and_purge(machine):
    machine.run('systemctl start cassandra-cdc')
    says(machine.run('apt-get remove -y cassandra-cdc'), 'nobody empties cdc_raw now', 'State and configuration stay')
    check(machine.run("find /proc -maxdepth 2 -name exe -lname '*/cassandra-cdc*'", check=False).strip() == '', 'it runs without its package')
    check(machine.path(STATE).is_dir() and machine.path(CONFIG).is_file(), 'removing took state or configuration')
    machine.run(f'apt-get install -y /root/cassandra-cdc.deb; touch {SPOOL}/{SEGMENT}.log')
    check(machine.run('systemctl is-enabled cassandra-cdc').strip() == 'enabled', 'installed again, and not enabled as it was')
    text = machine.run('apt-get purge -y cassandra-cdc')
    says(text, 'the state is gone', 'nobody empties cdc_raw now', '/etc/cassandra-cdc keeps what', f'{SPOOL} still holds segments')
    check(not machine.path(STATE).exists() and not machine.path(CONFIG).exists(), 'purging left state or configuration')
    check(machine.path(f'{SPOOL}/{SEGMENT}.log').exists(), 'purging deleted a segment')
    check(machine.path('/etc/cassandra-cdc/schema.json').exists(), 'purging deleted what it did not bring')
    left = machine.run("find /etc/systemd /var/lib/systemd -name '*cassandra-cdc*' -not -name '*.timer'")
    check(left == '', f'purging leaves {left}')
    say('remove stops it and keeps state; purge takes state, leaves segments and says so')


def test(deb, directory):
    directory = pathlib.Path(directory)
    with contextlib.ExitStack() as stack:
        machine = stack.enter_context(Machine(directory))
        machine.put(deb, '/root/cassandra-cdc.deb')
        shutil.copy(next_version(deb, directory), machine.path('/root/upgrade.deb'))
        without_systemd(machine)
        say('installed, upgraded and purged where no systemd runs')
        make_node(machine)
        machine.boot()
        install(machine)
        not_configured(machine)
        sandbox(machine)
        kafka = stack.enter_context(KafkaNode(directory / 'kafka'))
        configure(machine, kafka, free_port())
        serve(machine, kafka)
        drop_ins(machine)
        upgrade(machine)
        remove_and_purge(machine)


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument('deb', type=pathlib.Path)
    deb = arguments.parse_args().deb
    begin = time.monotonic()
    with tempfile.TemporaryDirectory(prefix='cassandra-cdc-packaging-') as directory:
        test(deb, directory)
    print(f'ok, {time.monotonic() - begin:.0f} s')


main()
