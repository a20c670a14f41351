"""Stage 1, round robin: tasks are generators, and a loop lets each run to its next `yield`, over and over.

Shows: all of what a scheduler does at heart. A task gives up the processor of its own will; who comes first is
served first.
The bug: a task that fails takes all others along, which had nothing to do with it. (Nor can a task ask for anything:
what it yields is dropped.) Stage 2 keeps apart what a task is and what it runs.

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
        print(f"  the loop ends: {error}; {len(kernel.ready)} task was ready, and never runs again")


if __name__ == "__main__":
    main()
    print("-- the bug: one fails, and all are gone --")
    bug()
