"""The command `groundup`."""

from groundup.cli.app import app as app, main as main
