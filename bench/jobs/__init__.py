"""The simple job of bench.engines, once per Python engine; each is a process, `python -m bench.jobs.<engine>_job`."""
