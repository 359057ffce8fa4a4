"""What the built packages contain, ask for and run: looked at without installing them, the RPM in a folder of its own too."""
import argparse
import gzip
import pathlib
import re
import subprocess
import tempfile

from machine import ROOT, Machine, Wrong

SHARED = {'/usr/bin/cassandra-cdc', '/etc/cassandra-cdc/cassandra-cdc.toml', '/usr/lib/systemd/system/cassandra-cdc.service',
          '/usr/lib/tmpfiles.d/cassandra-cdc.conf', '/usr/share/bash-completion/completions/cassandra-cdc',
          '/usr/share/fish/vendor_completions.d/cassandra-cdc.fish', '/usr/share/man/man1/cassandra-cdc.1.gz',
          '/usr/share/man/man1/cassandra-cdc-run.1.gz', '/usr/share/man/man1/cassandra-cdc-quarantine-retry.1.gz',
          *('/usr/share/doc/cassandra-cdc/' + name for name in (
              'README.md', 'RUNBOOK.md', 'SECURITY.md', 'CONTRACT.md', 'docs/first-day.md', 'docs/operators.md', 'changelog.gz',
              'third-party-licences.gz', 'cassandra-cdc.cdx.json'))}
CONFIG = '/etc/cassandra-cdc/cassandra-cdc.toml'


def check(holds, what):
    if not holds:
        raise Wrong(what)


def output(*command, **more):
    done = subprocess.run(command, capture_output=True, text=True, **more)
    check(done.returncode == 0, f'{command}: {done.stdout}{done.stderr}')
    return done.stdout


def examples():
    """Every file that an operator may take over has its place in the package."""
    places = {'systemd': ROOT / 'systemd/examples',
              **{name: ROOT / 'packaging' / name for name in ('prometheus', 'grafana', 'kubernetes')}}
    files = {name: [p.relative_to(folder) for p in folder.rglob('*') if p.is_file()] for name, folder in places.items()}
    return {f'/usr/share/doc/cassandra-cdc/examples/{name}/{path}' for name, paths in files.items() for path in paths}


def deb(package, folder):
    lines = output('dpkg-deb', '--contents', package).splitlines()
    files = {line.split()[5].lstrip('.'): line.split()[:2] for line in lines if line.startswith('-')}
    wanted = SHARED | examples() | {'/usr/share/zsh/vendor-completions/_cassandra-cdc', '/usr/share/doc/cassandra-cdc/copyright'}
    check(wanted <= files.keys(), f'not in the deb: {wanted - files.keys()}')
    for path, (mode, owner) in files.items():
        expected = '-rwxr-xr-x' if path.startswith('/usr/bin/') else '-rw-r--r--'
        check((mode, owner) == (expected, '0/0'), f'{path}: {mode} {owner}')
    control = dict(re.findall(r'^([A-Za-z-]+): (.*)$', output('dpkg-deb', '--field', package), re.MULTILINE))
    check('libc6 (>=' in control['Depends'], f'depends on {control["Depends"]}')
    subprocess.run(['dpkg-deb', '--raw-extract', package, folder / 'deb'], check=True)
    check((folder / 'deb/DEBIAN/conffiles').read_text().split() == [CONFIG], 'conffiles')
    check((folder / f'deb{CONFIG}').read_text() == output(folder / 'deb/usr/bin/cassandra-cdc', 'config', 'init'), 'another sample')
    for script in ('postinst', 'prerm', 'postrm'):
        output('sh', '-n', folder / 'deb/DEBIAN' / script)
    said = subprocess.run(['lintian', '--allow-root', '--fail-on', 'error,warning', package], capture_output=True, text=True)
    check(said.returncode == 0, f'lintian:\n{said.stdout}{said.stderr}')
    pages(folder / 'deb/usr/share/man/man1', folder / 'deb/usr/bin/cassandra-cdc')
    output('bash', '-n', folder / 'deb/usr/share/bash-completion/completions/cassandra-cdc')
    print(f'deb: {len(files)} files, lintian has nothing to say')


