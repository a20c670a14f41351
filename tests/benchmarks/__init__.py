"""Benchmarks of minisched and of other schedulers; README.md explains them and has the figures."""
