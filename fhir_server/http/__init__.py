"""HTTP: the route table, request and response as values, negotiation, errors, the layers around them."""
