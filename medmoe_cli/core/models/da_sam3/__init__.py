"""DA-SAM3: SAM3 whose fusion encoder routes tokens over low-rank experts, by text and image."""
