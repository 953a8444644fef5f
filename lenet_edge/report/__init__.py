"""Reports on results: rankings, one recommendation, terminal tables, a page, plots and CSV."""
