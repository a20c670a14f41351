"""A run that leaves nothing behind: when main has ended, however it did, nobody waits for anything any more."""

from __future__ import annotations

from minisched import Timers, Watcher, testing
from minisched.family import Family


def run(main, watch=(), **keywords):
    """Run in virtual time; assert that main's end left no timer, no task, and nobody to be told of an end."""
    leaks = Leaks()
    try:
        return testing.run(main, watch=[leaks, *watch], **keywords)
    finally:
        assert leaks.found == []


class Leaks(Watcher):
    """What is still there when main has ended."""

    def start(self, kernel):
        self.kernel = kernel
        self.found = ["main, which did not end"]

    def exit(self, task):
        if task.spawner is None:
            timers, family = self.kernel.service(Timers), self.kernel.service(Family)
            self.found = [*timers.alive(), *self.kernel.root.children(), *self.kernel.ready]
            for waiting in (family.at_end, family.at_body_end, family.joiners, family.joining_all):
                self.found += waiting
            for service in self.kernel.services.values():
                self.found += service.tasks()
