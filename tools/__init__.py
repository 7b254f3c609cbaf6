"""What builds or checks the product and is no part of it."""
