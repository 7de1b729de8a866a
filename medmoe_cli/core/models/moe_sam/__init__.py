"""MoE-SAM."""
