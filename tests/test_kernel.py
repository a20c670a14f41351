"""The kernel, cranked by hand: step, then assert the whole state."""

from __future__ import annotations

import gc
from collections import deque
from contextvars import ContextVar

import pytest

from minisched.errors import Cancelled, SyscallError
from minisched.kernel import Kernel, Scope, Service, Syscall, Task
from minisched.kernel.lifecycle import Lifecycle, close_body
from minisched.kernel.scoping import enter, leave
from minisched.testing.checker import check


class Give(Syscall[object]):
    """Answers at once."""

    __slots__ = ("value",)

    def __init__(self, value=None):
        self.value = value

    def handle(self, kernel, task):
        return self.value


class Wait(Syscall[object]):
    """Parks; `undone` counts how often the wait was undone."""

    __slots__ = ("undo", "undone")

    def __init__(self, undo=True):
        self.undo = undo
        self.undone = []

    def handle(self, kernel, task):
        kernel.park(task, (lambda: self.undone.append(task)) if self.undo else None)


class Do(Syscall[object]):
    """Calls a function, which stands for a handler that is right or wrong."""

    __slots__ = ("action",)

    def __init__(self, action):
        self.action = action

    def handle(self, kernel, task):
        return self.action(kernel, task)


class Unseen(Give):
    """Not a checkpoint."""

    __slots__ = ()
    checkpoint = False


@pytest.fixture
def kernel():
    return Kernel(Lifecycle)


def log_of(log, *calls):
    """Yield each call; log its answer, or the error it raised."""
    for call in calls:
        try:
            log.append((yield call))
        except BaseException as error:
            log.append(type(error).__name__)
            if isinstance(error, GeneratorExit):
                raise
    log.append("end")


def crank(kernel, turns=1):
    """Run turns one by one, with the invariants asserted between them."""
    check(kernel)
    for _ in range(turns):
        kernel.turns(1)
        check(kernel)


def states(*tasks):
    return [task.state for task in tasks]


# Turns.


def test_a_task_goes_through_its_states_one_turn_at_a_time(kernel):
    log, wait = [], Wait()
    task = kernel.spawn(log_of(log, None, Give(1), wait))
    assert (task.state, log, list(kernel.ready)) == ("ready", [], [task])
    crank(kernel)
    assert (task.state, log, task.sent) == ("ready", [], None)
    crank(kernel)
    assert (task.state, log, task.sent) == ("ready", [None], 1)
    crank(kernel)
    assert (task.state, log, task.call, list(kernel.ready)) == ("parked", [None, 1], wait, [])
    assert (task.step, task.sent) == (None, None)
    kernel.resume(task, "answer")
    assert (task.state, task.sent, task.undo, task.call) == ("ready", "answer", None, None)
    crank(kernel)
    assert (task.state, log) == ("done", [None, 1, "answer", "end"])
    assert list(kernel.tasks()) == []


def test_the_ready_queue_is_fifo_and_each_yield_costs_a_turn(kernel):
    order = []

    def body(name):
        for number in range(3):
            order.append(f"{name}{number}")
            yield Give() if number % 2 else None

    for name in "abc":
        kernel.spawn(body(name))
    crank(kernel, 12)
    assert " ".join(order) == "a0 b0 c0 a1 b1 c1 a2 b2 c2"


def test_turns_stop_at_the_limit(kernel):
    log = []
    kernel.spawn(log_of(log, *[None] * 10))
    kernel.turns(4)
    assert log == [None] * 3


def test_turns_stop_when_no_task_is_ready(kernel):
    kernel.spawn(log_of([], Wait()))
    kernel.turns(1000)
    assert (len(kernel.ready), kernel.current) == (0, None)


def test_the_state_of_the_current_task_is_ready_until_its_call_is_handled(kernel):
    seen = []

    def body():
        seen.append(task.state)
        yield Do(lambda kernel, task: seen.append(task.state))

    task = kernel.spawn(body())
    crank(kernel)
    assert (seen, kernel.current) == (["ready", "handling"], None)


