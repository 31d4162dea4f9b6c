"""One thread that owns the generator. Coroutines submit requests, take what comes of them, and may leave at any time.

    engine = Engine(lambda: Generator(lm, tokenizer, max_rows=16), max_queue=256)
    async with engine.submit([request, request]) as ticket:
        async for number, update in ticket:  # number: which of the requests
            ...

Requests wait here, not in the generator, which gets one when a row is free for it. So when a step fails, what fails with
it is what was being generated, and what waits goes on.
"""

import asyncio
import threading
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from types import TracebackType

from model.errors import Nano2Error
from model.inference.generation import Generator, Request, Update

_Item = tuple[int, Update] | Exception


class QueueFullError(Nano2Error):
    """So many requests wait that no more are taken."""


class ClosedError(Nano2Error):
    """The engine has ended, or is told to."""


class Ticket:
    """The updates of the requests that were submitted together, as (which of them, update), in the order they come.

    As an async context manager it cancels what has not ended when it is left. Iterating raises what ended the requests.
    """

    def __init__(self, engine: "Engine", requests: Sequence[Request]) -> None:
        self.loop = asyncio.get_running_loop()
        self.left = False
        self._engine = engine
        self._open = len(requests)
        self._items: asyncio.Queue[_Item] = asyncio.Queue()

    async def __aenter__(self) -> "Ticket":
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.leave()

    def __aiter__(self) -> "Ticket":
        return self

    async def __anext__(self) -> tuple[int, Update]:
        if not self._open:
            raise StopAsyncIteration
        item = await self._items.get()
        if isinstance(item, Exception):
            self._open = 0
            raise item
        self._open -= item[1].completion is not None
        return item

    def leave(self) -> None:
        """Nothing more is wanted."""
        self._engine.cancel(self)

    def put(self, item: _Item) -> None:
        """Called in the event loop."""
        self._items.put_nowait(item)


@dataclass(frozen=True)
class _Entry:
    """One request of a ticket."""

    ticket: Ticket
    number: int
    request: Request


class Engine:
    """`new_generator` is called at the start and after each step that failed, whose generator is of no use any more.
    on_failure: is told what such a step raised, in the engine's thread."""

    def __init__(
        self,
        new_generator: Callable[[], Generator],
        *,
        max_queue: int,
        on_failure: Callable[[Exception], None] = lambda _error: None,
    ) -> None:
        self._new_generator = new_generator
        self._generator = new_generator()
        self._max_queue = max_queue
        self._on_failure = on_failure
        self._changed = threading.Condition()
        self._waiting: deque[_Entry] = deque()
        self._running: dict[int, _Entry] = {}  # by the generator's number
        self._left: list[Ticket] = []  # tickets whose running requests are to be taken out
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="engine", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        """Requests that wait for a row."""
        return len(self._waiting)

    @property
    def running(self) -> int:
        """Requests that have a row."""
        return len(self._running)

    @property
    def closed(self) -> bool:
        return self._closed

    def submit(self, requests: Sequence[Request]) -> Ticket:
        """Queue requests, all or none. Raises UsageError if one cannot be generated for, QueueFullError if not all of them
        may wait, ClosedError at the end."""
        for request in requests:
            self._generator.check(request)
        ticket = Ticket(self, requests)
        with self._changed:
            if self._closed:
                raise ClosedError("the server is shutting down")
            free = self._generator.free_rows
            if len(self._waiting) + len(requests) > self._max_queue + max(0, free):
                raise QueueFullError(
                    f"{len(self._waiting)} requests are waiting, and no more than {self._max_queue} may",
                    remedy="try again later",
                )
            self._waiting += [_Entry(ticket, number, request) for number, request in enumerate(requests)]
            self._changed.notify()
        return ticket

    def cancel(self, ticket: Ticket) -> None:
        """Forget a ticket's requests."""
        with self._changed:
            ticket.left = True
            self._waiting = deque(entry for entry in self._waiting if entry.ticket is not ticket)
            self._left.append(ticket)
            self._changed.notify()

    def close(self) -> None:
        """End all requests with a ClosedError, and take no more. Returns at once; `join` waits for the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def join(self, seconds: float) -> None:
        """Wait for the step in progress to end, so long at most."""
        self._thread.join(seconds)

    def _work(self) -> None:
        while self._admit():
            try:
                updates = self._generator.step()
            except Exception as error:  # whatever it is, the requests are answered and the server stays
                self._fail(error)
                continue
            items: list[tuple[Ticket, _Item]] = []
            for update in updates:
                done = update.completion is not None
                entry = self._running.pop(update.request) if done else self._running[update.request]
                items.append((entry.ticket, (entry.number, update)))
            _hand_over(items)
        self._end_all(ClosedError("the server is shutting down", remedy="try again later"))

    def _admit(self) -> bool:
        """Wait for work, take out who left, let in who waits. False: there is to be no more."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or self._left or self._waiting or self._running)
            if self._closed:
                return False
            left, self._left = self._left, []
            for number in [number for number, entry in self._running.items() if entry.ticket in left]:
                self._generator.cancel(number)
                del self._running[number]
            while self._waiting and self._generator.free_rows:
                entry = self._waiting.popleft()
                self._running[self._generator.add(entry.request)] = entry
            return True

    def _fail(self, error: Exception) -> None:
        """End what was being generated; what waits goes on with a new generator."""
        self._on_failure(error)
        failed, self._running = self._running, {}
        self._generator = self._new_generator()
        _hand_over([(ticket, error) for ticket in {entry.ticket: None for entry in failed.values()}])
        with self._changed:  # the rest of a call that has failed in part
            gone = {entry.ticket for entry in failed.values()}
            self._waiting = deque(entry for entry in self._waiting if entry.ticket not in gone)

    def _end_all(self, error: Exception) -> None:
        with self._changed:
            entries = [*self._running.values(), *self._waiting]
            self._running, self._waiting = {}, deque()
        _hand_over([(ticket, error) for ticket in {entry.ticket: None for entry in entries}])


def _hand_over(items: Sequence[tuple[Ticket, _Item]]) -> None:
    """Put each item into its ticket, in the event loop that waits for it."""
    loops: dict[asyncio.AbstractEventLoop, list[tuple[Ticket, _Item]]] = {}
    for ticket, item in items:
        if not ticket.left:
            loops.setdefault(ticket.loop, []).append((ticket, item))
    for loop, mine in loops.items():
        with suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(_put, mine)


def _put(items: Sequence[tuple[Ticket, _Item]]) -> None:
    for ticket, item in items:
        ticket.put(item)
