"""Benchmarks: `make bench`, or `make bench ROWS=10000000`. Every figure is measured in the run that prints it."""
