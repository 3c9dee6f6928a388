"""Pictures, animations and pages of recordings and of encoded images (docs/viewing.md)."""

from skelconv.view.render import ViewError, find_recording, view

__all__ = ["ViewError", "find_recording", "view"]
