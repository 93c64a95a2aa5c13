"""Tables of real trainings on images.

`design.py` chooses the pairs, `collection.py` trains them and makes the table, and `merge.py` makes one table of several.
"""
