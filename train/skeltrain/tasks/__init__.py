"""What can be learned: one file a task, with its recipe and what puts its job together."""
