"""What `compare` consists of: methods, cases, one search in its folder, what all say together, tables and figures."""
