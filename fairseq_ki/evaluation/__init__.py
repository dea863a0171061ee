"""Reading what training left behind: logs, costs, savings, results.json and the report."""
