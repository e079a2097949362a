"""How experiments run and what they leave behind; knows nothing of the thesis."""
