"""Crops of the people in pictures, with their poses, in one store (docs/crops.md)."""

from skelconv.crops.frames import CropError, ImageFolder
from skelconv.crops.read import CropStore, open_crops
from skelconv.crops.video import VideoFolder, pictures_of
from skelconv.crops.write import CropSummary, write_crops

__all__ = [
    "CropError",
    "CropStore",
    "CropSummary",
    "ImageFolder",
    "VideoFolder",
    "open_crops",
    "pictures_of",
    "write_crops",
]
