"""Load on any coordinator: what `herocoordinator bench` puts on one, and the benchmarks in bench/ on several beside
another. It needs the extra `bench`.

A Plan says what is measured. Its contexts are a `stage`, its runners a `crew`; `processes` generate the load, each of
which runs `generator` or, where jobs run, `jobs`; `run` has them measure, and `report` says what was measured.
"""
