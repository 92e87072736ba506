"""Onefold turns the tables of a data warehouse into customer profiles."""
