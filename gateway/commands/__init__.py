"""The subcommands of ``marconi``, by modules; imported when they are chosen."""
