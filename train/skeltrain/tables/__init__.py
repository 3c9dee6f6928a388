"""Finished runs in the tables of the S2I paper: `read_results`, `place`, `gather`, `render`."""
