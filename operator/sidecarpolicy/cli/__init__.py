"""The command line: click commands over the core, and `run`, which starts the operator."""
