"""The plain calls of a task: do_now, current_task, current_kernel and cancel_requested."""

from __future__ import annotations

import random
import threading

import pytest
from forms import in_thread
from helpers import pair

from minisched import (
    Cancel,
    Cancelled,
    CancelScope,
    Connect,
    CurrentTask,
    Event,
    FutureOperation,
    InThread,
    Join,
    JoinAll,
    Listen,
    Lock,
    MoveOnAfter,
    Now,
    Portal,
    Queue,
    Read,
    Scope,
    Selectable,
    Semaphore,
    Shield,
    Sleep,
    SleepUntil,
    Spawn,
    Syscall,
    SyscallError,
    Task,
    TaskCancelled,
    TimedOut,
    Timeout,
    Timers,
    WaitSignal,
    WouldBlock,
    Write,
    cancel_requested,
    current_kernel,
    current_task,
    do_now,
    gather,
    group,
    select,
)
from minisched.kernel.waiting import Begun
from minisched.testing import run


def outside(function):
    """Return the text of the SyscallError that a plain call raises."""
    with pytest.raises(SyscallError) as caught:
        function()
    return str(caught.value)


PLAIN = [current_kernel, current_task, cancel_requested, lambda: do_now(Now())]
NO_RUN = "no run is in this thread: call this in a task; in another thread, use a Portal"
BETWEEN_TURNS = "no task is running: this is a callback between two turns; give it the task"


@pytest.mark.parametrize("call", PLAIN)
def test_a_plain_call_needs_a_run_in_its_thread(call):
    def main():
        with pytest.raises(SyscallError, match=f"^{NO_RUN}$"):
            yield InThread(call)
        call()
        return isinstance(in_thread(call), SyscallError)

    assert outside(call) == NO_RUN
    assert run(main())
    assert outside(call) == NO_RUN


@pytest.mark.parametrize("call", PLAIN[1:])
def test_a_callback_between_two_turns_has_no_task(call):
    texts = []

    def main():
        timers = current_kernel().service(Timers)
        timers.call_at(timers.now() + 1, lambda: texts.extend([outside(call), current_kernel() is timers.kernel]))
        yield Sleep(2)

    run(main())
    assert texts == [BETWEEN_TURNS, True]


def test_current_task_and_current_kernel_are_those_of_the_running_task(waits):
    found = []

    class Look(Syscall):
        def handle(self, kernel, task):
            found.append((current_task() is task, current_kernel() is kernel))

    def main():
        task = yield CurrentTask()
        found.append((current_task() is task, current_kernel() is task.kernel))
        yield Join((yield Spawn(waits(Look(), Sleep(1), Look()))))
        found.append((current_task() is task, True))

    run(main())
    assert found == [(True, True)] * 4


def test_each_thread_has_its_own_run():
    def main(name):
        yield Sleep(0.01)
        return current_task().name == name and (yield CurrentTask()).kernel is current_kernel()

    assert [in_thread(lambda: run(main("main"))) for _ in range(2)] == [True, True]


def test_cancel_requested_is_what_the_next_checkpoint_does():
    def main():
        seen = []
        with (yield CancelScope()) as scope:
            seen.append(cancel_requested())
            scope.cancel()
            seen.append(cancel_requested())
            with (yield Shield(1)):
                seen.append(cancel_requested())
                yield
            seen.append(cancel_requested())
            with pytest.raises(Cancelled):
                yield
            seen.append(cancel_requested())
        seen.append(cancel_requested())
        return seen

    assert run(main()) == [False, True, False, True, True, False]


def test_scopes_are_entered_without_a_yield():
    turns = []

    def main():
        task = current_task()
        yield Spawn(counting(task))
        with do_now(CancelScope()) as scope, do_now(Shield(None)):
            assert task.scope.parent is scope
            assert turns == [1]
        yield Cancel(task.kernel.ready[0])
        with do_now(MoveOnAfter(1)) as scope:
            yield Sleep(60)
        assert scope.cancelled_caught
        with pytest.raises(TimedOut), do_now(Timeout(1)):
            yield Sleep(60)
        return do_now(Now())

    def counting(task):
        while True:
            turns.append(1)
            yield

    assert run(main()) == 2.0


