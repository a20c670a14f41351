"""The tests of other libraries, run on minisched: `python -m tests.peers [SUITE...]`.

An adapter (`for_curio`, `for_anyio`) offers the other library's names, on those of minisched. The tests come from the
library's source distribution, at the version in `suites.py`; none of its code is kept here. The package never imports
an adapter.

A list (`curio.txt`, `anyio.txt`) has each test of a suite: those that pass, those that differ by design, and those that
do not apply, with the reasons. The program compares a run with the list. A test that is on the list of passes and fails
is an error; so is a test that passes and is not on that list. `--update` adds the tests that pass now.
"""
