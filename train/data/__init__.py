"""Data for training: a store's samples on the device, augmented and encoded there, batch by batch."""

from train.data.batch import Batch, Batches

__all__ = ["Batch", "Batches"]