def test_another_ready_queue_is_another_policy():
    class Stack(deque):
        popleft = deque.pop

    kernel, order = Kernel(Lifecycle, Stack()), []
    for name in "abc":
        kernel.spawn(log_of(order, Do(lambda kernel, task: task.name)), name)
    crank(kernel, 6)
    assert order == ["c", "end", "b", "end", "a", "end"]


def test_an_empty_ready_queue_that_is_passed_in_is_used():
    queue = deque()
    assert Kernel(Lifecycle, queue).ready is queue


def test_an_error_of_a_handler_is_raised_at_the_yield(kernel):
    def fail(kernel, task):
        raise KeyError("k")

    log = []
    kernel.spawn(log_of(log, Do(fail), Give(2)))
    crank(kernel, 3)
    assert log == ["KeyError", 2, "end"]


def test_an_error_after_a_park_undoes_the_wait_and_is_raised_at_the_yield(kernel):
    undone, log = [], []

    def park_and_fail(kernel, task):
        kernel.park(task, lambda: undone.append(task.name))
        raise OSError("full")

    task = kernel.spawn(log_of(log, Do(park_and_fail)), "worker")
    crank(kernel)
    assert (undone, task.state) == (["worker"], "ready")
    crank(kernel)
    assert log == ["OSError", "end"]


def test_a_handler_may_park_its_task_and_wake_it_again(kernel):
    def both(kernel, task):
        kernel.park(task, None)
        kernel.resume(task, 7)

    log = []
    kernel.spawn(log_of(log, Do(both)))
    crank(kernel, 2)
    assert log == [7, "end"]


def test_a_thrown_error_arrives_and_the_next_answer_is_a_value_again(kernel):
    log = []
    task = kernel.spawn(log_of(log, Wait(), Give(5)))
    crank(kernel)
    kernel.throw(task, ValueError("bad"))
    crank(kernel, 2)
    assert log == ["ValueError", 5, "end"]


def test_an_exception_as_a_value_is_a_value(kernel):
    log, error = [], ValueError()
    task = kernel.spawn(log_of(log, Wait()))
    crank(kernel)
    kernel.resume(task, error)
    crank(kernel)
    assert log == [error, "end"]


def test_a_bare_yield_returns_none_not_the_previous_answer(kernel):
    log = []
    kernel.spawn(log_of(log, Give(1), None))
    crank(kernel, 3)
    assert log == [1, None, "end"]


def test_two_tasks_may_yield_the_same_syscall(kernel):
    call = Give(3)
    log = []
    for _ in range(2):
        kernel.spawn(log_of(log, call))
    crank(kernel, 4)
    assert log == [3, "end", 3, "end"]


def test_execute_is_called_in_place_of_handle(kernel):
    kernel.execute = lambda call, kernel, task: ("replayed", call.value)
    log = []
    kernel.spawn(log_of(log, Give(1)))
    crank(kernel, 2)
    assert log == [("replayed", 1), "end"]


def test_yield_from_and_await_give_the_same_as_yield(kernel):
    log = []

    def by_generator():
        log.append((yield from Give(1)))

    async def by_coroutine():
        log.append(await Give(2))

    kernel.spawn(by_generator())
    kernel.spawn(by_coroutine())
    crank(kernel, 4)
    assert log == [1, 2]


def test_a_task_runs_in_a_copy_of_its_spawners_context(kernel):
    variable = ContextVar("variable", default="outside")
    seen = []

    def child():
        seen.append(variable.get())
        variable.set("child")
        yield
        seen.append(variable.get())

    def parent():
        variable.set("parent")
        yield Do(lambda kernel, task: kernel.spawn(child(), None, task))
        yield
        seen.append(variable.get())

    kernel.spawn(parent())
    crank(kernel, 5)
    assert (seen, variable.get()) == (["parent", "child", "parent"], "outside")