def pages(folder, binary):
    """One page a command, each of which opens and is what its name says."""
    found = sorted(folder.iterdir())
    printed = output(binary, 'man').count('\n.TH ')
    check(len(found) == printed > 20, f'{len(found)} pages of {printed}')
    for page in found:
        text = gzip.decompress(page.read_bytes()).decode()
        name = page.name.removesuffix('.1.gz')
        check(f'.TH {name} 1 ' in text and text.count('.TH ') == 1, f'{page.name} is another page')
        shown = re.sub('.\x08', '', output('mandoc', '-T', 'utf8', page))  # bold and underlined are overtyped
        check('NAME' in shown and 'SYNOPSIS' in shown, f'{page.name}:\n{shown}')
        lint = subprocess.run(['mandoc', '-T', 'lint', '-W', 'error', page], capture_output=True, text=True)
        check(lint.returncode == 0, f'{page.name}: {lint.stdout}')


def rpm(package, folder):
    def query(*what):
        return output('rpm', '--query', '--package', *what, package).splitlines()
    files = {path: (mode, user, group) for path, mode, user, group in (
        line.split() for line in query('--queryformat', '[%{FILENAMES} %{FILEMODES:perms} %{FILEUSERNAME} %{FILEGROUPNAME}\n]'))}
    wanted = SHARED | examples() | {'/usr/share/zsh/site-functions/_cassandra-cdc', '/usr/share/licenses/cassandra-cdc/LICENSE'}
    check(wanted <= files.keys(), f'not in the rpm: {wanted - files.keys()}')
    for path, rights in files.items():
        expected = '-rwxr-xr-x' if path.startswith('/usr/bin/') else '-rw-r--r--'
        check(rights == (expected, 'root', 'root'), f'{path}: {rights}')
    check(query('--configfiles') == [CONFIG], 'configuration files')
    flags = dict(line.split() for line in query('--queryformat', '[%{FILENAMES} %{FILEFLAGS:fflags}\n]') if ' ' in line.strip())
    check(flags[CONFIG] == 'cn', f'{CONFIG} is not kept when it was edited: {flags[CONFIG]}')
    requires = query('--requires')
    check('/bin/sh' in requires and any(r.startswith('libc.so.6(GLIBC_2.') for r in requires), f'{requires}')
    check(not any('libssl' in r or 'rdkafka' in r for r in requires), f'something is not linked in: {requires}')
    for script in ('post', 'preun', 'postun'):
        output('sh', '-n', ROOT / 'packaging/rpm' / script)
    rpm_life(package, folder)
    print(f'rpm: {len(files)} files; installed, upgraded and erased in a folder')


def rpm_life(package, folder):
    """In a Debian, which has a shell and a C library: what the scripts do without systemd, and what becomes of files."""
    with Machine(folder) as machine:
        def install(*how):
            return output('rpm', '--root', machine.root, '--nodeps', '--nosignature', *how)
        said = install('--install', package)
        check('is installed, and not enabled' in said and 'there is no user cassandra' in said, said)
        check('cassandra-cdc ' in machine.run('cassandra-cdc --version'), 'the binary does not start')
        with open(machine.path(CONFIG), 'a') as config:
            config.write('# edited\n')
        machine.run('install -d -m 0700 /var/lib/cassandra-cdc')
        said = install('--upgrade', '--force', package)
        check('is installed' not in said and 'nobody empties' not in said, f'an upgrade says {said!r}')
        check('# edited' in machine.path(CONFIG).read_text(), 'an upgrade changed the configuration')
        said = install('--erase', 'cassandra-cdc')
        check('nobody empties cdc_raw now' in said and 'State stays in /var/lib/cassandra-cdc' in said, said)
        check(machine.path('/var/lib/cassandra-cdc').is_dir(), 'erasing took the state')
        check(not machine.path('/usr/bin/cassandra-cdc').exists(), 'erased, and still there')
        check(machine.path(f'{CONFIG}.rpmsave').exists(), 'the edited configuration is gone')


def main():
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument('packages', type=pathlib.Path, help='the folder with one deb and one rpm')
    folder = arguments.parse_args().packages
    (debian,), (other,) = folder.glob('*.deb'), folder.glob('*.rpm')
    with tempfile.TemporaryDirectory(prefix='cassandra-cdc-contents-') as scratch:
        deb(debian, pathlib.Path(scratch))
        rpm(other, pathlib.Path(scratch))


main()
