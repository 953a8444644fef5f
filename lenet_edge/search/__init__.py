"""Search for small networks: the candidates, their costs, and the choice of the best."""
