"""What the pages of the gallery are made of; ``../make.py`` puts them together."""
