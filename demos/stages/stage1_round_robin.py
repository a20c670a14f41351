"""Stage 1, round robin: tasks are generators, and a loop runs each of them to its next `yield`, in turn.

Shows: the core of every cooperative scheduler. A task gives up the processor voluntarily, at a `yield`, and goes to
the back of a FIFO queue.
The bug: one task that fails ends the loop, and with it all other tasks. (A task cannot ask for anything either: the
loop ignores the yielded value.) Stage 2 separates the task from the generator that it runs.

Run it:    python demos/stages/stage1_round_robin.py
"""

from collections import deque


class Kernel:
    """Generators that take turns."""

    def __init__(self):
        self.ready = deque()

    def spawn(self, gen):
        self.ready.append(gen)

    def run(self):
        while self.ready:
            task = self.ready.popleft()
            try:
                next(task)
            except StopIteration:
                continue
            self.ready.append(task)


# The demonstration.


def count(name, most):
    for number in range(1, most + 1):
        print(f"  {name} {number}")
        yield


def broken():
    yield
    raise ValueError("no luck")


def main():
    print("Two tasks take turns:")
    kernel = Kernel()
    kernel.spawn(count("Ada", 2))
    kernel.spawn(count("Grace", 3))
    kernel.run()


def bug():
    kernel = Kernel()
    kernel.spawn(broken())
    kernel.spawn(count("Ada", 3))
    try:
        kernel.run()
    except ValueError as error:
        print(f"  the loop has ended: {error}; {len(kernel.ready)} task was ready and never runs again")


if __name__ == "__main__":
    main()
    print("-- the bug: one task fails, and all tasks end --")
    bug()