def test_a_task_has_a_path_that_is_the_same_in_every_run(kernel):
    paths = []

    def parent(depth):
        for _ in range(2 if depth else 0):
            yield Do(lambda kernel, task: kernel.spawn(parent(depth - 1), None, task))
        paths.append((yield Do(lambda kernel, task: task.path)))

    kernel.spawn(parent(2))
    kernel.turns(100)
    assert sorted(paths) == [(0,), (0, 0), (0, 0, 0), (0, 0, 1), (0, 1), (0, 1, 0), (0, 1, 1)]


def test_the_repr_of_a_task_has_path_name_and_state(kernel):
    task = kernel.spawn(log_of([], Wait(False)), "worker")
    crank(kernel)
    assert repr(task) == "<Task 0 worker parked>"


def test_a_service_is_created_once_for_each_kernel(kernel):
    class Counter(Service):
        pass

    counter = kernel.service(Counter)
    assert kernel.service(Counter) is counter and Kernel(Lifecycle).service(Counter) is not counter
    assert (counter.pending(), tuple(counter.tasks()), counter.close()) == (0, (), None)


def test_a_syscall_without_handle_cannot_be_created():
    class Empty(Syscall[None]):
        __slots__ = ()

    with pytest.raises(TypeError, match="handle"):
        Empty()


class Plain(Syscall[None]):
    """A syscall without slots."""

    def __init__(self, name, size):
        self.name, self.size = name, size

    def handle(self, kernel, task):
        return None


class Longer(Plain):
    """A syscall whose slots are one string, as Python allows."""

    __slots__ = "unit"

    def __init__(self, name, size, unit):
        super().__init__(name, size)
        self.unit = unit


class Sized(Give):
    """A syscall that adds a slot to those of its base class, and can be referenced weakly."""

    __slots__ = ("__weakref__", "size")

    def __init__(self, value, size):
        super().__init__(value)
        self.size = size


class _Private(Plain):
    """A syscall whose slots are private, and come from a dict."""

    __slots__ = {"__secret": "its documentation"}

    def __init__(self, secret):
        super().__init__("a", 1)
        self.__secret = secret


class Unprintable:
    def __repr__(self):
        raise ValueError("no text")


@pytest.mark.parametrize(
    ("call", "text"),
    [
        (Give(1), "Give(1)"),
        (_Private("hidden"), "_Private('hidden', 'a', 1)"),
        (Give(Unprintable()), "Give(<Unprintable, whose __repr__ raised ValueError: no text>)"),
        (Sized("a", 2), "Sized('a', 2)"),
        (Plain("a", 2), "Plain('a', 2)"),
        (Longer("a", 2, "MB"), "Longer('MB', 'a', 2)"),
    ],
)
def test_the_repr_of_a_syscall_has_all_its_arguments(call, text):
    assert repr(call) == text


# Misuse teaches.


def generator():
    yield


async def coroutine():
    pass


async def async_generator():
    yield


@pytest.mark.parametrize(
    ("yielded", "sentence"),
    [
        (generator, r"the function generator; a call is missing\? \(yield from generator\(...\)\)"),
        (generator(), r"a generator, generator\(\); a missing `from`\? \(yield from generator\(\)\)"),
        (coroutine(), r"a coroutine, coroutine\(\); in a generator, `yield from` a generator"),
        (Give, r"the class Give; a call is missing\? \(yield Give\(...\)\)"),
        (b"hey", r"b'hey', which is not a syscall; was it the result of a call, as of sock.recv\(10\)\?"),
        ("hey", r"'hey', which is not a syscall; yield a Syscall, or nothing to let others run"),
    ],
)  # fmt: skip
def test_yielding_no_syscall_raises_at_the_yield_and_names_the_fix(kernel, yielded, sentence):
    seen = []

    def log_of():
        try:
            yield yielded
        except SyscallError as error:
            seen.append(error)

    kernel.spawn(log_of())
    crank(kernel, 2)
    with pytest.raises(SyscallError, match=f"task 'log_of' yielded {sentence}"):
        raise seen[0]


