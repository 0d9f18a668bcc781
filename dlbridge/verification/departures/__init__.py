"""Where a form departs from the judge, and why."""
