"""The border to the Anthropic SDK: requests, replies, clients and what each model accepts."""
