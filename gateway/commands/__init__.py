"""The subcommands of ``marconi``, a module each; imported when they are chosen."""
