"""Scores of predictions, of prompts simulated on references, and of validation cases."""
