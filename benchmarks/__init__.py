"""What the service costs beside what the hardware could do, and beside other servers."""
