"""A process that is measured: CPU seconds of all its threads, peak memory, a capped log, and a certain end."""
import contextlib
import os
import pathlib
import resource
import signal
import subprocess
import threading
import time

from node.process import die_with_parent

TICKS = os.sysconf('SC_CLK_TCK')
LOG_BYTES = 64 << 20  # more than a whole segment takes: some of what runs here copies them
SAMPLE_SECONDS = 0.02
STOP_SECONDS, ANSWER_SECONDS = 10, 300


def cap_files():
    """No file of a server grows beyond this either; those of a measured process have a limit of their own."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 << 30, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


class Measured:
    """One run of `command`; `with` ends it. `stdin` makes it one that is spoken to in lines."""

    def __init__(self, command, log, *, dialogue=False, cwd=None):
        self.log = pathlib.Path(log)
        self._peak = {'VmHWM': 0, 'RssAnon': 0}
        pipe = subprocess.PIPE if dialogue else None
        with open(self.log, 'wb') as out:
            self._child = subprocess.Popen([str(c) for c in command], stdin=pipe or subprocess.DEVNULL, stdout=pipe or out, stderr=out,
                                           text=True, cwd=cwd, start_new_session=True, preexec_fn=_limits)
        self.begin = time.monotonic()
        self._sampler = threading.Thread(target=self._watch, daemon=True)
        self._sampler.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.end()

    def ask(self, line):
        """The answer to a line."""
        self._child.stdin.write(f'{line}\n')
        self._child.stdin.flush()
        return self.answer()

    def answer(self):
        with self._ended_after(ANSWER_SECONDS):
            line = self._child.stdout.readline()
        if not line:
            raise RuntimeError(f'it ended without an answer:\n{self.tail()}')
        return line.strip()

    def is_running(self):
        return self._child.returncode is None and os.waitid(os.P_PID, self._child.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None

    def cpu(self):
        """CPU seconds so far, user and system, to 10 ms."""
        fields = pathlib.Path(f'/proc/{self._child.pid}/stat').read_text().rpartition(')')[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    def peak_mib(self, what='VmHWM'):
        """VmHWM: all that was resident at once, mapped files too. RssAnon: memory that is the process's alone."""
        return self._peak[what] / 1024

    def wait(self, seconds):
        """(CPU seconds, wall seconds) of the whole life, exactly; it must end well, and in time."""
        with self._ended_after(seconds):
            _, status, used = os.wait4(self._child.pid, 0)
        wall = time.monotonic() - self.begin
        self._child.returncode = os.waitstatus_to_exitcode(status)
        if self._child.returncode:
            raise RuntimeError(f'{" ".join(self._child.args)}\nended with {self._child.returncode}:\n{self.tail()}')
        return used.ru_utime + used.ru_stime, wall

    @contextlib.contextmanager
    def _ended_after(self, seconds):
        timer = threading.Timer(seconds, os.kill, (self._child.pid, signal.SIGKILL))
        timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def tail(self):
        with open(self.log, 'rb') as f:
            f.seek(max(0, self.log.stat().st_size - 3000))
            return f.read().decode(errors='replace')

    def end(self):
        if self._child.returncode is None:
            self._child.send_signal(signal.SIGTERM)
            try:
                self._child.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._child.kill()
                self._child.wait()
        self._sampler.join()
        for pipe in (self._child.stdin, self._child.stdout):
            if pipe:
                pipe.close()

    def _watch(self):
        with contextlib.suppress(OSError):  # it has ended
            self._sample()

    def _sample(self):
        # The kernel's own maximum (ru_maxrss) counts what the forking script had resident.
        while self._child.returncode is None:
            lines = pathlib.Path(f'/proc/{self._child.pid}/status').read_text().splitlines()
            for name, _, value in (line.partition(':') for line in lines):
                if name in self._peak:
                    self._peak[name] = max(self._peak[name], int(value.split()[0]))
            if self.log.stat().st_size >= LOG_BYTES:  # it has nothing to say any more: it goes round in circles
                os.kill(self._child.pid, signal.SIGKILL)
                return
            time.sleep(SAMPLE_SECONDS)


def _limits():
    die_with_parent()
    resource.setrlimit(resource.RLIMIT_FSIZE, (LOG_BYTES, LOG_BYTES))
