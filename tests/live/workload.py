"""Several thousand changes of many shapes, the same in every run."""
import datetime
import decimal
import random
import uuid

from tables import AUDIT, CLAIMS, HITS, LEDGER, MEMBERS, ODD, TABLES, VISITS, KEYSPACE

TTL = 86400
ORGS = [{'org': o, 'year': y, 'part': uuid.UUID(int=n, version=4)} for o in ('acme', 'b/c', '') for y in (-1, 2026) for n in (1, 2 ** 100)]
PAGES = ['/', '/about', '/kaufen', '/日本', '/a?b=c&d="e"', '/back\\slash']


def create(session):
    session.execute(f"CREATE KEYSPACE {KEYSPACE} WITH replication = {{'class': 'SimpleStrategy', 'replication_factor': 1}}")
    session.execute(f'CREATE TYPE {KEYSPACE}.place (street text, nr int, zip text)')
    session.set_keyspace(KEYSPACE)
    for table in TABLES:
        session.execute(table.create())
    session.execute('CREATE TABLE scratch (id int PRIMARY KEY)')


def run(writer):
    r = random.Random(20)
    for step, times in [(visit, 1500), (member, 1200), (entry, 1300)]:
        for i in range(times):
            step(writer, r, i)
    hits(writer, r)
    claims(writer)
    for i in range(60):
        odd(writer, r, i)
    writer.settle()


def visit(w, r, i):
    """Wide partitions with an int key and a descending clustering column."""
    key, row = {'site': r.randint(-20, 20)}, {'at': r.randint(-500, 500)}
    w.send(w.insert(VISITS, key, row, {'page': r.choice(PAGES) + ' ' + 'x' * r.randint(0, 2500), 'ms': r.gauss(0, 1e3)}, ttl=r.choice([None, None, TTL])))
    what = r.random()
    if what < 0.1:
        w.send(w.insert(VISITS, key, row, {'page': None, 'flags': {1, 2, i}}))
    elif what < 0.2:
        w.send(w.update(VISITS, key, row, {'ms': float(i)}, ttl=TTL))
    elif what < 0.3:
        w.send(w.add(VISITS, key, row, 'flags', {i, -i}, ttl=r.choice([None, TTL])))
    elif what < 0.35:
        w.send(w.delete_row(VISITS, key, row))
    elif what < 0.4:
        w.send(w.delete_cells(VISITS, key, row, ['page', 'flags']))
    elif what < 0.47:
        low, high = sorted(r.sample(range(-500, 500), 2))
        w.send(w.delete_range(VISITS, key, {}, 'at', *r.choice([(low, high), (low, None), (None, high)])))
    elif what < 0.48:
        w.send(w.delete_partition(VISITS, key))
    elif what < 0.55:
        # One mutation of several rows and a range; the range is older than the rows that it encloses.
        w.batch(w.delete_range(VISITS, key, {}, 'at', 1000 + i, 2000 + i),
                *(w.insert(VISITS, key, {'at': 1000 + i + n}, {'page': f'batch {i}.{n}'}) for n in range(4)), logged=False)


def member(w, r, i):
    """Text keys without clustering: collections and user types; audit, which has no cdc, in the same mutations."""
    key = {'name': r.choice(['ann', 'bo', 'çelik', 'd"q', '日']) + f' {r.randint(0, 60)}'}
    what = r.random()
    if what < 0.3:
        w.send(w.insert(MEMBERS, key, None, {'age': i, 'email': f'{i}@example.org', 'tags': {'new', f't{i}'}, 'scores': {'a': i, 'b': -i},
                                             'notes': [f'n{i}', ''], 'home': place(i), 'spot': place(-i)}, ttl=r.choice([None, TTL])))
    elif what < 0.4:
        w.send(w.update(MEMBERS, key, None, {'age': r.choice([i, None]), 'spot': place(i), 'scores': {}, 'notes': [f'over {i}']}))
    elif what < 0.5:
        w.send(w.add(MEMBERS, key, None, 'notes', [f'l{i}.0', f'l{i}.1'], first=r.random() < 0.5))
    elif what < 0.58:
        w.send(w.add(MEMBERS, key, None, 'scores', {f'k{i % 5}': i}, ttl=TTL))
        w.send(w.remove(MEMBERS, key, None, 'scores', {'a', f'k{i % 3}'}))
    elif what < 0.66:
        w.send(w.remove(MEMBERS, key, None, 'tags', {'new', 'never there'}))
    elif what < 0.74:
        w.send(w.set_part(MEMBERS, key, None, 'scores', 'b', r.choice([i, None])))
        w.send(w.set_part(MEMBERS, key, None, 'spot', r.choice(['street', 'zip']), r.choice([f's{i}', None])))
    elif what < 0.8:
        w.send(w.delete_cells(MEMBERS, key, None, ['email', 'tags', 'spot', 'home']))
    elif what < 0.84:
        w.send(w.delete_partition(MEMBERS, key))
    elif what < 0.9:
        w.send(w.insert(AUDIT, key, None, {'what': f'not captured {i}'}))
    else:
        w.batch(w.insert(MEMBERS, key, None, {'age': i}), w.insert(AUDIT, key, None, {'what': f'beside {i}'}),
                *[w.update(VISITS, {'site': i}, {'at': 1}, {'page': f'with a member {i}'})] * (i % 2), logged=i % 3 > 0)


