"""Data for training: stores on the device, samples, batches; augmented and encoded there."""
