"""Store to models: data on the device, tasks, models, metrics. The only package that imports torch."""
