"""Files of other machines: HTTP with limits, and on request from public addresses only."""
