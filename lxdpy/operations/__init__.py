"""Background work: state machine, cancel, wait, progress, event stream."""
