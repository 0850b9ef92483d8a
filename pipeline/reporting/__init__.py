"""What a run found, for people: tables, claims, charts and the page."""
