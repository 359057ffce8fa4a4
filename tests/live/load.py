"""Writes that go on while servers die and come back; each attempt keeps what became of it."""
import dataclasses
import random
import threading
import time

from cassandra import DriverException, OperationTimedOut, RequestExecutionException
from cassandra.cluster import NoHostAvailable
from cassandra.connection import ConnectionException
from cassandra.query import BatchStatement, BatchType

import workload
from tables import BULK, CLAIMS, HITS
from writes import Writer

FAILURES = DriverException, OperationTimedOut, RequestExecutionException, NoHostAvailable, ConnectionException
FILL_BYTES = 100_000


@dataclasses.dataclass
class Attempt:
    """One statement. What failed may be in the table all the same: only `acknowledged` says something for certain."""
    changes: list
    repeatable: bool = False  # the batch log writes it again after a crash
    optional: bool = False  # cdc was off
    acknowledged: float = None  # when
    error: str = None


class Load(Writer):
    """A writer for one thread. `session` is replaced after each restart of the node."""

    def __init__(self, session):
        super().__init__(session)
        self.attempts, self.optional = [], False

    def connected(self, session):
        self.session = session
        self._prepared.clear()
        self._pending.clear()

    def forget_statements(self):
        """After DDL: what was prepared before has the old types."""
        self._prepared.clear()

    def settle(self):
        while self._pending:
            self._wait_for_one()

    def send_now(self, write):
        """Whether it was acknowledged, and applied if it has a condition."""
        self.settle()
        self.send(write)
        future = self._pending.pop()
        try:
            answer = future.result().one()
        except FAILURES:
            return False
        return answer is None or answer['[applied]']

    def _note(self, writes):
        before = len(self.changes)
        super()._note(writes)
        self.attempts.append(Attempt(self.changes[before:], optional=self.optional))

    def _later(self, statement):
        attempt = self.attempts[-1]
        attempt.repeatable = isinstance(statement, BatchStatement) and statement.batch_type is BatchType.LOGGED
        future = self.session.execute_async(statement)
        future.add_callbacks(lambda _: setattr(attempt, 'acknowledged', time.time()), lambda e: setattr(attempt, 'error', type(e).__name__))
        self._pending.append(future)
        if len(self._pending) >= 64:
            self._wait_for_one()

    def _wait_for_one(self):
        try:
            self._pending.popleft().result()
        except FAILURES:
            pass  # its attempt has noted it

    def bulk(self, part, n, size):
        """A row that nothing ever changes again."""
        return self.insert(BULK, {'part': part}, {'n': n}, {'data': n.to_bytes(8, 'big') + b'\xc3' * size})


class SteadyLoad(threading.Thread):
    """Writes at `rate` until told to end; waits while it is closed."""

    def __init__(self, session, seed, rate):
        super().__init__(name='load', daemon=True)
        self.load, self.rate, self.odd = Load(session), rate, True
        self._random, self._open, self._end, self._idle = random.Random(seed), threading.Event(), threading.Event(), threading.Event()
        self.failure = None

    def open(self, session=None):
        if session:
            self.load.connected(session)
        self._idle.clear()
        self._open.set()

    def close(self):
        """Returns when nothing is under way any more."""
        self._open.clear()
        if not self._idle.wait(60):
            raise RuntimeError('the writer does not come to rest')

    def end(self):
        self._end.set()
        self._open.set()
        self.join()
        if self.failure:
            raise self.failure

    def run(self):
        try:
            self._run()
        except Exception as e:
            self.failure = e
            self._idle.set()

    def _run(self):
        i, due = 0, time.monotonic()
        while not self._end.is_set():
            if not self._open.is_set():
                self.load.settle()
                self._idle.set()
                self._open.wait()
                due = time.monotonic()
                continue
            before = len(self.load.attempts)
            try:
                self._step(i)
            except FAILURES:  # preparing a statement: nothing was sent
                time.sleep(0.1)
            i += 1
            due = max(due, time.monotonic() - 1) + (len(self.load.attempts) - before) / self.rate
            time.sleep(max(0, due - time.monotonic()))
        self.load.settle()
        self._idle.set()

    def _step(self, i):
        w, r = self.load, self._random
        what = i % 10
        if what == 0:
            w.send(w.bulk(-1, i, r.randint(0, 200)))
        elif what == 1 and self.odd:
            workload.odd(w, r, i)
        elif what == 2:
            w.send_now(w.count(HITS, {'page': r.choice(workload.PAGES)}, {'day': r.randint(1, 3)}, {}, {'n': r.randint(1, 9)}))
        elif what == 3 and i % 3 == 0:
            if w.send_now(w.insert(CLAIMS, {'id': i}, None, {'owner': f'first {i}'}, condition='IF NOT EXISTS')):
                w.send_now(w.update(CLAIMS, {'id': i}, None, {'owner': f'second {i}'}, condition=f" IF owner = 'first {i}'"))
        else:
            r.choice([workload.visit, workload.member, workload.entry])(w, r, i)
