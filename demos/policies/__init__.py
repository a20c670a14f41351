"""Scheduling policies: the ready queue, `run(ready=...)`, decides which task is next.

Shows: FIFO (round robin), priorities with aging, lottery, stride, multi-level feedback and earliest deadline first, as
queues for minisched's kernel, compared on the same workload.

Run it:    python -m demos.policies [--workload NAME] [--policy NAME] [--plot FILE] [--quiz]
"""
