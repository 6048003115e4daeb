"""How the benchmarks measure: turns in one process, the machine, result files, plots."""
