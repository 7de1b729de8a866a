"""Building MedSeg-HQ: which members, which masks, what is written."""
