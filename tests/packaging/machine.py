"""A Debian 12 of its own in a folder: entered as it lies there, or booted, with systemd as its first process.

Owns: how it is made, started, entered and ended. Its network is the host's, so a broker on loopback is there for both.
Needs root, debootstrap and systemd-nspawn.
"""
import contextlib
import fcntl
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

sys.dont_write_bytecode = True
ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / 'fixtures'))
from node.artifacts import CACHE  # noqa: E402
from node.process import die_with_parent  # noqa: E402

BOOT_SECONDS = 180
PACKAGES = 'systemd,systemd-sysv,dbus,bash-completion,kcat'
# Where cgroups of version 1 have a tree for systemd, else the one tree of version 2.
CGROUPS = next(path for path in map(pathlib.Path, ['/sys/fs/cgroup/systemd', '/sys/fs/cgroup']) if path.is_dir())


class Wrong(Exception):
    """A promise that does not hold."""


class Machine:
    """`with Machine(directory) as machine:` is a folder; `machine.boot()` starts it."""

    def __init__(self, directory):
        self.root = pathlib.Path(directory) / 'machine'
        self._child = self._leader = None
        self._cgroup = CGROUPS / f'cassandra-cdc-test-{os.getpid()}'

    def __enter__(self):
        subprocess.run(['cp', '-a', '--reflink=auto', _debian(), self.root], check=True)
        return self

    def __exit__(self, *failure):
        self.power_off()

    def boot(self):
        # Without a systemd around it there is nobody to make a scope; then a cgroup of our own keeps machines apart.
        alone = not pathlib.Path('/run/systemd/system').is_dir()
        if alone:
            self._cgroup.mkdir(exist_ok=True)
        log = open(self.root.parent / 'boot.log', 'wb')
        command = ['systemd-nspawn', '--quiet', '--register=no', *(['--keep-unit'] if alone else []), '--directory', self.root,
                   '--machine', f'cassandra-cdc-{os.getpid()}', '--boot']

        def enter():
            die_with_parent()
            if alone:
                (self._cgroup / 'cgroup.procs').write_text(str(os.getpid()))
        self._child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
                                       preexec_fn=enter)
        wait_until('the machine is up', self._is_up, BOOT_SECONDS)

    def _is_up(self):
        if self._child.poll() is not None:
            raise Wrong(f'systemd-nspawn ended with {self._child.returncode}\n{(self.root.parent / "boot.log").read_text()}')
        children = pathlib.Path(f'/proc/{self._child.pid}/task/{self._child.pid}/children').read_text().split()
        self._leader = children[0] if children else None
        return self._leader and self.run('systemctl is-system-running', check=False).strip() in ('running', 'degraded')

    def power_off(self):
        if self._child is None:
            return
        if self._leader and self._child.poll() is None:
            os.kill(int(self._leader), signal.SIGRTMIN + 4)  # systemd's word for power off
        try:
            self._child.wait(30)
        except subprocess.TimeoutExpired:
            self._child.kill()
            self._child.wait()
        self._child = self._leader = None
        with contextlib.suppress(OSError):  # cgroups go from the leaves; one that a dying process is in stays, and is empty
            for folder, _, _ in os.walk(self._cgroup, topdown=False):
                os.rmdir(folder)

    def run(self, script, check=True, status=0):
        """stdout and stderr of a shell script in there, as root. With `check` it must end with this status."""
        if self._leader:
            inside = ['nsenter', '--target', self._leader, '--mount', '--uts', '--ipc', '--pid', '--cgroup', '--']
        else:
            inside = ['chroot', self.root]
        environment = {'PATH': '/usr/sbin:/usr/bin:/sbin:/bin', 'LC_ALL': 'C.UTF-8', 'HOME': '/root', 'DEBIAN_FRONTEND': 'noninteractive'}
        done = subprocess.run([*inside, '/bin/sh', '-ec', script], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True, env=environment)
        if check and done.returncode != status:
            raise Wrong(f'`{script}` ended with {done.returncode}\n{done.stdout}')
        return done.stdout

    def path(self, inside):
        return self.root / str(inside).lstrip('/')

    def put(self, source, inside):
        shutil.copy(source, self.path(inside))


def wait_until(what, holds, seconds=120):
    deadline = time.monotonic() + seconds
    while not (answer := holds()):
        if time.monotonic() > deadline:
            raise Wrong(f'never within {seconds} s: {what}')
        time.sleep(0.2)
    return answer


def _debian():
    """A bare Debian 12 with systemd, fetched once."""
    made = CACHE / 'debian-12'
    CACHE.mkdir(parents=True, exist_ok=True)
    with open(CACHE / 'debian-12.lock', 'w') as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not made.is_dir():
            print('fetching a Debian 12 ...', flush=True)
            partial = CACHE / 'debian-12.partial'
            shutil.rmtree(partial, ignore_errors=True)
            subprocess.run(['debootstrap', '--variant=minbase', f'--include={PACKAGES}', 'bookworm', partial], check=True,
                           stdout=subprocess.DEVNULL)
            shutil.rmtree(partial / 'var/cache/apt/archives')
            partial.rename(made)
    return made
