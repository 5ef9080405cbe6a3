"""What every layer uses and that knows nothing of networks: files, records, places, messages, this machine."""
