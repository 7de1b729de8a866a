"""The architectures; registry.py lists them."""
