"""What the tests of several rooms share: waiting, ports, servers, clients, processes, and data."""
