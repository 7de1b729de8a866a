"""medmoe: SAM-based mixture-of-experts segmentation of medical images."""

__version__ = "0.1.0"
