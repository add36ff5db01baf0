"""How it is done; each can be replaced by a fake."""
