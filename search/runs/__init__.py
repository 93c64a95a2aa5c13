"""A search in a folder: how it is started, continued, checked, and used again for other budgets.

`run` starts and resumes, `folder.load_search` reads what is there, `final` trains the answer, `verify.verify` recomputes it,
`budgets.answer_budgets` answers more budgets from the same trainings, `zoo.make_zoo` makes a zoo of networks from nothing.
"""
