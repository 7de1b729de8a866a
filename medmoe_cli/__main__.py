"""`python -m medmoe_cli` is `medmoe`."""

from medmoe_cli.app import main

main()