def started():
    body = generator()
    next(body)
    return body


@pytest.mark.parametrize(
    ("body", "sentence"),
    [
        (generator, r"generator is a function, not a task: call it, generator\(...\)"),
        (started(), r"generator\(\) has been started already; a task needs a fresh one: call generator\(...\) again"),
        (async_generator(), "async_generator is an async generator, not a task: in an `async def`, `await` in place"),
        (None, "None is not a task: the function has run already, since there is no `yield` in it"),
        (Give(), r"Give\(None\) is a syscall, not a task: yield it, or put it in a generator function"),
        (7, "7 is not a task: a task is what a generator function or an `async def` returns"),
    ],
)
def test_spawning_no_task_is_refused_and_the_error_names_the_fix(kernel, body, sentence):
    with pytest.raises(SyscallError, match=sentence):
        kernel.spawn(body)
    assert list(kernel.tasks()) == []


def wrong(kernel, action):
    """Return the error that `turns` raises for a task's wrong action, although the task catches every error."""
    kernel.spawn(log_of([], Do(action)), "worker")
    with pytest.raises(SyscallError) as caught:
        kernel.turns(10)
    return str(caught.value)


def test_an_error_in_the_handle_of_another_class_is_the_cause_of_the_sentence(kernel):
    class Handled:
        def handle(self, kernel, task):
            raise ValueError("wrong size")

    seen = []

    def body(thing):
        try:
            yield thing
        except SyscallError as error:
            seen.append((str(error).partition(";")[0].endswith("which is not a syscall"), repr(error.__cause__)))

    for thing in (Handled(), "text"):
        kernel.spawn(body(thing))
    crank(kernel, 4)
    assert seen == [(True, "ValueError('wrong size')"), (True, "None")]


def test_yielding_a_task_raises_an_error_that_names_join(kernel):
    seen = []

    def main():
        try:
            yield task
        except SyscallError as error:
            seen.append(str(error))

    task = kernel.spawn(main())
    kernel.turns(5)
    assert seen == ["task 'main' yielded a task; to wait for its end, yield Join(task)"]


def test_resuming_a_task_that_is_not_parked_ends_the_run(kernel):
    other = kernel.spawn(log_of([], None), "other")
    text = wrong(kernel, lambda kernel, task: kernel.resume(other))
    assert text.startswith("task 'other' was woken while it is ready, not parked: wake a parked task once")


def test_throwing_into_a_task_that_is_not_parked_ends_the_run(kernel):
    other = kernel.spawn(log_of([], None), "other")
    assert "'other' was woken while it is ready" in wrong(kernel, lambda kernel, task: kernel.throw(other, KeyError()))


def test_resuming_a_task_twice_ends_the_run(kernel):
    def twice(kernel, task):
        kernel.park(task, None)
        kernel.resume(task)
        kernel.resume(task)

    assert "'worker' was woken while it is running, not parked" in wrong(kernel, twice)


def test_resuming_the_running_task_ends_the_run(kernel):
    assert "'worker' was woken while it is running" in wrong(kernel, lambda kernel, task: kernel.resume(task))


def test_a_broken_rule_ends_the_run_even_if_the_handler_catches_the_error(kernel):
    def swallow(kernel, task):
        try:
            kernel.resume(task)
        except SyscallError:
            pass

    assert "was woken while it is running" in wrong(kernel, swallow)


def test_the_first_broken_rule_is_the_one_that_ends_the_run(kernel):
    def break_two_rules(kernel, task):
        for rule in ("the first", "the second"):
            kernel.broken_rule(rule)

    assert wrong(kernel, break_two_rules) == "the first"


def test_parking_another_task_ends_the_run(kernel):
    other = kernel.spawn(log_of([], None), "other")
    assert "park: task 'other' is ready; a handler parks its own task, once" in wrong(
        kernel, lambda kernel, task: kernel.park(other, None)
    )


