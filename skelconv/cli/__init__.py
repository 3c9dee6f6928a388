"""The command line: parse, call, print. What a verb does stands in the module it calls."""
