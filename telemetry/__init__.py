"""What a machine is doing: samples, statistics over them, and the probes that take them."""