def test_parking_a_task_twice_ends_the_run(kernel):
    def twice(kernel, task):
        kernel.park(task, None)
        kernel.park(task, None)

    assert "park: task 'worker' is parked" in wrong(kernel, twice)


@pytest.mark.parametrize("answer", [None, "an answer"])
def test_parking_from_a_task_body_ends_the_run(kernel, answer):
    def body():
        yield Do(lambda kernel, task: answer)
        kernel.park(task, None)

    task = kernel.spawn(body(), "worker")
    with pytest.raises(SyscallError, match="park: task 'worker' is running; a handler parks its own task, once"):
        kernel.turns(10)


def test_a_handler_may_set_the_call_that_reports_show(kernel):
    def park(kernel, task):
        kernel.park(task, None)
        task.call = "a bus"

    task = kernel.spawn(log_of([], Do(park)))
    crank(kernel)
    assert task.call == "a bus"
    kernel.resume(task)
    assert task.call is None


def test_a_handler_that_wakes_its_task_and_then_raises_ends_the_run(kernel):
    def wake_and_raise(kernel, task):
        kernel.park(task, None)
        kernel.resume(task)
        raise ValueError("late")

    assert "woke task 'worker', then raised ValueError('late'): it can do one" in wrong(kernel, wake_and_raise)


def test_an_undo_that_raises_ends_the_run(kernel):
    def park(kernel, task):
        kernel.park(task, lambda: 1 / 0)

    task = kernel.spawn(log_of([], Do(park)), "worker")
    crank(kernel)
    with pytest.raises(SyscallError, match=r"the undo of Do\(.*\) in task 'worker' raised ZeroDivisionError"):
        kernel.cancel(task)


# Cancellation.


def test_cancelling_a_parked_task_undoes_its_wait_once_and_raises_cancelled(kernel):
    log, wait = [], Wait()
    task = kernel.spawn(log_of(log, wait))
    crank(kernel)
    kernel.cancel(task, "why")
    kernel.cancel(task, "again")
    assert (wait.undone, task.state, task.requested) == ([task], "ready", ("why", None))
    crank(kernel)
    assert log == ["Cancelled", "end"]


def test_cancelled_has_the_reason_and_the_canceller(kernel):
    caught = []

    def body():
        try:
            yield Wait()
        except Cancelled as error:
            caught.append(error)
            raise

    task, other = kernel.spawn(body(), "a"), kernel.spawn(generator(), "b")
    crank(kernel)
    kernel.cancel(task, "no more", other)
    crank(kernel, 2)
    assert (caught[0].reason, caught[0].by, str(caught[0])) == ("no more", other, "no more (by task 'b')")
    assert str(Cancelled()) == "cancelled"


def test_the_value_of_an_undo_is_the_done_of_cancelled(kernel):
    caught = []

    def body():
        try:
            yield Do(lambda kernel, task: kernel.park(task, lambda: 12))
        except Cancelled as error:
            caught.append((error.done, error.written))

    task = kernel.spawn(body())
    crank(kernel)
    kernel.cancel(task)
    crank(kernel)
    assert caught == [(12, 12)] and Cancelled(done="some").written == 0


def test_a_queued_result_is_delivered_and_cancelled_is_raised_at_the_next_checkpoint(kernel):
    log, wait = [], Wait()
    task = kernel.spawn(log_of(log, wait, Give(2), None))
    crank(kernel)
    kernel.resume(task, "item")
    kernel.cancel(task)
    crank(kernel, 3)
    assert (log, wait.undone) == (["item", "Cancelled", "Cancelled", "end"], [])


def test_the_answer_of_a_bare_yield_is_a_queued_result(kernel):
    log = []
    task = kernel.spawn(log_of(log, None, None))
    crank(kernel)
    kernel.cancel(task)
    crank(kernel, 2)
    assert log == [None, "Cancelled", "end"]


