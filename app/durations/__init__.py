"""How long tasks run: what like ones took, kept and turned into forecasts."""
