"""Raw sources to a published store: plan, parse in parallel, journal, publish."""
