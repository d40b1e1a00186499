"""Receive events over HTTP and gRPC. This package moves bytes, and never parses them."""
