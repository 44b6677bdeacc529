"""What happened when the original plan was run as written: each row of that table is a test here, by its subject."""
