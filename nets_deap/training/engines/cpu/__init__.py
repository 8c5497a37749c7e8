"""The compiled engine: fully connected networks on the CPU, by kernels of our own."""
