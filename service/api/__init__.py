"""The HTTP calls: what each reads from a request and writes into its response."""
