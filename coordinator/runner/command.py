"""`herocoordinator runner`: command line → RunnerSettings → `Service` in trio.run."""
