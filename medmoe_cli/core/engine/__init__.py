"""Training and inference over the Segmenter interface; knows no method by name."""
