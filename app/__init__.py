"""The service: keeps the cluster's state in SQL, asks the solver for plans, tells agents what to
run."""
