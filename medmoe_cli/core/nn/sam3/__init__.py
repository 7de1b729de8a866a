"""SAM3: transformers' modules at any size, its tokenizer, and public weights read without running code."""
