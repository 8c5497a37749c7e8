"""The compiled engine: on the CPU, at a cost that falls with density, by kernels of our own."""
