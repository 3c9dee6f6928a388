"""What a run did, to look at: reconstructions, attention on the skeleton, a run's page. Files, no server."""
