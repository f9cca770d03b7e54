"""The names of a rehearsal: hosted zones, the DNS server that answers for them, and programs that ask it."""
