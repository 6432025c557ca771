"""Load on any coordinator: what `herocoordinator bench` puts on one, and the benchmarks in bench/ on several beside
another. It needs the extra `bench`."""
