"""Parts of `merge-experts`."""
