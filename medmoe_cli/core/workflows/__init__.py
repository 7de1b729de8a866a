"""What a verb does; joins data, models, engine and reporting."""
