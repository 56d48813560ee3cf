"""Agents at work: from a request to a reply, through the cheapest tier that can. Knows no transport and no process."""
