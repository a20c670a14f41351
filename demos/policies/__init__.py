"""Scheduling policies: who is next is decided by the queue of ready tasks, which `run(ready=...)` takes.

Shows: FIFO (round robin), priorities with aging, lottery, stride, multi-level feedback and earliest deadline first, as
queues for minisched's kernel; and what each is good at, on one and the same workload.

Run it:    python -m demos.policies [--workload NAME] [--policy NAME] [--plot FILE] [--quiz]
"""
