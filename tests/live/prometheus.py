"""A real Prometheus with our rules, in which an hour takes a minute: scraping one agent, asked over its HTTP API."""
import json
import pathlib
import re
import shutil
import time
import urllib.parse
import urllib.request

from common import Wrong
from node.process import Process, free_port

FASTER = 60  # every time in a rule is divided by this
SHORTEST = 10  # seconds of a range: it must hold some scrapes, one a second
SECONDS = {'s': 1, 'm': 60, 'h': 3600, 'd': 86400}


class Prometheus:
    def __init__(self, directory, rules, target):
        self._binary = shutil.which('prometheus')
        if not self._binary:
            raise Wrong('there is no prometheus here: apt-get install prometheus')
        self.directory, self.port = pathlib.Path(directory), free_port()
        self._rules, self._target = shortened(pathlib.Path(rules).read_text()), target
        self._process = Process('Prometheus', self.directory / 'prometheus.log', self.port, 'Server is ready to receive web requests')

    def start(self):
        self.directory.mkdir(parents=True)
        (self.directory / 'rules.yml').write_text(self._rules)
        config = self.directory / 'prometheus.yml'
        config.write_text(f'''global: {{scrape_interval: 1s, scrape_timeout: 1s, evaluation_interval: 1s}}
rule_files: [rules.yml]
scrape_configs:
  - job_name: cassandra-cdc
    static_configs: [{{targets: ['{self._target}']}}]
''')
        self._process.start([self._binary, f'--config.file={config}', f'--storage.tsdb.path={self.directory}/data',
                             f'--web.listen-address=127.0.0.1:{self.port}'])

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *failure):
        self._process.kill()  # nobody wants its data

    def query(self, expression):
        """The series that an expression gives now."""
        return self._ask('query', query=expression)['result']

    def rules(self):
        return [rule for group in self._ask('rules')['groups'] for rule in group['rules']]

    def alerts(self):
        return self._ask('alerts')['alerts']

    def _ask(self, what, **parameters):
        url = f'http://127.0.0.1:{self.port}/api/v1/{what}?{urllib.parse.urlencode(parameters)}'
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return json.load(answer)['data']
        except urllib.error.HTTPError as e:
            raise Wrong(f'Prometheus refuses {parameters or what}: {e.read().decode()}') from e


def shortened(rules):
    """The rules as they ship, but for their times: `for`, ranges, and every number of at least 60, which is seconds."""
    def faster(seconds):
        return f'{seconds / FASTER:g}'

    def duration(match):
        seconds = int(match[1]) * SECONDS[match[2]]
        return f'[{max(seconds // FASTER, SHORTEST)}s]'

    def expression(match):
        expr = re.sub(r'\[(\d+)([smhd])\]', duration, match[2])
        expr = re.sub(r'(?<![\w\[.])(\d+)(?![\w.])', lambda m: faster(int(m[1])) if int(m[1]) >= 60 else m[1], expr)
        return match[1] + expr + match[3]

    rules = re.sub(r'(expr:)(.*?)(\n +(?:for|labels):)', expression, rules, flags=re.S)
    return re.sub(r'(\n +for:) (\d+)([smhd])\n', lambda m: f'{m[1]} {int(m[2]) * SECONDS[m[3]] // FASTER}s\n', rules)


class Watch:
    """Notes every alert that fires, for as long as the test waits for anything."""

    def __init__(self, prometheus):
        self._prometheus, self.fired = prometheus, {}

    def look(self):
        """The names of those that fire now."""
        now = [a for a in self._prometheus.alerts() if a['state'] == 'firing']
        for alert in now:
            self.fired.setdefault(alert['labels']['alertname'], alert)
        return {a['labels']['alertname'] for a in now}

    def until(self, what, seconds, holds):
        """Waits until `holds(names)` of what fires."""
        deadline = time.monotonic() + seconds
        while not holds(names := self.look()):
            if time.monotonic() > deadline:
                raise Wrong(f'not within {seconds} s: {what}; firing: {sorted(names)}')
            time.sleep(0.3)

    def fires(self, *names, seconds=60):
        names = {f'CassandraCdc{n}' for n in names}
        self.until(f'{sorted(names)} fire', seconds, lambda _: names <= self.fired.keys())

    def ends(self, *names, seconds=60):
        names = {f'CassandraCdc{n}' for n in names}
        self.until(f'{sorted(names)} end', seconds, lambda firing: not names & firing)
