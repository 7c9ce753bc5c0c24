"""The agent's side of hop 1: arming, cancelling and listing at NAS, and the token that lets it."""
