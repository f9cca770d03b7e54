"""The speed of the application, as ratios to programs that do less or do it naively; nothing here is asserted."""
