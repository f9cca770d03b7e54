"""How fast the application is, told by ratios to programs that do less or do it naively; nothing here is asserted."""
