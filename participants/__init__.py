"""Sample services that Escrow asks: real processes with their own tables, built on `participants.kit`."""
