"""Submit to a Dask cluster of two processes, and the demo that does."""

from __future__ import annotations

import os
import re
from concurrent.futures import CancelledError
from time import monotonic

import pytest
from programs import ROOT, assert_one_line, finished, started

from minisched import Cancel, Join, Spawn, Submit, TaskCancelled, gather
from minisched.testing import run

pytestmark = pytest.mark.slow
DEMO = ROOT / "demos" / "cluster_primes.py"
SECONDS = 20  # after which a test has failed

COUNTS = {
    "0 to 1,999": 303,
    "2,000 to 3,999": 247,
    "4,000 to 5,999": 233,
    "6,000 to 7,999": 224,
    "8,000 to 9,999": 222,
}


@pytest.fixture(scope="module")
def distributed():
    """The package; where MINISCHED_CLUSTER is set, as in a step of CI, it has to be there."""
    if os.environ.get("MINISCHED_CLUSTER"):
        import distributed
    else:
        distributed = pytest.importorskip("distributed", reason="needs Dask: pip install minisched[cluster]")
    return distributed


@pytest.fixture(scope="module")
def client(distributed, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("dask"))
    cluster = distributed.LocalCluster(2, threads_per_worker=1, dashboard_address="127.0.0.1:0", local_directory=folder)
    with cluster, cluster.get_client() as client:
        yield client


@pytest.fixture
def executor(client):
    return client.get_executor(pure=False)  # two calls are two, even of the same function with the same arguments


def submitting(executor, function, *args, **keywords):
    return (yield Submit(executor, function, *args, **keywords))


def joining(task):
    return (yield Join(task))


def until(condition):
    """Let the others run until `condition()` is true."""
    end = monotonic() + SECONDS
    while not condition():
        assert monotonic() < end, "it never came true"
        yield


def held_up(name, folder):
    """Be what a worker does until the event is set that the folder names; leave a file to say that it has begun."""
    from distributed import Event

    (folder / name).touch()
    return Event(str(folder)).wait(SECONDS)


def test_work_is_done_by_the_workers_and_the_answers_come_in_order(executor, waits):
    def main():
        return (yield from gather(*(waits(Submit(executor, pow, number, 2)) for number in range(20))))

    assert run(main()) == [number * number for number in range(20)]
    assert run(waits(Submit(executor, os.getpid))) != os.getpid()


def test_an_error_in_a_worker_is_raised_at_the_task(executor):
    def main():
        with pytest.raises(ZeroDivisionError):
            yield Submit(executor, divmod, 1, 0)
        return (yield Submit(executor, divmod, 17, 5))

    assert run(main()) == (3, 2)


def test_an_abandoned_call_that_no_worker_has_begun_is_never_made(executor, distributed, client, tmp_path):
    def main():
        at_work = []
        for number in range(4):  # of which each worker has one at work and one in line: no other is given to it
            at_work.append((yield Spawn(submitting(executor, held_up, str(number), tmp_path))))
        yield from until(lambda: len(os.listdir(tmp_path)) == 2)
        waiting = yield Spawn(submitting(executor, held_up, "abandoned", tmp_path, abandon=True), keep=True)
        yield from until(lambda: waiting.state == "parked" and known() == 5)
        yield Cancel(waiting)
        with pytest.raises(TaskCancelled):
            yield Join(waiting)
        assert [task.state for task in at_work] == ["parked"] * 4
        yield from until(lambda: known() == 4)
        gate.set()
        answers = yield from gather(*map(joining, at_work))
        return answers, (yield Submit(executor, os.listdir, tmp_path))

    def known():
        """Return of how many calls the cluster knows."""
        return client.run_on_scheduler(lambda dask_scheduler: sum("held_up" in key for key in dask_scheduler.tasks))

    gate = distributed.Event(str(tmp_path), client=client)
    answers, names = run(main())
    assert answers == [True] * 4 and sorted(names) == ["0", "1", "2", "3"]


def test_a_call_that_the_cluster_cancels_is_an_error(client, executor, distributed, tmp_path):
    def main():
        task = yield Spawn(submitting(executor, held_up, "cancelled", tmp_path), keep=True)
        yield from until(lambda: os.listdir(tmp_path))
        executor.shutdown(wait=False)
        with pytest.raises(CancelledError):
            yield Join(task)
        distributed.Event(str(tmp_path), client=client).set()  # the worker goes on all the same, as any thread does

    run(main())


def test_the_demo_counts_the_primes(distributed):
    result = finished(DEMO, "--below", 10_000)
    assert (result.returncode, result.stderr) == (0, "")
    first, *lines, last = result.stdout.splitlines()
    found = (re.fullmatch(r" *(\S+ to) +(\S+) +(\S+)", line).groups() for line in lines)
    assert {f"{low} {high}": int(primes) for low, high, primes in found} == COUNTS
    assert (first, last) == ("primes below 10,000, workers: 2", "1,229 in all")


def test_the_demo_is_run_by_the_command_too(distributed):
    result = finished("-m", "minisched", "run", DEMO, "100", "3", "1")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("primes below 100, workers: 1\n") and result.stdout.endswith("\n25 in all\n")


def test_the_demo_does_not_wait_for_the_cluster_on_ctrl_c(distributed):
    with started(DEMO, "--below", 10**9) as program:  # which would take hours
        program.expect("workers: 2")
        assert program.interrupt() == 130
        assert " to " not in program.said and program.errors() == ""


def test_the_demo_says_what_it_needs(tmp_path):
    (tmp_path / "distributed.py").write_text("raise ImportError('there is none')\n")
    result = finished(DEMO, path=[tmp_path])
    assert_one_line(result, "pip install minisched[cluster]", "there is none")
