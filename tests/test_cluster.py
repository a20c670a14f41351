"""`Submit` with a Dask cluster of two processes, and the demo of it."""

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
SECONDS = 20  # timeout of each wait

COUNTS = {
    "0 to 1,999": 303,
    "2,000 to 3,999": 247,
    "4,000 to 5,999": 233,
    "6,000 to 7,999": 224,
    "8,000 to 9,999": 222,
}


@pytest.fixture(scope="module")
def distributed():
    """Return the package `distributed`, or skip. In CI, MINISCHED_CLUSTER is set, and a missing package is an error."""
    if os.environ.get("MINISCHED_CLUSTER"):
        import distributed
    else:
        distributed = pytest.importorskip("distributed", reason="needs Dask: pip install -e '.[cluster]'")
    return distributed


@pytest.fixture(scope="module")
def client(distributed, tmp_path_factory):
    folder = str(tmp_path_factory.mktemp("dask"))
    cluster = distributed.LocalCluster(2, threads_per_worker=1, dashboard_address="127.0.0.1:0", local_directory=folder)
    with cluster, cluster.get_client() as client:
        # A worker makes its own client when a call first needs one. Two at once may fail in `distributed` itself.
        for address in client.scheduler_info()["workers"]:
            assert client.submit(has_client, workers=[address], pure=False).result(SECONDS)
        yield client


def has_client():
    """Return True in a worker that is connected to the scheduler by a client of its own."""
    from distributed import get_client

    return get_client() is not None


@pytest.fixture
def executor(client):
    return client.get_executor(pure=False)  # two calls of the same function with the same arguments both run


def submitting(executor, function, *args, **keywords):
    return (yield Submit(executor, function, *args, **keywords))


def joining(task):
    return (yield Join(task))


def until(condition):
    """Yield until `condition()` is true."""
    end = monotonic() + SECONDS
    while not condition():
        assert monotonic() < end, "timed out"
        yield


def block(name, folder):
    """Create a file `name`, and block the worker until the event that is named like the folder is set."""
    from distributed import Event

    (folder / name).touch()
    return Event(str(folder)).wait(SECONDS)


def test_calls_run_in_the_workers_and_the_results_are_in_order(executor, waits):
    def main():
        return (yield from gather(*(waits(Submit(executor, pow, number, 2)) for number in range(20))))

    assert run(main()) == [number * number for number in range(20)]
    assert run(waits(Submit(executor, os.getpid))) != os.getpid()


def test_an_error_in_a_worker_is_raised_in_the_task(executor):
    def main():
        with pytest.raises(ZeroDivisionError):
            yield Submit(executor, divmod, 1, 0)
        return (yield Submit(executor, divmod, 17, 5))

    assert run(main()) == (3, 2)


def test_an_abandoned_call_that_no_worker_has_started_never_runs(executor, distributed, client, tmp_path):
    def main():
        at_work = []
        for number in range(4):  # each worker runs one call and has another one queued, so it gets no more calls
            at_work.append((yield Spawn(submitting(executor, block, str(number), tmp_path))))
        yield from until(lambda: len(os.listdir(tmp_path)) == 2)
        waiting = yield Spawn(submitting(executor, block, "abandoned", tmp_path, abandon=True), keep=True)
        yield from until(lambda: waiting.state == "parked" and known_calls() == 5)
        yield Cancel(waiting)
        with pytest.raises(TaskCancelled):
            yield Join(waiting)
        assert [task.state for task in at_work] == ["parked"] * 4
        yield from until(lambda: known_calls() == 4)
        gate.set()
        answers = yield from gather(*map(joining, at_work))
        return answers, (yield Submit(executor, os.listdir, tmp_path))

    def known_calls():
        """Return the number of calls in the cluster's scheduler."""
        return client.run_on_scheduler(lambda dask_scheduler: sum("block" in key for key in dask_scheduler.tasks))

    gate = distributed.Event(str(tmp_path), client=client)
    answers, names = run(main())
    assert answers == [True] * 4 and sorted(names) == ["0", "1", "2", "3"]


def test_a_call_that_the_cluster_cancels_is_an_error(client, executor, distributed, tmp_path):
    def main():
        task = yield Spawn(submitting(executor, block, "cancelled", tmp_path), keep=True)
        yield from until(lambda: os.listdir(tmp_path))
        executor.shutdown(wait=False)
        with pytest.raises(CancelledError):
            yield Join(task)
        distributed.Event(str(tmp_path), client=client).set()  # the worker continues, as a thread does

    run(main())


def test_the_demo_counts_the_primes(distributed):
    result = finished(DEMO, "--below", 10_000)
    assert (result.returncode, result.stderr) == (0, "")
    starting, first, *lines, last = result.stdout.splitlines()
    assert starting == "starting the workers: 2"
    found = (re.fullmatch(r" *(\S+ to) +(\S+) +(\S+)", line).groups() for line in lines)
    assert {f"{low} {high}": int(primes) for low, high, primes in found} == COUNTS
    assert (first, last) == ("primes below 10,000, workers: 2", "1,229 in all")


def test_the_demo_can_be_run_by_the_command_line(distributed):
    result = finished("-m", "minisched", "run", DEMO, "100", "3", "1")
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith(
        "starting the workers: 1\nprimes below 100, workers: 1\n"
    ) and result.stdout.endswith("\n25 in all\n")


def test_on_ctrl_c_the_demo_does_not_wait_for_the_cluster(distributed):
    with started(DEMO, "--below", 10**9) as program:  # which would take hours
        program.expect("primes below .* workers: 2")
        assert program.interrupt() == 130
        assert " to " not in program.said and program.errors() == ""


def test_a_ctrl_c_while_the_cluster_starts_counts(distributed):
    """newcomer A3.19: a Ctrl-C of the first seconds was ignored for good."""
    with started(DEMO, "--below", 10**9) as program:
        program.expect("starting the workers: 2")
        assert program.interrupt() == 130
        assert " to " not in program.said and program.errors() == ""


def test_the_demo_uses_the_workers_of_a_running_scheduler(client):
    """newcomer B, cluster: "work for other machines" had no way to name them."""
    result = finished(DEMO, "--below", 10_000, "--scheduler", client.scheduler.address)
    assert (result.returncode, result.stderr) == (0, "")
    assert result.stdout.startswith("primes below 10,000, workers: 2\n") and result.stdout.endswith("1,229 in all\n")


def test_a_scheduler_that_cannot_be_reached_is_a_one_line_error(distributed):
    assert_one_line(finished(DEMO, "--scheduler", "nonsense"), "cluster_primes.py: no scheduler at nonsense: ")


def test_without_dask_the_error_names_the_package_to_install(tmp_path):
    (tmp_path / "distributed.py").write_text("raise ImportError('there is none')\n")
    result = finished(DEMO, path=[tmp_path])
    assert_one_line(result, "pip install -e '.[cluster]'", "there is none")
