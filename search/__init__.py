"""NARS, the paper's joint architecture-recipe search: space, sampling, labels, predictor, optimisation, evolution."""
