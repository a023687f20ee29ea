"""petinfer beside what a user could pick instead. One script a question; each checks the answers that it times."""
