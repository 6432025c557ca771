"""What the methods do: store commands and what makes an answer of their replies. No I/O."""
