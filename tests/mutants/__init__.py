"""Mutation testing: small faults are put into the code that keeps the promises, and the tests must
find each. Operators are those of cosmic-ray, and three of our own; the tests that reach what a
mutant changes run in a process that is forked for it."""
