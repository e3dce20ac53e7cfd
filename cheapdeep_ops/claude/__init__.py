"""The adapter to the Anthropic SDK: requests, replies, clients, and which parameters each model accepts."""
