"""What stands for Cassandra's package and its node: the user, the directories, recorded segments; and a later version of ours."""
import gzip
import shutil
import subprocess

from machine import ROOT, Wrong

FIXTURE = ROOT / 'fixtures/4.1-demo'
SEGMENTS = ['CommitLog-7-1795257477268', 'CommitLog-7-1795257477269']
CONFIG = '/etc/cassandra-cdc/cassandra-cdc.toml'


def check(holds, what):
    if not holds:
        raise Wrong(what)


def says(text, *parts):
    for part in parts:
        check(part in text, f'{part!r} is not in:\n{text}')


def next_version(deb, folder):
    """The same package under a higher version, as an upgrade would bring it."""
    tree, upgrade = folder / 'repacked', folder / 'upgrade.deb'
    subprocess.run(['dpkg-deb', '--raw-extract', deb, tree], check=True)
    control = tree / 'DEBIAN/control'
    before = control.read_text()
    version = next(line for line in before.splitlines() if line.startswith('Version: '))
    control.write_text(before.replace(version, version.removesuffix('-1') + '-2'))
    # The sample in it differs too: only then has dpkg to choose between it and what was edited.
    with open(tree / CONFIG.lstrip('/'), 'a') as sample:
        sample.write('# a later sample\n')
    (tree / 'DEBIAN/md5sums').unlink(missing_ok=True)
    subprocess.run(['dpkg-deb', '--build', '--root-owner-group', '-Znone', tree, upgrade], check=True, stdout=subprocess.DEVNULL)
    shutil.rmtree(tree)
    return upgrade


def make_node(machine):
    """What Cassandra's package leaves: the user, and its directories."""
    machine.run('useradd --system --user-group --home-dir /var/lib/cassandra --create-home --shell /usr/sbin/nologin cassandra\n'
                'install -d -o cassandra -g cassandra -m 0755 /var/lib/cassandra /var/lib/cassandra/cdc_raw')


def unpacked(segment):
    return gzip.decompress((FIXTURE / f'segments/{segment}.log.gz').read_bytes())


def link_segment(machine, segment):
    """As Cassandra would: a recorded segment with its index, its own user's. Put there whole, as a link comes."""
    new, raw = '/var/lib/cassandra/new', '/var/lib/cassandra/cdc_raw'
    machine.path(new).mkdir()
    machine.path(f'{new}/{segment}.log').write_bytes(unpacked(segment))
    machine.put(FIXTURE / f'segments/{segment}_cdc.idx', new)
    machine.run(f'chown cassandra:cassandra {new}/*; chmod 0600 {new}/*; mv {new}/*.log {raw}; mv {new}/*.idx {raw}; rmdir {new}')
