"""What tests share: fixtures, small data, small models."""
