"""Holds what a consumer got against what was written and what the node has at the end."""
import base64
import collections
import json

import facts
import state
import topics
from common import Wrong, nearest, position, say
from tables import KEYSPACE
from writes import Change

# A killed node loses what it wrote behind the last sync marker, one every 100 ms unless the machine is busy.
LOST_SECONDS = 2
# Progress is saved once a second; on a busy machine a save and what is in flight take their time.
REPEATED_SECONDS = 5
NUMBERED = '1b255f4d-ef25-40a6-'


class Judge:
    """tables: {name: Table with every column it ever had}. kills: when the node was killed. ends: {segment: where its chain ended
    when the node was killed}: events from behind that are of writes which the node lost. lives: of the agent. outages: [(begin, end)]
    in which a life may give up what is in flight and read it again."""

    def __init__(self, records, tables, prefix, written_around, kills, ends, lives, outages):
        self.tables, self.prefix, self.kills, self.ends, self.lives, self.outages = tables, prefix, kills, ends, lives, outages
        self.written_around = written_around
        dead_letter_topic = f'{prefix}.dead-letter'
        self.dead = [json.loads(r.value) for r in records if r.topic == dead_letter_topic]
        self.events = self._first_of_each([r for r in records if r.topic != dead_letter_topic])

    def _first_of_each(self, records):
        """[(record, event, its facts)] without repetitions, which must be the same bytes."""
        first, last, newest, events, repeated, longest = {}, {}, {}, [], 0, 0
        for record in records:
            event = json.loads(record.value)
            if event['id'] in first:
                repeated += 1
                longest = max(longest, self._repeated_after(newest[event['id']], record, event['id']))
                newest[event['id']] = record
                if (record.topic, record.key, record.value) != first[event['id']]:
                    raise Wrong(f"{event['id']} came twice and not the same:\n  {first[event['id']]}\n  {record}")
                continue
            first[event['id']], newest[event['id']] = (record.topic, record.key, record.value), record
            place, at = (record.topic, record.key), position(event)
            if place in last and at <= last[place]:
                raise Wrong(f"{event['id']} comes first behind {last[place]} of the same key {record.key}")
            last[place] = at
            events.append((record, event, self._facts(record, event)))
        say(f'{len(events)} events of {len(last)} keys in the order of the log; {repeated} records repeat one, each the same bytes, '
            f'and of the last {longest:.1f} s before a kill or an outage')
        return events

    def _repeated_after(self, before, again, name):
        """How long before the end of its life, or an outage in it, the record was published that another one repeats."""
        life = next(life for life in reversed(self.lives) if life.start <= before.published + 0.001)
        if again.published <= life.end:
            begins = [begin for begin, end in self.outages if begin <= again.published and before.published <= end]
        else:
            begins = [life.end] if life.killed else []
        if not begins or before.published < begins[0] - REPEATED_SECONDS:
            raise Wrong(f'{name} was published at {before.published:.3f} and again at {again.published:.3f} without need: the outages '
                        f'are {self.outages}, the life of the agent was {life}')
        return max(0, begins[0] - before.published)

    def _facts(self, record, event):
        table = self.tables.get(event['table'])
        if event['keyspace'] != KEYSPACE or not table or record.topic != f"{self.prefix}.{KEYSPACE}.{event['table']}":
            raise Wrong(f"{record.topic} has an event of {event['keyspace']}.{event['table']}")
        if record.key != facts.key_text(event):
            raise Wrong(f"{event['id']}: the record's key is {record.key}, the event's {event['key']}")
        try:
            return facts.of_event(event, table, self.written_around)
        except (KeyError, TypeError, ValueError, facts.Malformed) as e:
            raise Wrong(f'not an event of the contract, {e!r}: {json.dumps(event, ensure_ascii=False)[:3000]}') from e

    def check_partitions(self):
        partition_of = topics.java_partitions({r.key for r, _, _ in self.events})
        for record, event, _ in self.events:
            if record.partition != partition_of[record.key]:
                raise Wrong(f"{event['id']}: partition {record.partition}, Java's {partition_of[record.key]}, key {record.key}")

    def check_dead_letters(self, dropped):
        """None, but of tables that were dropped before the agent could ask for their columns. Returns {table: how many}."""
        explained = collections.Counter()
        for letter in self.dead:
            table = next((name for table_id, name in dropped.items() if is_about(letter, table_id)), None)
            if not table:
                raise Wrong(f'{len(self.dead)} dead letters or gaps, such as {json.dumps(letter)[:2000]}')
            explained[table] += 1
        say(f'dead letters: {sum(explained.values())}' + (f', of dropped tables: {dict(explained)}' if explained else ''))
        return explained

    def split_off_lost(self, may_publish_lost):
        """Takes away events of writes that the node lost when it was killed; only `marked` and `written` may have such."""
        lost = [e for _, e, _ in self.events if position(e)[1] > self.ends.get(position(e)[0], float('inf'))]
        if lost and not may_publish_lost:
            raise Wrong(f"{len(lost)} events of writes that the node lost, such as {lost[0]['id']}: "
                        f"the chain of its segment ended at {self.ends[position(lost[0])[0]]}")
        ids = {e['id'] for e in lost}
        kept = [entry for entry in self.events if entry[1]['id'] not in ids]
        self.lost, self.events = [entry for entry in self.events if entry[1]['id'] in ids], kept
        say(f'{len(self.kills)} kills of the node; {len(lost)} events of writes that it lost then')

    def check_changes(self, attempts, explained):
        """Every acknowledged change is an event, and there is no event that nobody wrote."""
        got, lost = self._counted(self.events), self._counted(self.lost)
        wanted = {}  # change -> [acknowledged, may be there, how often at most]
        for attempt in attempts:
            for change in attempt.changes:
                entry = wanted.setdefault(self._comparable(change), [None, True, 0])
                if attempt.acknowledged and not attempt.optional:
                    entry[0] = attempt.acknowledged
                entry[2] = float('inf') if attempt.repeatable or self.tables[change.table].server_time else entry[2] + 1
        missing = [(c, at) for c, (at, _, _) in wanted.items() if at and not got[c] and not self._counts(c)]
        self._check_missing(missing, lost, explained, list(got))
        surplus = [c for c, n in (got + lost).items() if not self._counts(c) and n > wanted.get(c, (0, 0, 0))[2]]
        if surplus:
            raise Wrong(f'{len(surplus)} events that nobody wrote, or too often' + nearest([], surplus))
        acknowledged = sum(1 for at, _, _ in wanted.values() if at)
        say(f'{acknowledged} acknowledged changes: all there but {len(missing)} that the node lost or a dropped table took; '
            f'{len(wanted) - acknowledged} others, of which {sum(1 for c, w in wanted.items() if not w[0] and got[c])} are there')

    def _check_missing(self, missing, lost, explained, events):
        unexplained, of_dropped = [], collections.Counter()
        for change, at in missing:
            if lost[change] or any(kill - LOST_SECONDS <= at <= kill + 0.1 for kill in self.kills):
                continue
            of_dropped[change.table] += 1
            if of_dropped[change.table] > explained[change.table]:
                unexplained.append(change)
        if unexplained:
            raise Wrong(f'{len(unexplained)} acknowledged changes have no event' + nearest(unexplained, events))

    def _counts(self, change):
        return 'counter' in self.tables[change.table].columns.values()  # what its cells say is judged by the table

    def _counted(self, events):
        return collections.Counter(
            self._comparable(Change(e['table'], facts.key_of(e, self.tables[e['table']]), its)) for _, e, its in events)

    def _comparable(self, change):
        return Change(change.table, change.key, facts.comparable(change.facts, self.tables[change.table]))

    def check_tables(self, session, tables):
        """Each of these tables, with the columns it has now, is what its events make."""
        found = session.execute(f"SELECT table_name, id FROM system_schema.tables WHERE keyspace_name = '{KEYSPACE}'")
        ids = {r['table_name']: id_text(r['id']) for r in found}
        by_table = collections.defaultdict(lambda: collections.defaultdict(list))
        for _, event, its in sorted(self.events, key=lambda entry: position(entry[1])):
            if event['table_id'] == ids.get(event['table']):
                by_table[event['table']][facts.key_of(event, self.tables[event['table']])].append(its)
        rows = 0
        for table in tables:
            ours, its = state.from_events(table, by_table[table.name]), state.from_select(session, table)
            differing = [k for k in ours.keys() | its.keys() if ours.get(k) != its.get(k)]
            if differing:
                raise Wrong(f'{table.name}: {len(differing)} of {len(its)} rows differ, such as {differing[0]}:\n'
                            f'  events: {str(ours.get(differing[0]))[:2000]}\n  SELECT: {str(its.get(differing[0]))[:2000]}')
            rows += len(its)
        say(f'the events rebuild all {rows} rows of {len(tables)} tables, with write times and expiry')


def id_text(table_id):
    """A table's id as Cassandra prints it: those of 6.0 are numbers behind eight bytes that are always the same."""
    return f'tid:{table_id.int & 0xffffffffffffffff:x}' if str(table_id).startswith(NUMBERED) else str(table_id)


def is_about(letter, table_id):
    """Whether the entry in a dead letter is of this table: its id stands in it as 16 bytes."""
    entry = letter.get('entry', {}).get('base64')
    return bool(entry) and bytes.fromhex(table_id.replace('-', '')) in base64.b64decode(entry)
