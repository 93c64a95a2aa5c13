"""What a search found, for people and for other programs. Everything here is made from the files of a search.

`page.write_report` writes the page with its plots, `export.export_trials` writes the trials for other programs, and
`front.write_front` draws the answers for several budgets.
"""
