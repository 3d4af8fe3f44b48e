"""`fireants-engine`: the command line. The only part of the engine that prints."""
