"""Once for all: train one elastic network, then take a specialised network for any device without training again.

Names are loaded when they are first used, so `import onceforall` takes milliseconds and torch is loaded only where needed.
"""
