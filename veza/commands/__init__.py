"""What each `veza` command does, one module a command, imported when the command is called and not before."""
