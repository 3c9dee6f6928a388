"""Data for training: a store's samples on the device, augmented and encoded there, batch by batch."""

from skeltrain.data.batch import Batch, Batches

__all__ = ["Batch", "Batches"]
