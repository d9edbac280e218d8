"""What puts events in: the collector, the simulator, replay and the importers of real histories."""
