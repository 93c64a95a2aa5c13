"""How a network is trained: the recipe and its meaning, data, one seeded loop."""
