"""SegMoTE."""