def test_at_a_checkpoint_cancelled_is_raised_before_the_call_is_handled(kernel):
    log, happened = [], []
    task = kernel.spawn(log_of(log, Do(lambda kernel, task: happened.append(1))))
    kernel.cancel(task)
    crank(kernel, 2)
    assert (log, happened) == (["Cancelled", "end"], [])


def test_a_call_that_is_not_a_checkpoint_is_handled_in_a_cancelled_task(kernel):
    log = []
    task = kernel.spawn(log_of(log, Unseen(1), Give(2)))
    kernel.cancel(task)
    crank(kernel, 3)
    assert log == [1, "Cancelled", "end"]


def test_a_task_that_was_cancelled_before_it_ran_runs_to_its_first_checkpoint(kernel):
    log = []

    def body():
        log.append("runs")
        try:
            yield
        finally:
            log.append("cleanup")

    kernel.cancel(kernel.spawn(body()))
    crank(kernel, 2)
    assert log == ["runs", "cleanup"]


def test_a_child_spawned_in_a_cancelled_scope_receives_cancelled_at_its_first_checkpoint(kernel):
    log = []
    task = kernel.spawn(log_of([], Wait()))
    kernel.cancel(task)
    kernel.spawn(log_of(log, Unseen(1), Give(2)), parent=task)
    kernel.turns(10)
    assert log == [1, "Cancelled", "end"]


def test_a_cancellation_outlasts_a_wait_without_an_undo(kernel):
    log = []
    task = kernel.spawn(log_of(log, Wait(undo=False), None))
    crank(kernel)
    kernel.cancel(task)
    assert task.state == "parked"
    kernel.resume(task, "done")
    crank(kernel, 2)
    assert log == ["done", "Cancelled", "end"]


def test_yielding_no_syscall_is_reported_in_a_cancelled_task_too(kernel):
    log = []
    task = kernel.spawn(log_of(log, 7))
    kernel.cancel(task)
    crank(kernel, 2)
    assert log == ["SyscallError", "end"]


def test_cancelling_a_task_that_is_done_changes_nothing(kernel):
    task = kernel.spawn(log_of([]))
    crank(kernel)
    kernel.cancel(task)
    assert (task.state, task.requested) == ("done", None)


def test_a_mass_cancellation_leaves_no_object_for_each_task(kernel):
    def undo():
        return None

    wait = Do(lambda kernel, task: kernel.park(task, undo))  # one for all, so that no task holds an object of its own

    def parked():
        yield wait

    parent = kernel.spawn(parked(), "parent")
    tasks = [kernel.spawn(parked(), parent=parent) for _ in range(300)]
    kernel.turns(301)
    gc.collect()
    gc.disable()
    try:
        before = len(gc.get_objects())
        kernel.cancel(parent, "enough", kernel.spawn(log_of([]), "canceller"))
        woken = len(gc.get_objects()) - before
    finally:
        gc.enable()
    assert woken < 50 and set(states(*tasks)) == {"ready"}
    kernel.turns(400)
    assert set(states(*tasks)) == {"done"}
    assert len({id(task.effective) for task in tasks}) == 1 and tasks[0].effective == ("enough", None)


@pytest.mark.parametrize("kind", ["generator", "coroutine"])
def test_a_task_that_swallows_cancelled_for_ever_is_closed(kernel, kind):
    count = []

    def stubborn():
        while True:
            try:
                yield
            except Cancelled:
                count.append(1)

    async def stubborn_coroutine():
        while True:
            try:
                await Give()
            except Cancelled:
                count.append(1)

    task = kernel.spawn(stubborn() if kind == "generator" else stubborn_coroutine(), "mule")
    kernel.cancel(task)
    kernel.turns(2000)
    assert (len(count), task.state) == (1000, "done")
    assert str(task.failure).startswith("task 'mule' swallowed 1000 Cancelleds of one cancellation and was closed")


