"""Attacks on what is written and read, repeatable by anyone: ``make attack``.

Each attack is a function that is registered with `registry.attack` in a module of this package; it works in a
folder of its own, takes minutes at most, and returns what it found as one row of a table.
"""
