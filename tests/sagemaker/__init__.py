"""A package, so that its account is closed before other tests open one: moto keeps one for each process."""