def test_swallowed_cancelleds_are_counted_for_each_cancellation(kernel):
    count = []

    def patient():
        for _ in range(2):
            scope = Scope()
            enter(task, scope)
            kernel.cancel(scope)
            for _ in range(700):
                try:
                    yield
                except Cancelled:
                    count.append(1)
            leave(scope, None)

    task = kernel.spawn(patient())
    kernel.turns(2000)
    assert (len(count), task.failure) == (1400, None)


def test_an_error_raised_while_closing_becomes_a_note(kernel):
    def mule():
        while True:
            try:
                yield
            except Cancelled:
                pass
            except GeneratorExit:
                raise ValueError("no!") from None

    task = kernel.spawn(mule())
    kernel.cancel(task)
    kernel.turns(2000)
    assert task.failure.__notes__ == ["task 'mule' raised ValueError('no!') when it was closed"]


def test_each_invariant_is_asserted(kernel):
    task = kernel.spawn(log_of([], Wait()))
    kernel.ready.append(task)
    with pytest.raises(AssertionError, match="queued twice"):
        check(kernel)
    kernel.ready.clear()
    with pytest.raises(AssertionError, match="misplaced"):
        check(kernel)
    kernel.ready.append(task)
    task.undo = print
    with pytest.raises(AssertionError, match="has an undo"):
        check(kernel)
    task.undo, task.effective = None, ("why", None)
    with pytest.raises(AssertionError, match="does not see its cancellation"):
        check(kernel)
    task.effective = None

    class Keeper(Service):
        def tasks(self):
            return [task]

    kernel.service(Keeper)
    with pytest.raises(AssertionError, match="Keeper still holds <Task 0 log_of ready>"):
        check(kernel)


def test_a_finished_task_leaves_no_reference_cycle(kernel):
    import gc

    def parent():
        child = yield Do(lambda kernel, task: kernel.spawn(log_of([], None), None, task))
        assert isinstance(child, Task)

    while gc.collect():
        pass  # a collection may run a finalizer that leaves more garbage
    gc.disable()
    try:
        kernel.spawn(parent())
        kernel.turns(10)
        assert gc.collect() == 0
    finally:
        gc.enable()


def test_a_task_that_its_own_handler_cancelled_before_parking_it_is_woken(kernel):
    log, undone = [], []

    def cancel_and_park(kernel, task):
        kernel.cancel(task)
        kernel.park(task, lambda: undone.append(task))

    task = kernel.spawn(log_of(log, Do(cancel_and_park)))
    crank(kernel, 2)
    assert (log, undone) == (["Cancelled", "end"], [task])


def test_a_generator_that_yields_in_its_cleanup_is_closed_completely(kernel):
    log = []

    def stubborn():
        try:
            try:
                yield
            finally:
                log.append("inner")
                yield
        finally:
            log.append("outer")

    task, error = kernel.spawn(stubborn()), ValueError()
    kernel.turns(1)
    close_body(task, error)
    assert (log, task.gen.gi_frame) == (["inner", "outer"], None)
    assert "generator ignored GeneratorExit" in error.__notes__[0]


def test_a_keyboard_interrupt_in_an_undo_is_not_a_broken_rule(kernel):
    def undo():
        raise KeyboardInterrupt

    task = kernel.spawn(log_of([], Do(lambda kernel, task: kernel.park(task, undo))))
    crank(kernel)
    with pytest.raises(KeyboardInterrupt):
        kernel.cancel(task)
    assert kernel.fault is None


def test_closing_a_generator_that_always_yields_is_given_up(kernel):
    def mule():
        while True:
            try:
                yield
            except GeneratorExit:
                pass

    task, error = kernel.spawn(mule()), ValueError()
    kernel.turns(1)
    close_body(task, error)
    assert len(error.__notes__) == 20
    with pytest.raises(KeyError):
        task.gen.throw(KeyError())


def test_a_task_is_its_own_outermost_scope_and_its_own_task():
    kernel = Kernel(Lifecycle)
    task = kernel.spawn(iter_nothing())
    assert task.scope is task.task is task
    assert task.parent is kernel.root and [*kernel.root.children()] == [task]


def iter_nothing():
    yield
