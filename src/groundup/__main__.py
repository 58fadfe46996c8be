"""`python -m groundup`: the command."""

from groundup.cli import main

main()
