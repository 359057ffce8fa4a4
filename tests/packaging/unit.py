"""The unit, alone and with each example drop-in: systemd takes it, and its sandbox gets no weaker."""
import pathlib
import re
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
UNIT = 'cassandra-cdc.service'
EXPOSURE = 1.2


def check(holds, what):
    if not holds:
        sys.exit(f'FAILED: {what}')


def analyze(folder, *arguments):
    """Of the unit in a folder, with what stands beside it in UNIT.d."""
    return subprocess.run(['systemd-analyze', '--no-pager', *arguments, folder / UNIT], capture_output=True, text=True)


def laid_out(folder, drop_in):
    """The unit with a binary that is there, since verifying looks for it; and the text of a drop-in."""
    text = (ROOT / 'systemd' / UNIT).read_text()
    text = text.replace('/usr/bin/cassandra-cdc run', '/bin/true run').replace('man:cassandra-cdc(1)', 'man:true(1)')
    (folder / UNIT).write_text(text)
    if drop_in:
        (folder / f'{UNIT}.d').mkdir()
        (folder / f'{UNIT}.d/test.conf').write_text(drop_in)


def examine(name, drop_in):
    """(What verifying complains of, exposure)."""
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        laid_out(folder, drop_in)
        verified = analyze(folder, 'verify', '--recursive-errors=no', '--man=no')
        # Of other units of this machine it complains too.
        complaints = ''.join(line for line in verified.stderr.splitlines(keepends=True) if 'cassandra-cdc' in line)
        check(verified.returncode == 0 or complaints, f'{name}: {verified}')
        said = analyze(folder, 'security', '--offline=true')
        found = re.search(r'Overall exposure level for .*: ([0-9.]+)', said.stdout)
        check(found, f'{name}: no exposure: {said}')
        return complaints, float(found[1])


def main():
    complaints, _ = examine('a misspelt drop-in', '[Service]\nProtectHouse=true\n')
    check('ProtectHouse' in complaints, f'a misspelt key passes: {complaints!r}')
    _, exposure = examine('a weaker drop-in', '[Service]\nProtectSystem=no\n')
    check(exposure > EXPOSURE, f'a weaker sandbox is not noticed: {exposure}')
    drop_ins = {path.name: path.read_text() for path in sorted((ROOT / 'systemd/examples').glob('*.conf'))}
    check(drop_ins.keys() >= {'user.conf', 'place.conf', 'credentials.conf'}, f'{drop_ins.keys()}')
    for name, drop_in in {'the unit alone': None, **drop_ins}.items():
        complaints, exposure = examine(name, drop_in)
        check(not complaints, f'{name}: {complaints}')
        check(exposure <= EXPOSURE, f'{name}: exposure {exposure}')
        print(f'{name}: exposure {exposure}')


main()
