"""What Onefold answers over HTTP (design, section 8)."""
