"""The operators' side of the command line: finds a gateway's listener, asks it, shows what it says."""