def test_children_are_spawned_without_a_yield(waits):
    def main():
        def body(team):
            for number in range(3):
                children.append(do_now(team.spawn(waits(Sleep(number)), f"child {number}")))
            yield

        children = [do_now(Spawn(waits(Sleep(5)), "alone"))]
        assert children[0].spawner is current_task() and children[0].state == "ready"
        yield from group(body)
        return [(child.name, child.state) for child in children], do_now(Now())

    done = [(f"child {number}", "done") for number in range(3)]
    assert run(main()) == ([("alone", "parked"), *done], 2.0)


def test_a_task_is_cancelled_without_a_yield(waits):
    def main():
        child = yield Spawn(waits(Sleep(60)))
        assert do_now(Cancel(child, "enough")) is None
        with pytest.raises(TaskCancelled, match="enough"):
            yield Join(child)
        assert isinstance(do_now(CurrentTask()), type(child))

    run(main())


def test_a_failure_of_the_call_is_raised():
    def main():
        with pytest.raises(TypeError):
            do_now(MoveOnAfter("soon"))
        with pytest.raises(SyscallError, match=r"^Cancel takes a task"):
            do_now(Cancel(5))
        child = yield Spawn(failing(), keep=True)
        yield
        with pytest.raises(ZeroDivisionError):
            do_now(Join(child))

    def failing():
        yield
        return 1 / 0

    run(main())


def test_the_call_is_not_a_checkpoint(waits):
    """A cancelled task cleans up by such calls: nothing is raised but at a yield."""

    def main():
        with (yield CancelScope()) as scope:
            scope.cancel()
            queue = Queue()
            do_now(queue.put("item"))
            item = do_now(queue.get())
            yield
        return item

    assert run(main()) == "item"


class Wakes(FutureOperation):
    """A call that would start a thread."""

    def start(self, kernel, task):
        raise AssertionError("the work was started")


class Parks(Syscall):
    """A call of a program's own that parks its task."""

    def __init__(self, log, undo=True, swallow=False):
        self.log = log
        self.undo = undo
        self.swallow = swallow

    def handle(self, kernel, task):
        self.log.append("waits")
        try:
            kernel.park(task, self.log.pop if self.undo else None)
        except WouldBlock:
            if not self.swallow:
                raise
        return None

    def __repr__(self):
        return "Parks()"


def held():
    lock = Lock()
    do_now(Spawn(holding(lock)))
    return lock


def holding(lock):
    yield lock.acquire()
    yield Event().wait()


WAITING = {
    "sleep": lambda: Sleep(1),
    "sleep until": lambda: SleepUntil(do_now(Now()) + 1),
    "get": lambda: Queue().get(),
    "event": lambda: Event().wait(),
    "join": lambda: Join(do_now(Spawn(holding(Lock())))),
    "join all": lambda: (do_now(Spawn(holding(Lock()))), JoinAll())[1],
    "select": lambda: select(Sleep(1), Queue().get()),
    "thread": lambda: InThread(threading.get_ident),
    "future": Wakes,
    "connect": lambda: Connect(("127.0.0.1", 1)),
    "signal": lambda: WaitSignal(12),
    "own": lambda: Parks([]),
    "own, without an undo": lambda: Parks([], undo=False),
    "own, which swallows the error": lambda: Parks([], swallow=True),
}


