"""The main paths, one file per command; each reads top to bottom. They wire the capabilities of the layers below."""
