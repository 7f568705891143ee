"""From data frames and files to arrays: tables, formulas and their encoding."""
