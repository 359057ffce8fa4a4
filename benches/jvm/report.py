"""The tables of compare.py: medians of all runs, ratios within each round."""
import os
import pathlib
import platform
import re
import statistics
import subprocess

from node import artifacts
from node.cassandra_node import java_for

import recording

NAMES = {
    'ours json': 'ours, to Kafka, JSON', 'ours protobuf': 'ours, to Kafka, Protobuf',
    'debezium tuned': 'Debezium, tuned', 'debezium tuned hot': '- its second half',
    'debezium shipped': 'Debezium, as shipped', 'debezium shipped hot': '- its second half',
    'publish': 'JVM agent to Kafka, warm', 'publish cold': '- cold',
    'ours decode': 'ours, full decode', 'count': 'Cassandra\'s reader, count, warm', 'count cold': '- cold',
    'touch': 'Cassandra\'s reader, every byte of every cell, warm', 'touch cold': '- cold',
    'ours encode json': 'ours, decode and JSON', 'json': 'Cassandra\'s reader and Jackson, warm', 'json cold': '- cold',
    'ours encode protobuf': 'ours, decode and Protobuf'}

# What is compared, theirs by ours
CPU = (lambda r: r.cpu_per_million,) * 2
SECONDS = (lambda r: 1 / r.rate,) * 2
MEMORY = (lambda r: r.peak_mib,) * 2
MEMORY_BUT_MAPPED = MEMORY[0], lambda r: r.anonymous_mib

# Row, what, theirs, ours, at least
RATIOS = [
    ('J1', 'CPU an event, Debezium tuned : ours, JSON', CPU, 'debezium tuned', 'ours json', 15),
    ('J1', 'the same : ours, Protobuf', CPU, 'debezium tuned', 'ours protobuf', 15),
    ('J1', 'CPU an event, Debezium as shipped : ours, JSON', CPU, 'debezium shipped', 'ours json', None),
    ('J1', 'CPU an event, the second half of Debezium, tuned : ours, JSON', CPU, 'debezium tuned hot', 'ours json', None),
    ('J1b', 'CPU an event, JVM agent warm : ours, JSON', CPU, 'publish', 'ours json', 3),
    ('J1b', 'the same : ours, Protobuf', CPU, 'publish', 'ours protobuf', 3),
    ('J2', 'events/s, ours in JSON : Debezium tuned', SECONDS, 'debezium tuned', 'ours json', 10),
    ('J2', 'events/s, ours in JSON : Debezium as shipped', SECONDS, 'debezium shipped', 'ours json', 10),
    ('J2', 'events/s, ours in JSON : JVM agent warm', SECONDS, 'publish', 'ours json', None),
    ('J3', 'CPU an event, reader touching every cell, warm : our full decode', CPU, 'touch', 'ours decode', 12),
    ('J3', 'the same, cold', CPU, 'touch cold', 'ours decode', None),
    ('J3', 'CPU an event, reader counting, warm : our full decode', CPU, 'count', 'ours decode', None),
    ('J3', 'CPU an event, reader and Jackson, warm : our decode and JSON', CPU, 'json', 'ours encode json', 5),
    ('J4', 'peak memory, Debezium tuned : ours, JSON', MEMORY, 'debezium tuned', 'ours json', 20),
    ('J4', 'the same, without the segment that is mapped', MEMORY_BUT_MAPPED, 'debezium tuned', 'ours json', None),
    ('J4', 'peak memory, JVM agent : ours, JSON', MEMORY, 'publish', 'ours json', None)]


def text(results, loads, expected, binary, debezium):
    return '\n'.join([*_facts(loads, expected, binary, debezium), '', *_contestants(results, expected), '', *_ratios(results)])


def _contestants(results, expected):
    yield '| | CPU s per 1 M events | events/s | peak RSS MiB (anonymous) | bytes an event | start-up CPU s | events | runs |'
    yield '|---|---|---|---|---|---|---|---|'
    for name, title in NAMES.items():
        runs = [r for of_round in results[name] for r in of_round]
        cpu, rate = [r.cpu_per_million for r in runs], [r.rate for r in runs]
        memory = f'{max(r.peak_mib for r in runs):.0f}'
        if runs[0].anonymous_mib is not None:
            memory += f' ({max(r.anonymous_mib for r in runs):.0f})'
        size = f'{runs[0].event_bytes:,.0f}' if runs[0].event_bytes else ''
        startup = '' if runs[0].is_part else 'within' if runs[0].startup is None else f'{statistics.median(r.startup for r in runs):.1f}'
        least = min(r.events for r in runs)
        events = 'all' if least == expected else '' if runs[0].is_part else f'{least:,} of {expected:,}'
        yield (f'| {title} | **{statistics.median(cpu):.3g}** ({min(cpu):.3g}-{max(cpu):.3g}) | {_rate(statistics.median(rate))} '
               f'(best {_rate(max(rate))}) | {memory} | {size} | {startup} | {events} | {len(runs)} |')


def _ratios(results):
    yield '| Row | Ratio, median of rounds | Reached (range) | Target |'
    yield '|---|---|---|---|'
    for row, what, measure, theirs, ours, target in RATIOS:
        ratios = [statistics.median(map(measure[0], of_theirs)) / statistics.median(map(measure[1], of_ours))
                  for of_theirs, of_ours in zip(results[theirs], results[ours])]
        yield (f'| {row} | {what} | **{statistics.median(ratios):.3g}** ({min(ratios):.3g}-{max(ratios):.3g}) | '
               f"{f'≥ {target}' if target else ''} |")
    yield '| J5 | INSERT to consumer | `tests/live/latency.py` | |'
    yield '| J6, J7 | what comes out of odd cases, and of faults | `tests/peers` | nothing lost |'


def _rate(events):
    return f'{events / 1000:,.0f} k'


def _facts(loads, expected, binary, debezium):
    cpu = re.search(r'model name\s*: (.*)', pathlib.Path('/proc/cpuinfo').read_text())
    memory = os.sysconf('SC_PHYS_PAGES') * os.sysconf('SC_PAGE_SIZE') >> 30
    version = subprocess.run([binary, '--version'], capture_output=True, text=True, check=True).stdout.strip()
    java = ' and '.join(_java(j) for j in (java_for(recording.RELEASE), artifacts.java(17)))
    yield f'{os.cpu_count()} cores of {cpu[1].strip() if cpu else platform.machine()}, {memory} GiB, Linux {platform.release()}; ' \
          f"load before each round and at the end: {', '.join(f'{load:.1f}' for load in loads)}."
    yield f'{version}; Debezium for Cassandra 4 {debezium}; Cassandra {artifacts.CASSANDRA[recording.RELEASE]}; ' \
          f'Kafka {artifacts.KAFKA}; Java {java}. {expected:,} events in {recording.SEGMENTS} segments.'


def _java(java):
    return re.search(r'"(.*?)"', subprocess.run([java, '-version'], capture_output=True, text=True, check=True).stderr)[1]
