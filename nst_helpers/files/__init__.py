"""What picture files are: found, named, decoded to 8 bits of sRGB, written whole or not at all."""
