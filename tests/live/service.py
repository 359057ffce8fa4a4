"""`cassandra-cdc run` as a process: configured, started, killed, stopped in mid-step, asked how it is."""
import dataclasses
import json
import os
import pathlib
import signal
import subprocess
import time
import urllib.error
import urllib.request

from common import Wrong
from node.process import die_with_parent, free_port

STOP_SECONDS = 25  # it drains for 20 at most


@dataclasses.dataclass
class Life:
    """From start to end of one process; `end` is before any signal."""
    start: float
    end: float = float('inf')
    killed: bool = False


class Service:
    """settings: {section: {key: value}} over the ones that every test needs."""

    def __init__(self, binary, directory, cassandra, kafka, settings):
        self.binary, self.directory = binary, pathlib.Path(directory)
        self.port, self.log = free_port(), self.directory / 'agent.log'
        self.spool = cassandra.data / 'cdc_spool'
        self._config, self._child, self.lives = self.directory / 'agent.toml', None, []
        self._settings = {
            'cassandra': {'yaml': str(cassandra.directory / 'conf/cassandra.yaml'), 'cdc_raw': str(cassandra.cdc_raw),
                          'contact': f'127.0.0.1:{cassandra.cql_port}'},
            'state': {'directory': str(self.directory / 'state')},
            'spool': {'directory': str(self.spool), 'min_free': '64MiB'},
            'kafka': {'bootstrap': kafka.bootstrap},
            'kafka.librdkafka': {'reconnect.backoff.max.ms': '1000'},
            'http': {'listen': f'127.0.0.1:{self.port}'},
            'log': {'level': 'info,librdkafka=info', 'format': 'text'}}
        self.configure(settings)

    def configure(self, settings):
        """From the next start on."""
        for section, keys in settings.items():
            self._settings.setdefault(section, {}).update(keys)
        self.directory.mkdir(parents=True, exist_ok=True)
        lines = []
        for section, keys in self._settings.items():
            lines += [f'[{section}]', *(f'{json.dumps(k)} = {json.dumps(v)}' for k, v in keys.items()), '']
        self._config.write_text('\n'.join(lines))

    def start(self):
        start = time.time()
        with open(self.log, 'ab') as out:
            self._child = subprocess.Popen([self.binary, 'run', '--config', self._config], stdin=subprocess.DEVNULL, stdout=out,
                                           stderr=subprocess.STDOUT, start_new_session=True, preexec_fn=die_with_parent)
        self.lives.append(Life(start))

    def kill(self):
        self.check_alive()
        self.lives[-1].end, self.lives[-1].killed = time.time(), True
        self._child.kill()
        self._child.wait()
        self._child = None

    def stop(self):
        """SIGTERM: it must drain and end with 0. Returns the seconds it took."""
        self.check_alive()
        begin = time.monotonic()
        self._child.terminate()
        try:
            status = self._child.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired as e:
            raise Wrong(f'the agent does not end within {STOP_SECONDS} s of SIGTERM\n{self.tail()}') from e
        if status != 0:
            raise Wrong(f'the agent ended with {status} after SIGTERM\n{self.tail()}')
        self._child, self.lives[-1].end = None, time.time()
        return time.monotonic() - begin

    def end(self):
        """However it is."""
        if self._child:
            self._child.kill()
            self._child.wait()

    def pause(self):
        self._child.send_signal(signal.SIGSTOP)

    def resume(self):
        self._child.send_signal(signal.SIGCONT)

    def check_alive(self):
        if self._child is None or self._child.poll() is not None:
            raise Wrong(f'the agent ended by itself with {self._child and self._child.returncode}\n{self.tail()}')

    def wait_until_ready(self, seconds=30):
        deadline = time.monotonic() + seconds
        while (answer := self.ask('/readyz'))[0] != 200:
            self.check_alive()
            if time.monotonic() > deadline:
                raise Wrong(f'the agent is not ready after {seconds} s: {answer}\n{self.tail()}')
            time.sleep(0.1)

    def ask(self, path):
        """(HTTP status, text), or (None, why)."""
        try:
            with urllib.request.urlopen(f'http://127.0.0.1:{self.port}{path}', timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as e:
            return e.code, e.read().decode()
        except OSError as e:
            return None, str(e)

    def gaps(self):
        """The gap records that it keeps, of all its lives."""
        return sorted(p.name for p in (self.directory / 'state/gaps').iterdir())

    def metric(self, name):
        """The sum of a metric over its labels."""
        status, text = self.ask('/metrics')
        if status != 200:
            raise Wrong(f'/metrics answers {status}: {text}')
        lines = [line for line in text.splitlines() if line.startswith((f'cassandra_cdc_{name}{{', f'cassandra_cdc_{name} '))]
        return sum(float(line.rpartition(' ')[2]) for line in lines)

    def anonymous_memory(self):
        """Bytes of resident memory that no file stands behind."""
        status = pathlib.Path(f'/proc/{self._child.pid}/status').read_text()
        return next(int(line.split()[1]) for line in status.splitlines() if line.startswith('RssAnon:')) * 1024

    def cpu_seconds(self):
        fields = pathlib.Path(f'/proc/{self._child.pid}/stat').read_text().rpartition(')')[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf('SC_CLK_TCK')

    def tail(self):
        return '\n'.join(self.log.read_text(errors='replace').splitlines()[-15:])
