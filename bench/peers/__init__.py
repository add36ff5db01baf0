"""The daemons under comparison, each behind the same few methods (base.py)."""
