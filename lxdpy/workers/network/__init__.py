"""What costs too much memory for the daemon: changes of bridges, firewall rules and containers' interfaces."""
