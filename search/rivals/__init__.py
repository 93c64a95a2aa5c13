"""What NARS is compared with: other methods of search, each by its own library where it has one.

`rival.Rival` is the interface: a rival is asked for candidates and told their results. `catalogue.RIVALS` has those that learn,
`search.random_search` is the one that does not, and `settings` has the settings of all.
"""
