"""The paper's experiments as grids of cells: an experiment names them, a cell is one training or one look at samples.

``plan.py`` holds what is asked, in words that load no library; ``commands/experiment.py`` runs it.
"""
