"""Runs that leave nothing behind: after the end of main there is no waiting task, no timer and no callback."""

from __future__ import annotations

from minisched import Timers, Watcher, testing
from minisched.kernel.lifecycle import Lifecycle


def run(main, watch=(), **keywords):
    """Run in virtual time; assert that the end of main leaves no timer, no task and no callback."""
    leaks = Leaks()
    try:
        return testing.run(main, watch=[leaks, *watch], **keywords)
    finally:
        assert leaks.found == []


class Leaks(Watcher):
    """Records what is left when main has ended."""

    def start(self, kernel):
        self.kernel = kernel
        self.found = ["main, which did not end"]

    def exit(self, task):
        if task.spawner is None:
            timers, lifecycle = self.kernel.service(Timers), self.kernel.service(Lifecycle)
            self.found = [*timers.alive(), *self.kernel.root.children(), *self.kernel.ready]
            for waiting in (lifecycle.on_done, lifecycle.on_body_end, lifecycle.joiners, lifecycle.joining_all):
                self.found += waiting
            for service in self.kernel.services.values():
                self.found += service.tasks()