@pytest.mark.parametrize("call", WAITING)
def test_a_call_that_has_to_wait_raises_would_block_and_leaves_nothing(call):
    def main():
        task = current_task()
        made = WAITING[call]()
        threads = threading.active_count()
        with pytest.raises(WouldBlock, match=r"would have to wait: yield it$"):
            do_now(made)
        assert (task.state, task.undo, task.call) == ("ready", None, None)
        assert threading.active_count() == threads
        assert "park" not in vars(task.kernel)
        waiting = [other for service in task.kernel.services.values() for other in service.tasks()]
        assert task not in waiting
        if isinstance(made, Parks):
            assert made.log == (["waits"] if made.undo is False else [])
        with (yield MoveOnAfter(0.001)):
            yield Sleep(1)
        with do_now(CancelScope()) as scope:
            scope.cancel()
            yield
        yield Cancel(task)
        yield

    with pytest.raises(TaskCancelled):
        run(main())


def test_a_lock_that_another_task_owns_is_not_acquired():
    def main():
        lock = held()
        yield
        with pytest.raises(WouldBlock):
            do_now(lock.acquire())
        assert not lock.waiters
        with do_now(Lock().acquire()) as free:
            assert free.owner is current_task()
        with do_now(Semaphore(1).acquire()):
            pass
        yield Cancel(current_task())
        yield

    with pytest.raises(TaskCancelled):
        run(main())


def test_files_are_read_but_not_written():
    def main():
        near, far = pair()
        with near, far:
            with pytest.raises(WouldBlock):
                do_now(Read(near, 10))
            far.send(b"data")
            assert do_now(Read(near, 10)) == b"data"
            for call in (Write(near, b"x"), select(Read(near, 1), Write(near, b"x"))):
                with pytest.raises(SyscallError, match=r"may happen in part before it has to wait: yield it$"):
                    do_now(call)
            far.setblocking(False)
            with pytest.raises(BlockingIOError):
                far.recv(1)
            with do_now(Listen(("127.0.0.1", 0))) as listener:
                assert listener.fileno() > 0
            with do_now(Portal()) as portal:
                assert portal
        yield

    run(main())


class Partly(Selectable):
    def try_now(self, kernel, task):
        return Begun(lambda kernel, waiter: lambda: None)

    def add_waiter(self, kernel, waiter):
        raise AssertionError

    def __repr__(self):
        return "Partly()"


NO_CALLS = {
    "Partly() has happened in part: its class has to say so, by `in_steps = True`": Partly,
    "do_now takes a syscall, not 5": lambda: 5,
    "do_now takes a syscall, not None": lambda: None,
    "do_now takes a syscall, not Now itself; a call is missing? (do_now(Now(...)))": lambda: Now,
    "do_now takes a syscall, not get itself; a call is missing? (do_now(get(...)))": lambda: Queue().get,
    "do_now takes a syscall; gather() takes several turns: `yield from` or `await` it": lambda: gather(),
    "do_now takes a syscall; holding() takes several turns: `yield from` or `await` it": lambda: holding(Lock()),
}


@pytest.mark.parametrize("text", NO_CALLS)
def test_anything_but_a_call_is_refused(text):
    def main():
        assert outside(lambda: do_now(NO_CALLS[text]())) == text
        yield

    run(main())


def test_a_handler_is_not_a_task():
    class Nested(Syscall):
        def handle(self, kernel, task):
            return outside(lambda: do_now(Now()))

    def main():
        return (yield Nested())

    assert run(main()) == "do_now(Now()) in the handler of a syscall: do it in the body of a task"


def test_a_task_that_is_being_closed_spawns_nothing():
    texts = []

    def child():
        try:
            yield Sleep(60)
        finally:
            texts.append(outside(lambda: do_now(Spawn(child()))))
            texts.append(current_task().name)

    class Bad(Syscall):
        def handle(self, kernel, task):
            raise kernel.broken_rule("the end")

    def main():
        yield Spawn(child())
        yield
        yield Bad()

    with pytest.raises(SyscallError, match=r"^the end$"):
        run(main())
    assert texts == ["do_now(Spawn(child)) in a task that is being closed: do it in the body of a task", "child"]


