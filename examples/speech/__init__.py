"""A demonstration: phones of speech made on the spot, or words of a folder of recordings."""
