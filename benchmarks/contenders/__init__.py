"""What is compared. Each function runs in a worker's process and imports only what its own contender needs."""
