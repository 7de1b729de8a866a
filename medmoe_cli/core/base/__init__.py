"""Errors, atomic files, hashing, strict JSON, seeds, workspace. Imports no other room, and no torch."""
