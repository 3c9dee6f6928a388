"""What raw skeleton data looks like: joint layouts, readers of each dataset, official splits.

This package imports neither ``skelconv`` nor ``train``; it knows no zarr, no click and no torch.
"""
