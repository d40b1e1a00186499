"""How events come in. This room moves bytes and never looks into them."""
