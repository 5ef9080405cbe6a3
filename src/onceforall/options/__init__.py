"""Arguments of the commands, each declared once: for the command line, the functions of `onceforall.pipeline`, and run.json."""
