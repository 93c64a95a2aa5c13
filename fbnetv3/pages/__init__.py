"""Pages and plots of one style: self-contained HTML that opens anywhere, and PNG files. Reports are made of them."""
