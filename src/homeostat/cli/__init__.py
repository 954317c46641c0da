"""The command line: `main` maps errors to exit codes, `render` writes what people read."""
