"""Parts of `report`."""
