"""Mutation testing: put small faults into the code that keeps the promises; the tests must find
each. The operators are cosmic-ray's and three of ours. A process is forked for each mutant and runs
the tests that reach its statement."""
