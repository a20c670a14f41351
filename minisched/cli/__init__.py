"""The command line: `minisched`, or `python -m minisched`.

`commands` has the parser and the commands `run`, `trace`, `new-syscall` and `echo`. `new_syscall` writes the file of
a new syscall and its test, from the two files in `templates/`.
"""
