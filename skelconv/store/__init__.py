"""The sequence store: schema, writing, reading, publishing (docs/store.md)."""
