"""A black-box suite that anyone can point at any NAS, to learn whether it keeps the contract."""
