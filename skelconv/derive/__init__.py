"""A store from stores: cleaned, remapped, merged."""
