"""Drawing: relevance over pictures, rows and columns of a figure, perturbation curves.

Everything here is for the eye; numbers come from the tables. matplotlib is imported where it is
used, and never through pyplot, so that nothing global changes.
"""
