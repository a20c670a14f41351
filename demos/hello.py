"""Three tasks that take turns: the smallest program that shows a scheduler at work.

Shows: a task is a generator. `yield Spawn(...)` starts another task, `yield Sleep(...)` lets the other
tasks run meanwhile, `yield Join(...)` waits for a task to finish and returns its result.

Run it:    python demos/hello.py
Watch it:  minisched run --trace demos/hello.py
"""

import argparse

import console

from minisched import Join, Sleep, Spawn, run


def greet(name, seconds):
    print(f"hello from {name}")
    yield Sleep(seconds)
    print(f"{name} slept {seconds} s")
    return len(name)


def main():
    ada = yield Spawn(greet("Ada", 0.2), "Ada")
    grace = yield Spawn(greet("Grace", 0.1), "Grace")
    print("main waits for both")
    letters = (yield Join(ada)) + (yield Join(grace))
    print(f"{letters} letters in all")


if __name__ == "__main__":
    argparse.ArgumentParser(description="Three tasks that take turns.").parse_args()
    with console.quiet_end():
        run(main())
