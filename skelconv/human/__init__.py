"""The procedural human: a body, what it can do, and what a sensor sees of it."""
