"""Tidy tables and labelled arrays in, matplotlib figures out: a file an idea, what they share in `style`."""
