"""Compares the service with the limit of the hardware and with other servers."""