def test_a_ctrl_c_in_a_call_ends_the_run_although_the_task_goes_on():
    class Interrupted(Syscall):
        def handle(self, kernel, task):
            raise KeyboardInterrupt("the first")

    def main():
        try:
            do_now(Interrupted())
        except KeyboardInterrupt:
            log.append("in the task")
        yield Sleep(1)
        log.append("after its turn")

    log = []
    with pytest.raises(KeyboardInterrupt, match="the first"):
        run(main())
    assert log == ["in the task"]


def test_an_instrument_that_replaces_park_stays():
    def main():
        kernel = current_kernel()
        usual = kernel.park
        kernel.park = replaced = lambda task, undo: usual(task, undo)
        with pytest.raises(WouldBlock):
            do_now(Parks([]))
        yield Sleep(1)
        return kernel.park is replaced

    assert run(main())


# Random sequences: each step by a yield in one task, and without one in another, has the same results.


class State:
    """The objects that a sequence of steps uses."""

    def __init__(self):
        self.queue = Queue(2)
        self.semaphore = Semaphore(2)
        self.event = Event("event")
        self.scopes = []
        self.children = []


def child():
    yield Event("never").wait()


def steps(state, choose):
    """Return a random step: a name, and the call."""
    made = {
        "now": Now,
        "task": CurrentTask,
        "put": lambda: state.queue.put(choose.random()),
        "get": lambda: state.queue.get(),
        "acquire": lambda: state.semaphore.acquire(),
        "event": lambda: state.event.wait(),
        "spawn": lambda: Spawn(child(), daemon=True),
        "scope": CancelScope,
        "move on": lambda: MoveOnAfter(choose.randrange(3)),
        "shield": lambda: Shield(None),
        "select": lambda: select(state.event.wait(), state.queue.get()),
        "cancel": lambda: Cancel(choose.choice(state.children)) if state.children else Now(),
        "join": lambda: Join(choose.choice(state.children)) if state.children else Now(),
        "join all": JoinAll,
        "bad": lambda: Cancel(None),
    }
    name = choose.choice([*made])
    return name, made[name]()


WAITS = object()


def yielded(call):
    """Do a call by a yield; return WAITS if it has parked the task."""
    with (yield Shield(None)):  # a checkpoint raises nothing then
        with (yield MoveOnAfter(1)) as scope:
            answer = yield call
    return WAITS if scope.cancelled_caught else answer


def at_once(call):
    yield from ()
    try:
        return do_now(call)
    except WouldBlock:
        return WAITS


def played(seed, do):
    """Return the answers to the steps of a seed."""
    choose = random.Random(seed)
    state, log = State(), []

    def main():
        for _ in range(30):
            name, call = steps(state, choose)
            try:
                answer = yield from do(call)
            except (SyscallError, TaskCancelled) as error:
                answer = repr(error)
            if name == "spawn":
                state.children.append(answer)
            if isinstance(answer, Scope) and not isinstance(answer, Task):
                with answer:
                    assert current_task().scope is answer
            log.append((name, outcome(answer), outcome(state)))
            if choose.random() < 0.1:
                state.event.set()
            with do_now(Shield(None)):
                yield Sleep(1)  # tasks that the step has woken or cancelled have their turns

    run(main())
    return log


def outcome(answer):
    """Return a text without addresses and times."""
    if answer is WAITS:
        return "waits"
    if isinstance(answer, float):
        return "number"
    if isinstance(answer, State):
        return len(answer.queue.items), answer.semaphore.value, len(answer.queue.waiters)
    if isinstance(answer, tuple):
        return answer[0], outcome(answer[1])
    return str(answer) if isinstance(answer, str) else type(answer).__name__


@pytest.mark.parametrize("seed", range(60))
def test_a_random_sequence_answers_the_same_with_and_without_yields(seed):
    assert played(seed, at_once) == played(seed, yielded)
