"""What a store and its runs are, told: `info` as text, the report as a page."""