def entry(w, r, i):
    """A key of three columns, statics, two clustering columns of which one descends."""
    key, row = r.choice(ORGS), {'account': r.choice(['cash', 'bank', 'dé pôt']), 'seq': r.randint(-30, 30)}
    paid = datetime.datetime(1970, 1, 1) + datetime.timedelta(milliseconds=r.randint(-10 ** 12, 3 * 10 ** 12))
    values = {'amount': decimal.Decimal(r.randint(-10 ** 20, 10 ** 20)).scaleb(-r.randint(0, 9)), 'memo': f'entry {i}', 'ok': i % 2 == 0,
              'paid': paid, 'proof': r.randbytes(r.randint(0, 120))}
    what = r.random()
    if what < 0.5:
        w.send(w.insert(LEDGER, key, row, values, {'total': i * 2 ** 40} if i % 4 == 0 else None, ttl=r.choice([None, None, TTL])))
    elif what < 0.6:
        w.send(w.update(LEDGER, key, row, {'amount': values['amount'], 'memo': None}, {'owner': f'o{i}'}))
    elif what < 0.68:
        w.send(w.insert(LEDGER, key, None, statics={'total': -i, 'owner': f'static {i}', 'labels': {f'l{i}'}}, ttl=r.choice([None, TTL])))
    elif what < 0.74:
        w.send(w.add(LEDGER, key, None, 'labels', {f'more{i}', 'x'}))
    elif what < 0.78:
        w.send(w.delete_cells(LEDGER, key, None, ['total', 'labels']))
    elif what < 0.84:
        w.send(w.delete_range(LEDGER, key, {'account': row['account']}, 'seq', r.choice([row['seq'], None]), row['seq'] + 5))
    elif what < 0.86:
        w.send(w.delete_range(LEDGER, key, {'account': row['account']}))
    elif what < 0.88:
        w.send(w.delete_range(LEDGER, key, {}, 'account', 'c', 'd'))
    elif what < 0.93:
        w.send(w.delete_row(LEDGER, key, row))
    elif what < 0.94:
        w.send(w.delete_partition(LEDGER, key))
    else:
        w.batch(w.delete_partition(LEDGER, key), w.insert(LEDGER, key, row, values, {'owner': f'after all {i}'}),
                w.insert(LEDGER, {**key, 'year': i}, row, {'memo': f'other partition {i}'}))


def hits(w, r):
    """Counters, one after the other: each cell then carries the total so far."""
    totals = {}
    for i in range(150):
        key, row = {'page': r.choice(PAGES)}, {'day': r.randint(1, 3)}
        of_row = totals.setdefault((key['page'], row['day']), {})
        w.send_now(w.count(HITS, key, row, of_row, {'n': r.randint(1, 9)} if i % 3 else {'n': 1, 'm': -r.randint(1, 10 ** 12)}))
        if i % 10 == 0:
            other = {'day': row['day'] + 10}
            w.batch(w.count(HITS, key, row, of_row, {'n': 1}),
                    w.count(HITS, key, other, totals.setdefault((key['page'], other['day']), {}), {'n': 100}), counter=True)
            w.settle()


def claims(w):
    """Conditional writes; one that does not apply leaves no change."""
    for i in range(60):
        w.send_now(w.insert(CLAIMS, {'id': i * 2 ** 33}, None, {'owner': f'first {i}'}, condition='IF NOT EXISTS'))
        if i % 3 == 0:
            again = w.insert(CLAIMS, {'id': i * 2 ** 33}, None, {'owner': 'too late'}, condition='IF NOT EXISTS')
            w.send_now(again)
            w.changes.pop()
        if i % 4 == 0:
            w.send_now(w.update(CLAIMS, {'id': i * 2 ** 33}, None, {'owner': f'second {i}'}, condition=f" IF owner = 'first {i}'"))


def odd(w, _, i):
    """Names that need quotes, and a key that is a moment."""
    key = {'Key': datetime.datetime(1969, 12, 31, 23, 59, 59) + datetime.timedelta(seconds=i % 7)}
    w.send(w.insert(ODD, key, {'select': f'from {i}'}, {'größe': i}))
    if i % 5 == 0:
        w.send(w.delete_row(ODD, key, {'select': f'from {i - 3}'}))


def place(i):
    return {'street': f'{i} Street', 'nr': i, 'zip': None if i % 2 else f'z{i}'}
