"""The library. Never imports typer, rich or the commands."""
