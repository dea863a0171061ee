"""The one driver behind every example: a recipe in YAML becomes trained runs and a report."""
