"""Rules of when a job fires and what one fire means: pure, without I/O, clock or environment."""
