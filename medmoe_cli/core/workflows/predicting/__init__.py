"""From a scan and what is asked of it to masks."""
