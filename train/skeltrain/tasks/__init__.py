"""Tasks: what is learned. Each is an ``nn.Module`` whose ``forward(batch)`` returns a ``loss``."""
